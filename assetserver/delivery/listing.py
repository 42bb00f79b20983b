"""Folder listings, as a page or as JSON. Off by default."""

from __future__ import annotations

import json
import os
import re
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from html import escape
from typing import Protocol

from assetserver.semantics.dates import format_date
from assetserver.semantics.mediatypes import media_type_of
from assetserver.semantics.representation import SUFFIXES
from assetserver.semantics.targets import AssetPath, RefusedTarget, format_target, parse_target
from assetserver.storage.pools import FilePool, wait_future
from assetserver.storage.signatures import Signature, sign

from .files import OPEN_FLAGS, raise_if_overloaded
from .livefolder import FRESH_S
from .probe import Kind, Probe, Roots

LIMIT_ENTRIES = 10_000
LIMIT_LISTINGS = 16
_SUFFIXES = tuple(SUFFIXES.values())
_PLAIN = re.compile(r"[\w~-][\w.~/-]{0,2000}", re.ASCII)
"""Paths that every setting shows and a URL spells as they are, unless a segment begins with a dot."""

_Key = tuple[AssetPath, bool]
_LAST_SECOND = 253_402_300_799


@dataclass(frozen=True, slots=True)
class ListedName:
    """One line of a listing; ``size`` in bytes, ``modified`` in seconds since 1970."""

    name: str
    is_folder: bool
    size: int
    modified: int


class Known(Protocol):
    """A folder and its clock, monotonic seconds."""

    @property
    def roots(self) -> Roots:
        """The folders that can be listed."""
        ...

    @property
    def clock_s(self) -> Callable[[], float]:
        """Monotonic seconds."""
        ...


class Listings:
    """The finished listings of one ``AssetFiles``, made on ``pool``, whose one thread lookups need not wait for.

    Who asks for the same listing at once shares one look at the disk; what it showed is repeated for ``FRESH_S``.
    """

    def __init__(self, folder: Known, pool: FilePool) -> None:
        self._folder = folder
        self._pool = pool
        self._kept: dict[_Key, tuple[float, Future[bytes]]] = {}
        self._lock = threading.Lock()

    async def render(self, path: AssetPath, *, as_json: bool) -> bytes:
        """Return the folder at ``path`` as ``format_json`` or ``format_page`` has it; raises as ``list_folder`` does."""
        return await wait_future(self._render_soon((path, as_json)))

    def _render_soon(self, key: _Key) -> Future[bytes]:
        with self._lock:
            now_s = self._folder.clock_s()
            asked_s, future = self._kept.pop(key, (now_s, None))
            if future is None or (future.done() and now_s - asked_s >= FRESH_S) or _failed(future):
                asked_s, future = now_s, self._pool.submit(_render, self._folder.roots, *key)
            self._kept[key] = asked_s, future
            while len(self._kept) > LIMIT_LISTINGS:
                self._kept.pop(next(iter(self._kept)))
            return future


def _render(roots: Roots, path: AssetPath, as_json: bool) -> bytes:
    names = list_folder(roots, path)
    return format_json(names) if as_json else format_page(path, names)


def _failed(future: Future[bytes]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


def list_folder(roots: Roots, path: AssetPath) -> list[ListedName]:
    """Return what can be requested in the folder at ``path`` (ends in "/" or is empty), folders first. Blocks.

    Shows nothing that a request for it would not find; names that are not UTF-8 have no URL. At most 10,000 entries. Raises
    ``OverloadedError`` when the process is out of descriptors or memory.
    """
    found: dict[str, ListedName] = {}
    for folder in roots.find_folders(path):
        for one in _list_one(roots, folder, path):
            found.setdefault(one.name, one)
    first = [found[name] for name in sorted(found)[:LIMIT_ENTRIES]]
    return sorted(first, key=lambda one: not one.is_folder)


def _list_one(roots: Roots, folder: Probe, path: AssetPath) -> list[ListedName]:
    """List a folder through one descriptor: what is put in its place meanwhile is not looked into."""
    try:
        descriptor = os.open(folder.full, OPEN_FLAGS | os.O_DIRECTORY)
        try:
            if not _is_same(sign(os.fstat(descriptor)), folder.signature):
                return []
            with os.scandir(descriptor) as scanned:
                entries = list(scanned)
            files = {entry.name for entry in entries if _is_file(entry)}
            shown = [entry for entry in entries if _is_shown(roots, path, entry.name) and not _is_sidecar(entry, files)]
            shown = sorted(shown, key=lambda entry: entry.name)[:LIMIT_ENTRIES]
            listed = (_list_entry(roots, path, entry, descriptor) for entry in shown)
            return [one for one in listed if one is not None]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise_if_overloaded(error, "list a folder")
        return []


def _is_same(one: Signature, other: Signature | None) -> bool:
    return other is not None and (one.device, one.inode) == (other.device, other.inode)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False


def _is_shown(roots: Roots, path: AssetPath, name: str) -> bool:
    whole = path + name
    if _PLAIN.fullmatch(whole) and "/." not in whole:
        return True
    try:
        name.encode()
    except UnicodeError:
        return False
    return roots.shows(whole) and not isinstance(parse_target(format_target(whole)), RefusedTarget)


def _is_sidecar(entry: os.DirEntry[str], files: set[str]) -> bool:
    name = entry.name
    return name.endswith(_SUFFIXES) and os.path.splitext(name)[0] in files and not entry.is_symlink()


def _list_entry(roots: Roots, path: AssetPath, entry: os.DirEntry[str], descriptor: int) -> ListedName | None:
    """Return the line of an entry, or None for what a request would not find; only links need to be resolved for that."""
    if entry.is_symlink():
        probe = roots.probe(AssetPath(path + entry.name))
        if probe.kind is Kind.MISSING or probe.signature is None:
            return None
        is_folder, signature = probe.kind is Kind.FOLDER, probe.signature
    else:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return None
        is_folder, signature = stat.S_ISDIR(status.st_mode), sign(status)
        mode = os.X_OK if is_folder else os.R_OK
        if not (is_folder or stat.S_ISREG(status.st_mode)) or not os.access(entry.name, mode, dir_fd=descriptor):
            return None
    return ListedName(entry.name, is_folder, signature.size, signature.mtime_ns // 1_000_000_000)


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
    # As a request spells it, so that a click is not redirected; after "./", so that no name is taken for a scheme.
    link = f'<a href="{escape("." + format_target(one.name))}{slash}">{escape(one.name)}{slash}</a>'
    return f"<tr><td>{link}<td>{size}<td>{_format_time(one.modified)}"


def _format_time(seconds: int) -> str:
    """Return a date for any file time: file systems count further than years have four digits."""
    return format_date(min(max(seconds, 0), _LAST_SECOND))


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
