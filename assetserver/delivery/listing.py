"""Folder listings, as a page or as JSON. Off by default."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from assetserver.semantics.dates import format_date
from assetserver.semantics.mediatypes import media_type_of
from assetserver.semantics.targets import AssetPath, RefusedTarget, format_target, parse_target

from .probe import Kind, Roots

LIMIT_ENTRIES = 10_000
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class ListedName:
    """One line of a listing; ``size`` in bytes, ``modified`` in seconds since 1970."""

    name: str
    is_folder: bool
    size: int
    modified: int


def list_folder(roots: Roots, path: AssetPath) -> list[ListedName]:
    """Return what can be requested in the folder at ``path`` (ends in "/" or is empty), folders first. Blocks.

    Shows nothing that a request for it would not find; names that are not UTF-8 have no URL. At most 10,000 entries.
    """
    names = {name for folder in roots.folders for name in _names_in(os.path.join(folder, path))}
    found = []
    for name in sorted(names)[:LIMIT_ENTRIES]:
        if isinstance(parse_target(format_target(path + name)), RefusedTarget):
            continue
        probe = roots.probe(AssetPath(path + name))
        if probe.kind is Kind.MISSING or probe.signature is None:
            continue
        modified = probe.signature.mtime_ns // 1_000_000_000
        found.append(ListedName(name, probe.kind is Kind.FOLDER, probe.signature.size, modified))
    return sorted(found, key=lambda one: (not one.is_folder, one.name))


def format_json(names: list[ListedName]) -> bytes:
    """Return the listing for programs: an array of objects."""
    rows = [
        {"name": one.name, "type": "folder"}
        if one.is_folder
        else {
            "name": one.name,
            "type": "file",
            "size": one.size,
            "media_type": media_type_of(one.name),
            "modified": _format_time(one.modified),
        }
        for one in names
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1).encode() + b"\n"


def format_page(path: AssetPath, names: list[ListedName]) -> bytes:
    """Return the listing for people."""
    title = "/" + escape(path)
    rows = ['<tr><td><a href="../">../</a><td><td>'] if path else []
    rows += [_row(one) for one in names]
    return _PAGE.format(title=title, rows="\n".join(rows)).encode()


def _row(one: ListedName) -> str:
    slash = "/" if one.is_folder else ""
    size = "" if one.is_folder else f"{one.size:,}"
    link = f'<a href="./{quote(one.name)}{slash}">{escape(one.name)}{slash}</a>'
    return f"<tr><td>{link}<td>{size}<td>{_format_time(one.modified)}"


def _format_time(seconds: int) -> str:
    """Return a date for any file time: file systems count further than years have four digits."""
    return format_date(min(max(seconds, 0), _LAST_SECOND))


def _names_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _is_listable(entry)]
    except OSError:
        return []


def _is_listable(entry: os.DirEntry[str]) -> bool:
    try:
        entry.name.encode()
        return stat.S_IFMT(entry.stat().st_mode) in (stat.S_IFREG, stat.S_IFDIR)
    except (OSError, UnicodeError):
        return False


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.25rem }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid #8884 }}
td:nth-child(2), th:nth-child(2) {{ text-align: right; font-variant-numeric: tabular-nums }}
</style>
<h1>{title}</h1>
<table>
<tr><th>Name<th>Bytes<th>Modified
{rows}
</table>
"""
