"""Which names of kept releases carry the hash of their content: declared, proved, or shown by what changed since.

A release alone says of a name that it is *proved* (the content begins to hash to it), *declared* (by a bundler's manifest or a
glob), or only *referenced*: it holds what may be a hash, and a page, script or style sheet of the release names it.
Kept releases together show more, which is in no manifest, for a release's id must depend on nothing but its files:

- **changed**: from one release to the next, names of its family (``app-*.js``) went and others came, with other content.
- **beside**: no such evidence, but its folder holds names of the same shape that have it. Such a name stays reachable, since
  chunks that have no successor are what old tabs miss; it is not immutable.

Against it speaks a name with two contents, or a content that moved to another name of its family: then it is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from assetserver.semantics.fingerprints import BESIDE, CHANGED, REFERENCED, NameParts, split_name

from .catalog import CatalogEntry

_Family = tuple[str, str, str]
_Members = Mapping[_Family, Mapping[str, bytes]]


def judge_names(releases: Sequence[Iterable[CatalogEntry]]) -> dict[str, CatalogEntry]:
    """Return what stays reachable of ``releases`` (the oldest first), by path; each entry's ``reason`` says why.

    Of two releases that have the same name, the newer one's file. A name with two contents stays only if it is declared.
    """
    named = [[entry for entry in release if entry.reason] for release in releases]
    contents: dict[str, set[bytes]] = {}
    for entry in (entry for release in named for entry in release):
        contents.setdefault(entry.path, set()).add(entry.digest)
    candidates = [_by_family(entry for entry in release if len(contents[entry.path]) == 1) for release in named]
    changed = _changed_families(candidates)
    shapes = {parts.shape for family in candidates for path in _members_of(family, changed) if (parts := split_name(path))}
    kept: dict[str, CatalogEntry] = {}
    for entry in (entry for release in named for entry in release):
        if reason := _judge(entry, len(contents[entry.path]) == 1, changed, shapes):
            kept[entry.path] = entry.because(reason)
    return kept


def _judge(entry: CatalogEntry, is_constant: bool, changed: set[_Family], shapes: set[tuple[str, int]]) -> str:
    if entry.reason != REFERENCED:
        return entry.reason
    parts = split_name(entry.path)
    if parts is None or not is_constant:
        return ""
    if parts.family in changed:
        return CHANGED
    return BESIDE if parts.shape in shapes else ""


def _by_family(entries: Iterable[CatalogEntry]) -> dict[_Family, dict[str, bytes]]:
    families: dict[_Family, dict[str, bytes]] = {}
    for entry in entries:
        if parts := split_name(entry.path):
            families.setdefault(parts.family, {})[entry.path] = entry.digest
    return families


def _members_of(families: _Members, wanted: set[_Family]) -> Iterable[str]:
    return (path for family in wanted & families.keys() for path in families[family])


def _changed_families(releases: Sequence[_Members]) -> set[_Family]:
    """Return the families that changed as hashed names do, from any release to the next.

    A family of which no name looks random may follow, where names of its shape have shown it: bundlers also draw words.
    """
    changed, moved = set[_Family](), set[_Family]()
    for before, after in pairwise(releases):
        for family in before.keys() & after.keys():
            gone = {path: digest for path, digest in before[family].items() if path not in after[family]}
            come = {path: digest for path, digest in after[family].items() if path not in before[family]}
            if gone and come:
                (moved if set(gone.values()) & set(come.values()) else changed).add(family)
    changed -= moved
    random = {family for family in changed if any(_parts(path).is_random for path in _paths(releases, family))}
    shapes = {_parts(path).shape for family in random for path in _paths(releases, family)}
    return {
        family for family in changed if family in random or any(_parts(p).shape in shapes for p in _paths(releases, family))
    }


def _paths(releases: Sequence[_Members], family: _Family) -> Iterable[str]:
    return (path for release in releases for path in release.get(family, ()))


def _parts(path: str) -> NameParts:
    parts = split_name(path)
    assert parts is not None  # noqa: S101 - only such paths are in a family
    return parts
