"""Which names of kept releases carry the hash of their content: declared, proved, or shown by what changed since.

A release alone says of a name that it is *proved* (the content begins to hash to it), *declared* (by a bundler's manifest or a
glob), or only *referenced*: it holds what may be a hash, and a page, script or style sheet of the release names it.
Kept releases together show more, which is in no manifest, for a release's id must depend on nothing but its files:

- **changed**: code (scripts, style sheets, WebAssembly, source maps) of which, from one release to the next, names of its
  family (``app-*.js``) went and others came, with other content. Never anything else: photos, invoices and downloads come
  and go under random names, too, and are edited in place.
- **beside**: a random name in the same folder, with a hash of the same length and signs, as code that changed. It stays
  reachable, since chunks and images that have no successor are what old tabs miss; it is not immutable.

Against it speaks a name with two contents, or a content that moved to another name of its family: then it is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from assetserver.semantics.fingerprints import BESIDE, CHANGED, REFERENCED, NameParts, split_name

from .catalog import CatalogEntry

_CODE = (".js", ".mjs", ".cjs", ".css", ".wasm")

_Family = tuple[str, str, str]
_Shape = tuple[str, int, str]
_Members = Mapping[_Family, Mapping[str, bytes]]


def judge_names(releases: Sequence[Iterable[CatalogEntry]]) -> dict[str, CatalogEntry]:
    """Return what stays reachable of ``releases`` (the oldest first), by path; each entry's ``reason`` says why.

    Of two releases that have the same name, the newer one's file. A name with two contents stays only if it is declared.
    """
    named = [[entry for entry in release if entry.reason] for release in releases]
    contents: dict[str, set[bytes]] = {}
    for entry in (entry for release in named for entry in release):
        contents.setdefault(entry.path, set()).add(entry.digest)
    changed, shapes = _find_evidence([_by_family(one for one in release if len(contents[one.path]) == 1) for release in named])
    kept: dict[str, CatalogEntry] = {}
    for entry in (entry for release in named for entry in release):
        reason = entry.reason
        if reason == REFERENCED:
            reason = _judge(entry.path, changed, shapes) if len(contents[entry.path]) == 1 else ""
        if reason:
            kept[entry.path] = entry.because(reason)
    return kept


def _judge(path: str, changed: set[_Family], shapes: set[_Shape]) -> str:
    parts = split_name(path)
    if parts is None:
        return ""
    if parts.family in changed and _is_like(parts, shapes):
        return CHANGED
    return BESIDE if _is_like(parts, shapes) else ""


def _is_like(parts: NameParts, shapes: set[_Shape]) -> bool:
    """Tell whether a hash is of a shape that code has shown; letters alone count in esbuild's signs, A-Z and 2-7."""
    return _shape(parts) in shapes and (parts.is_random or parts.alphabet == "base32")


def _shape(parts: NameParts) -> _Shape:
    """Return where such names lie, how long their hashes are, and in which signs: one build writes them alike."""
    signs = parts.alphabet if parts.alphabet in ("hex", "base32") else "base64"
    return parts.folder, len(parts.hash), signs


def _by_family(entries: Iterable[CatalogEntry]) -> dict[_Family, dict[str, bytes]]:
    """Return what of ``entries`` is code, with hashes in its names, by family: digests by path."""
    families: dict[_Family, dict[str, bytes]] = {}
    for entry in entries:
        parts = split_name(entry.path)
        if parts is not None and parts.extension.removesuffix(".map").endswith(_CODE):
            families.setdefault(parts.family, {})[entry.path] = entry.digest
    return families


def _find_evidence(releases: Sequence[_Members]) -> tuple[set[_Family], set[_Shape]]:
    """Return the families that changed from any release to the next, and the shapes of their random names."""
    changed, moved = set[_Family](), set[_Family]()
    for before, after in pairwise(releases):
        for family in before.keys() & after.keys():
            gone = {path: digest for path, digest in before[family].items() if path not in after[family]}
            come = {path: digest for path, digest in after[family].items() if path not in before[family]}
            if gone and come:
                (moved if set(gone.values()) & set(come.values()) else changed).add(family)
    changed -= moved
    names = (split_name(path) for release in releases for family in changed & release.keys() for path in release[family])
    return changed, {_shape(parts) for parts in names if parts is not None and parts.is_random}
