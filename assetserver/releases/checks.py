"""Checks at publish: what in a release is likely a mistake, and what must not go out. Pure.

Errors stop, warnings are listed; of each kind the first few, then how many more. What stops says how to go on.

- **Secrets** stop by default, also those that the scan leaves out anyway: ``.env`` or ``.git`` in the folder means that it is
  not the one that the build wrote.
- **Source maps** are a warning by default: many publish them on purpose, and others show their sources without knowing.
- **Missing references** are a warning by default: a page may name what another application of the host answers.
- **Size** never stops: a file of 5 GiB can be what a site is for.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from assetserver.semantics.fingerprints import PROVED, split_name
from assetserver.semantics.mediatypes import has_known_extension

from .facts import Facts
from .manifest import FileRecord
from .nearnames import NearNames
from .references import find_file, resolve
from .secretfiles import holds_secret, secret_by_name, stray_by_name

__all__ = ["CheckPolicy", "CheckedRelease", "Finding", "check_release", "holds_secret", "is_left_out", "is_source_map"]

Level = Literal["error", "warning"]

SHOWN = 5
"""Findings of one kind that are listed before the rest is only counted."""

LISTED = 3
"""Files that a finding about many of them names."""

_MIB = 1 << 20
_NOWHERE = "a-page-that/is-not/there"
_WORDS_OR_NUMBER = re.compile(r"[a-z_-]+|[0-9_-]+")


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """The table ``[publish]``: what stops, what is left out of the release, what is only said."""

    secrets: Literal["stop", "leave-out", "publish"] = "stop"
    source_maps: Literal["publish", "warn", "stop", "leave-out"] = "warn"
    missing_references: Literal["warn", "stop", "off"] = "warn"
    not_found_page: Literal["warn", "off"] = "warn"
    huge_file_bytes: int = 100 * _MIB


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that stops or deserves a look. ``line`` counts from 1, 0 is the whole file; ``count``: of how many."""

    level: Level
    code: str
    path: str
    line: int
    message: str
    count: int = 1


