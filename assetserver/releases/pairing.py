"""Which file of a release was which before: by path, by name without its hash, by the bundler's source, by content. Pure.

A client has old files by the names that they had then, so the surest sign is tried first. Only files of which deltas are made
take part, and none whose very bytes were there before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from assetserver.semantics.fingerprints import split_name
from assetserver.storage.blobs import Digest

from .dictionaries import may_be_dictionary
from .manifest import FileRecord
from .resemblance import Resembling, Sketch

SketchOf = Callable[[FileRecord], Sketch]
"""Returns what stands for a file's content; nothing if looking at it would take too long."""

KeyOf = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Build:
    """Files by path, and by path what a bundler made them of; see ``bundlers.source_keys``."""

    files: Mapping[str, FileRecord]
    sources: Mapping[str, str] = field(default_factory=dict)


def pair_files(old: Build, new: Build, sketch_of: SketchOf, limit_bytes: int) -> dict[Digest, Digest]:
    """Return, by digest, which file of ``old`` each file of ``new`` was that is not there yet, where that can be told.

    Files larger than ``limit_bytes`` are left out.
    """
    pairing = _Pairing(old, new, sketch_of, limit_bytes)
    pairing.pair_same_paths()
    pairing.pair_by(_family_of, _family_of, takes_sole=True)
    pairing.pair_by(lambda path: old.sources.get(path, ""), lambda path: new.sources.get(path, ""), takes_sole=True)
    pairing.pair_by(_extension_of, _extension_of, takes_sole=False)
    return pairing.found


class _Pairing:
    """What is left on both sides, and what is ``found``."""

    def __init__(self, old: Build, new: Build, sketch_of: SketchOf, limit_bytes: int) -> None:
        known = {one.digest for one in old.files.values()}
        stays = {one.digest for one in new.files.values()}
        self.found: dict[Digest, Digest] = {}
        self._sketch_of = sketch_of
        self._come = {
            path: one
            for path, one in new.files.items()
            if one.digest not in known and may_be_dictionary(path, one.size, limit_bytes)
        }
        self._gone = {
            path: one
            for path, one in old.files.items()
            if one.digest not in stays and may_be_dictionary(path, one.size, limit_bytes)
        }

    def pair_same_paths(self) -> None:
        """Pair files that are called the same."""
        for path in self._come.keys() & self._gone.keys():
            self._pair(path, path)
            del self._gone[path]

    def pair_by(self, old_key: KeyOf, new_key: KeyOf, *, takes_sole: bool) -> None:
        """Pair files that share a key, "" being none: by content where several do, and a sole one if ``takes_sole`` says so."""
        gone, come = _group(self._gone, old_key), _group(self._come, new_key)
        for key, paths in sorted(come.items()):
            others = gone.get(key, [])
            if takes_sole and len(paths) == len(others) == 1:
                self._pair(paths[0], others[0])
            elif others:
                self._pair_by_content(paths, others)
        paired = set(self.found.values())
        self._gone = {path: one for path, one in self._gone.items() if one.digest not in paired}

    def _pair_by_content(self, paths: Iterable[str], others: Iterable[str]) -> None:
        resembling = Resembling()
        for path in sorted(others, key=lambda path: -self._gone[path].size):
            resembling.add(path, self._sketch_of(self._gone[path]))
        for path in sorted(paths, key=lambda path: -self._come[path].size):
            if other := resembling.find(self._sketch_of(self._come[path])):
                self._pair(path, other)

    def _pair(self, path: str, other: str) -> None:
        self.found[self._come.pop(path).digest] = self._gone[other].digest


def _group(paths: Iterable[str], key_of: KeyOf) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in paths:
        if key := key_of(path):
            groups.setdefault(key, []).append(path)
    return groups


def _family_of(path: str) -> str:
    """Return what stays of a path when the hash in its name changes, or "" if it may hold none."""
    parts = split_name(path)
    return "*".join(parts.family) if parts else ""


def _extension_of(path: str) -> str:
    return os.path.splitext(path)[1]
