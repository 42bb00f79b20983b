"""What differs between two releases: files that were added, removed, changed or renamed, and what they weigh."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from assetserver.semantics.fingerprints import split_name
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import Digest

from .library import Library
from .manifest import FileRecord, ReleaseId


class Kind(Enum):
    """What happened to a file."""

    CHANGED = "changed"
    RENAMED = "renamed"
    """The same bytes at another path, or the same path but for its fingerprint."""
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Weight:
    """Bytes of a file or of many: as they are, and as a browser that takes br gets them."""

    raw: int = 0
    br: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(self.raw + other.raw, self.br + other.br)


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that is not the same in both releases. ``old`` and ``new`` are its paths, "" where it is not there.

    ``delta``: bytes of the smallest delta of it against a file of the release before (RFC 9842), None if there is none.
    """

    kind: Kind
    old: str
    new: str
    before: Weight
    after: Weight
    delta: int | None = None


@dataclass(frozen=True, slots=True)
class Visits:
    """Bytes that all files of a release come to for a browser that takes br.

    ``first``: for one that has nothing; ``returning``: that has all of the release before; ``returning_plain``: and takes no
    deltas.
    """

    first: int = 0
    returning: int = 0
    returning_plain: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What leads from release ``before`` to ``after``; ``weights`` are of all files of each, ``same`` counts files."""

    before: ReleaseId
    after: ReleaseId
    files: tuple[int, int]
    weights: tuple[Weight, Weight]
    same: int
    changes: tuple[FileChange, ...] = field(default=())
    visits: Visits = field(default=Visits())

    def of(self, kind: Kind) -> list[FileChange]:
        """Return the changes of one kind, by path."""
        return [one for one in self.changes if one.kind is kind]


Weigh = Callable[[FileRecord], Weight]
Files = Mapping[str, FileRecord]


def compare_releases(library: Library, before: ReleaseId, after: ReleaseId) -> Comparison:
    """Return what leads from one release to another. Raises as ``Library.load_manifest`` does.

    Reads a record of compressed forms per file, and one of deltas per file that is new, each once.
    """
    old, new = library.load_manifest(before).files, library.load_manifest(after).files
    known: dict[Digest, Weight] = {}

    def weigh(record: FileRecord) -> Weight:
        if record.digest not in known:
            sizes = {one.coding: one.size for one in library.codings_of(record.digest) or ()}
            known[record.digest] = Weight(record.size, sizes.get(ContentCoding.BR.value, record.size))
        return known[record.digest]

    found = _with_deltas(library, _find_changes(old, new, weigh), old, new)
    changes = tuple(sorted(found, key=lambda one: (list(Kind).index(one.kind), one.new or one.old)))
    same = sum(path in new and new[path].digest == record.digest for path, record in old.items())
    weights = tuple(sum((weigh(record) for record in files.values()), Weight()) for files in (old, new))
    plain = [one.after.br for one in changes]
    with_deltas = [one.after.br if one.delta is None else min(one.after.br, one.delta) for one in changes]
    visits = Visits(weights[1].br, sum(with_deltas), sum(plain))
    return Comparison(before, after, (len(old), len(new)), (weights[0], weights[1]), same, changes, visits)


def _with_deltas(library: Library, changes: Iterable[FileChange], old: Files, new: Files) -> Iterator[FileChange]:
    known, recorded = {one.digest for one in old.values()}, library.blobs_with_deltas()
    for change in changes:
        digest = new[change.new].digest if change.new else None
        deltas = library.deltas_of(digest) if digest in recorded else ()
        size = min((one.size for one in deltas if one.dictionary in known), default=None)
        yield replace(change, delta=size)


def _find_changes(old: Files, new: Files, weigh: Weigh) -> Iterator[FileChange]:
    for path in old.keys() & new.keys():
        if old[path].digest != new[path].digest:
            yield FileChange(Kind.CHANGED, path, path, weigh(old[path]), weigh(new[path]))
    removed, added = old.keys() - new.keys(), new.keys() - old.keys()
    renamed = _pair(removed, added, lambda path, files: files[path].digest, old, new)
    renamed |= _pair(
        removed - renamed.keys(), added - set(renamed.values()), lambda path, files: _family_of(path, files[path]), old, new
    )
    for path, to in renamed.items():
        yield FileChange(Kind.RENAMED, path, to, weigh(old[path]), weigh(new[to]))
    for path in added - set(renamed.values()):
        yield FileChange(Kind.ADDED, "", path, Weight(), weigh(new[path]))
    for path in removed - renamed.keys():
        yield FileChange(Kind.REMOVED, path, "", weigh(old[path]), Weight())


def _pair(
    removed: Iterable[str], added: Iterable[str], key_of: Callable[[str, Files], str], old: Files, new: Files
) -> dict[str, str]:
    """Return which removed path became which added one: those that alone share a key. "" is no key."""
    gone, come = _group(removed, lambda path: key_of(path, old)), _group(added, lambda path: key_of(path, new))
    return {paths[0]: come[key][0] for key, paths in gone.items() if key and len(paths) == 1 and len(come.get(key, ())) == 1}


def _group(paths: Iterable[str], key_of: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(key_of(path), []).append(path)
    return groups


def _family_of(path: str, record: FileRecord) -> str:
    """Return what stays of a path when its fingerprint changes, or "" if it has none."""
    parts = split_name(path)
    return "*".join(parts.family) if parts and (record.fingerprint or parts.is_random) else ""