def _never(_path: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class CheckedRelease:
    """What is known of a release when it is checked.

    ``files``: what will be in it. ``facts``: of those that were examined. ``left_out``: paths that the scan or the policy left
    out. ``secrets``: what ``holds_secret`` found, by path. ``immutable_by_rule``: whether a rule of the operator makes a
    path immutable. ``answered``: whether something other than a file answers a path (redirects, rewrites, other mounts).
    ``fallback``: whether a page answers what is not there. ``mount``: the URL path of the release, ending in "/".
    ``catch_all``: the target of a rule that answers whatever is not there with 200, "" for none.
    """

    files: Mapping[str, FileRecord]
    facts: Mapping[str, Facts] = field(default_factory=dict)
    left_out: Collection[str] = ()
    secrets: Mapping[str, str] = field(default_factory=dict)
    immutable_by_rule: Callable[[str], bool] = _never
    answered: Callable[[str], bool] = _never
    fallback: bool = False
    mount: str = "/"
    catch_all: str = ""


def is_left_out(path: str, policy: CheckPolicy, secret: str | None = None) -> bool:
    """Tell whether ``policy`` leaves the file out of the release; ``secret`` is what ``holds_secret`` said of its bytes."""
    if policy.secrets == "leave-out" and (secret or secret_by_name(path)):
        return True
    return policy.source_maps == "leave-out" and is_source_map(path)


def is_source_map(path: str) -> bool:
    """Tell whether the file is a source map of a script or style sheet, by its name."""
    return path.lower().endswith((".js.map", ".mjs.map", ".cjs.map", ".css.map"))


def check_release(release: CheckedRelease, policy: CheckPolicy) -> list[Finding]:
    """Return what was found: errors first, then by kind, path and line. The same release gives the same list.

    Of each kind the first five are listed, and one more says how many there are beside them.
    """
    found = [
        *_check_secrets(release, policy),
        *_check_strays(release),
        *_check_source_maps(release, policy),
        *_check_references(release, policy),
        *_check_rules(release),
        *_check_sizes(release, policy),
        *_check_not_found_page(release, policy),
        *_check_spellings(release),
    ]
    return list(_summarize(sorted(found, key=lambda one: (one.level, one.code, one.path, one.line, one.message))))


def _summarize(found: list[Finding]) -> Iterator[Finding]:
    kinds: dict[tuple[Level, str], list[Finding]] = defaultdict(list)
    for one in found:
        kinds[one.level, one.code].append(one)
    for (level, code), findings in kinds.items():
        yield from findings[:SHOWN]
        if len(rest := findings[SHOWN:]) == 1:
            yield rest[0]
        elif rest:
            yield Finding(level, code, "", 0, f"and {len(rest):,} more of this kind ({code})", len(rest))


def _check_secrets(release: CheckedRelease, policy: CheckPolicy) -> Iterator[Finding]:
    if policy.secrets == "publish":
        return
    for path in sorted({*release.files, *release.left_out}):
        what = release.secrets.get(path) or secret_by_name(path)
        if what is None:
            continue
        if policy.secrets == "leave-out":
            if path not in release.files:
                yield Finding("warning", "secret", path, 0, f"{_shown(path)} is left out: it looks like {what}")
            continue
        remedy = 'remove it, publish the folder that the build wrote, or set publish.secrets = "leave-out"'
        yield Finding("error", "secret", path, 0, f"{_shown(path)} looks like {what}; {remedy}")


def _check_strays(release: CheckedRelease) -> Iterator[Finding]:
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(release.files):
        if stray := stray_by_name(path):
            kinds[stray].append(path)
    for (code, what), paths in kinds.items():
        yield Finding("warning", code, paths[0], 0, f"{_listed(paths)}: {what}", len(paths))


def _check_source_maps(release: CheckedRelease, policy: CheckPolicy) -> Iterator[Finding]:
    paths = sorted(filter(is_source_map, release.files))
    if not paths or policy.source_maps in ("publish", "leave-out"):
        return
    message = f"{_listed(paths)} {'shows' if len(paths) == 1 else 'show'} your sources to everyone"
    if policy.source_maps == "stop":
        message += f'; remove {"it" if len(paths) == 1 else "them"}, or set publish.source_maps = "leave-out"'
        yield Finding("error", "source-map", paths[0], 0, message, len(paths))
    else:
        message += '; publish.source_maps = "publish" or "leave-out" decides'
        yield Finding("warning", "source-map", paths[0], 0, message, len(paths))


def _check_references(release: CheckedRelease, policy: CheckPolicy) -> Iterator[Finding]:
    """Find references to files that are not there; one that many pages share is told once, with the first of its places."""
    if policy.missing_references == "off":
        return
    level: Level = "error" if policy.missing_references == "stop" else "warning"
    remedy = '; correct it, or set publish.missing_references = "warn"' if level == "error" else ""
    near = NearNames(release.files)
    missing = sorted(_missing(release).items(), key=lambda item: item[1][0])
    for target, places in missing[: SHOWN + 1]:
        page, line = places[0]
        more = f" (and from {len(places) - 1:,} more places)" if len(places) > 1 else ""
        hint = near.find(target)
        guess = f"; did you mean {release.mount}{_shown(hint)}?" if hint else ""
        message = f"{_shown(page)}:{line}: {release.mount}{_shown(target)} is not in the release{more}{guess}{remedy}"
        yield Finding(level, "missing-reference", page, line, message, len(places))
    for _, places in missing[SHOWN + 1 :]:  # only counted
        yield Finding(level, "missing-reference", *places[0], "", len(places))


def _missing(release: CheckedRelease) -> dict[str, list[tuple[str, int]]]:
    """Return the targets that nothing answers, with the places (page, line) that name them, in order."""
    missing: dict[str, list[tuple[str, int]]] = defaultdict(list)
    known: dict[tuple[str, str, str], str | None] = {}
    for page in sorted(release.facts):
        facts = release.facts[page]
        folder = page.rpartition("/")[0]
        for url, line in ((one.url, one.line) for one in facts.references):
            # Pages share most of their URLs: resolving each once makes 5 million references 100,000.
            key = ("" if url.startswith("/") else folder, facts.base, url)
            if key not in known:
                known[key] = _missing_target(url, page, facts.base, release)
            if (target := known[key]) is not None:
                missing[target].append((page, line))
    return missing


def _missing_target(url: str, page: str, base: str, release: CheckedRelease) -> str | None:
    """Return the path that ``url`` means if nothing answers it, else None."""
    path = resolve(url, page, base, mount=release.mount)
    if path is None or find_file(path, release.files) or release.answered(path):
        return None
    return None if release.fallback and not has_known_extension(path) else path


def _check_rules(release: CheckedRelease) -> Iterator[Finding]:
    for path, record in release.files.items():
        if record.fingerprint != PROVED and not _may_be_hashed(path) and release.immutable_by_rule(path):
            message = f"{_shown(path)} is immutable by a rule, but its name holds no hash: a change stays unseen for a year"
            yield Finding(
                "warning", "unhashed-immutable", path, 0, f"{message}; narrow the rule, or have the build hash the name"
            )


def _may_be_hashed(path: str) -> bool:
    """Tell whether the name may hold a hash. Generous, unlike ``holds_hash``: a warning that is wrong is not read again."""
    parts = split_name(path)
    return parts is not None and _WORDS_OR_NUMBER.fullmatch(parts.hash) is None


def _check_sizes(release: CheckedRelease, policy: CheckPolicy) -> Iterator[Finding]:
    for path, record in release.files.items():
        if record.size > policy.huge_file_bytes:
            message = f"{_shown(path)} has {_in_units(record.size)}, more than {_in_units(policy.huge_file_bytes)}"
            yield Finding("warning", "huge-file", path, 0, f"{message}; raise publish.huge_file_bytes if it is meant")


def _check_not_found_page(release: CheckedRelease, policy: CheckPolicy) -> Iterator[Finding]:
    has_pages = any(path.endswith((".html", ".htm")) for path in release.files)
    if policy.not_found_page == "off" or not has_pages:
        return
    if release.catch_all:
        remedy = (
            "remove that rule: the fallback of the site"
            if release.fallback
            else f'use fallback = "{_shown(release.catch_all.lstrip("/"))}" in [[sites]] instead, which'
        )
        message = f"missing scripts and images get {_shown(release.catch_all)} with 200, by /* in _redirects; {remedy}"
        yield Finding("warning", "catch-all", "_redirects", 0, f"{message} answers 404 for those")
    elif not release.fallback and "404.html" not in release.files and not release.answered(_NOWHERE):
        message = "404.html is missing: visitors who follow an old link see a bare page; add one, or set a fallback"
        yield Finding("warning", "not-found-page", "404.html", 0, message)


def _check_spellings(release: CheckedRelease) -> Iterator[Finding]:
    """Find paths that differ only in case, or look the same in two Unicode normal forms."""
    for code, same, paths in _groups(release.files):
        first, *others = sorted(paths)
        show = _escaped if code == "unicode-clash" else _shown
        for path in others:
            message = f"{show(path)} and {show(first)} differ only in {same}"
            yield Finding("warning", code, path, 0, f"{message}: one of them gets lost on some machines; rename it")


def _shown(path: str) -> str:
    """Return a path for people; what a terminal would obey, or cannot print, is escaped."""
    return path if path.isprintable() else _escaped(path)


def _listed(paths: list[str]) -> str:
    """Return the first three of ``paths``, and how many more there are."""
    names = [_shown(path) for path in paths[:LISTED]]
    if rest := len(paths) - len(names):
        return f"{', '.join(names)} and {rest:,} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _in_units(size: int) -> str:
    """Return a size in the decimal units of the summary: ``125.8 MB``."""
    scale, unit = (1_000_000_000, "GB") if size >= 1_000_000_000 else (1_000_000, "MB")  # noqa: PLR2004 - decimal units
    return f"{size / scale:,.1f} {unit}" if size >= 1_000_000 else f"{size:,} bytes"  # noqa: PLR2004


def _escaped(path: str) -> str:
    return ascii(path)[1:-1]


def _groups(files: Collection[str]) -> Iterator[tuple[str, str, list[str]]]:
    by_form: dict[str, list[str]] = defaultdict(list)
    by_case: dict[str, list[str]] = defaultdict(list)
    for path in files:
        form = path if path.isascii() else unicodedata.normalize("NFC", path)
        by_form[form].append(path)
    for form, paths in by_form.items():
        by_case[form.lower()].append(min(paths))
        if len(paths) > 1:
            yield "unicode-clash", "Unicode normal form", paths
    for paths in by_case.values():
        if len(paths) > 1:
            yield "case-clash", "upper and lower case", paths
