"""What visitors of the releases before need of a new one: deltas of the files that changed, made on all cores.

The files of each release before are paired with those of the new one (see ``pairing``), and what was made for whichever release
before is only looked up. Work is done in threads: the codec releases the GIL, and there is little else to do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from assetserver.errors import BlobMissingError, PublishError, ReleaseMissingError
from assetserver.storage.blobs import BlobStore, Digest
from assetserver.storage.codecs import Effort

from .compressing import SAVE_EVERY_S, Forms
from .crew import run_all
from .deltas import find_delta, make_delta
from .library import Delta, Library
from .manifest import FileRecord, ReleaseId
from .pairing import Build, pair_files
from .resemblance import Sketch, sketch
from .storing import Progress

SKETCHED_BYTES = 32 << 20
"""So much is looked into to find what became of files that no name tells of: a second."""

THOROUGH_BYTES = 1 << 20
"""So much of deltas against older releases than the last takes the highest level, small files first; the others take level 9.

Level 19 takes a third of the time of br 11, for each release before; level 9 a fiftieth, and a tenth more bytes if little has
changed (`benchmarks/bench_deltas.py`).
"""


@dataclass(frozen=True, slots=True)
class DeltaPolicy:
    """For the visitors of how many ``releases`` before deltas are made, and of files up to which size."""

    releases: int = 3
    limit_bytes: int = 32 << 20


@dataclass(frozen=True, slots=True)
class DeltaReport:
    """What visitors who hold the files of the release before get: of ``files`` that changed, bytes without and with deltas.

    ``made``: how many deltas were made now, for whichever release before.
    """

    files: int = 0
    plain_bytes: int = 0
    delta_bytes: int = 0
    made: int = 0


class _Task(NamedTuple):
    """A delta to make."""

    new: Digest
    dictionary: Digest
    size: int
    plain_bytes: int
    effort: Effort


_Pair = tuple[Digest, Digest]
_Pairs = dict[Digest, Digest]


def make_deltas(
    library: Library, new: Build, before: Sequence[ReleaseId], forms: Forms, policy: DeltaPolicy, progress: Progress
) -> DeltaReport:
    """Make the deltas of the files of ``new`` against those of the releases ``before``, durably. May be repeated.

    ``before``: the one that visitors most likely hold files of comes first; one that is damaged or gone counts as none.
    ``forms``: what the files come to without.
    """
    find_sketch = _Sketches(library)
    builds = [build for release in before if (build := _load(library, release))]
    pairs = [pair_files(old, new, find_sketch, policy.limit_bytes) for old in builds]
    sizes: dict[Digest, int] = {one.digest: one.size for one in new.files.values()}
    plain = {digest: min([size, *(form.size for form in forms.get(digest, ()))]) for digest, size in sizes.items()}
    wanted: dict[_Pair, None] = dict.fromkeys(pair for found in pairs for pair in found.items())
    known = {pair: found for pair in wanted if (found := find_delta(library, *pair))}
    last = pairs[0] if pairs else {}
    efforts = _choose_efforts([pair for pair in wanted if pair not in known], last, sizes)
    tasks = [_Task(*pair, sizes[pair[0]], plain[pair[0]], effort) for pair, effort in efforts.items()]
    made = _make_all(library, sorted(tasks, key=lambda one: -one.size), progress)
    return _report(last, known | made, plain, sum(1 for one in made.values() if one.digest))


def _choose_efforts(wanted: Sequence[_Pair], last: _Pairs, sizes: Mapping[Digest, int]) -> dict[_Pair, Effort]:
    """Return how hard to work for each pair: most for those of the ``last`` release, whose visitors are the most."""
    left_bytes = THOROUGH_BYTES
    efforts: dict[_Pair, Effort] = {}
    for new, dictionary in sorted(wanted, key=lambda pair: sizes[pair[0]]):
        is_last = last.get(new) == dictionary
        left_bytes -= 0 if is_last else sizes[new]
        efforts[new, dictionary] = Effort.THOROUGH if is_last or left_bytes >= 0 else Effort.QUICK
    return efforts


def _make_all(library: Library, tasks: Sequence[_Task], progress: Progress) -> dict[_Pair, Delta]:
    total, size = sum(one.size for one in tasks), 0
    found: dict[_Pair, Delta] = {}
    unsaved: dict[Digest, list[Delta]] = {}
    save_at_s = time.monotonic() + SAVE_EVERY_S
    with closing(run_all(partial(_make, library.blobs), tasks, is_little=True)) as results:
        for count, (task, delta) in enumerate(results, 1):
            size += task.size
            progress("deltas", size, total, count, len(tasks))
            if delta is not None:
                found[task.new, task.dictionary] = delta
                unsaved.setdefault(task.new, []).append(delta)
            if time.monotonic() >= save_at_s:
                library.save_deltas(unsaved)
                unsaved, save_at_s = {}, time.monotonic() + SAVE_EVERY_S
    library.save_deltas(unsaved)
    return found


def _make(blobs: BlobStore, task: _Task) -> tuple[_Task, Delta | None]:
    return task, make_delta(blobs, task.new, task.dictionary, task.plain_bytes, task.effort)


def _load(library: Library, release: ReleaseId) -> Build | None:
    try:
        return Build(library.load_manifest(release).files, library.sources_of(release))
    except (ReleaseMissingError, PublishError):
        return None


def _report(pairs: _Pairs, deltas: Mapping[_Pair, Delta], plain: Mapping[Digest, int], made: int) -> DeltaReport:
    found = {pair[0]: one for pair in pairs.items() if (one := deltas.get(pair)) and one.digest}
    return DeltaReport(len(found), sum(plain[digest] for digest in found), sum(one.size for one in found.values()), made)


class _Sketches:
    """The sketches of files, each made once, until too much was looked into."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._left_bytes = SKETCHED_BYTES
        self._known: dict[Digest, Sketch] = {}

    def __call__(self, record: FileRecord) -> Sketch:
        known = self._known.get(record.digest)
        if known is None:
            known = self._known[record.digest] = self._make(record)
        return known

    def _make(self, record: FileRecord) -> Sketch:
        if record.size > self._left_bytes:
            return frozenset()
        self._left_bytes -= record.size
        try:
            return sketch(b"".join(self._library.blobs.read(record.digest)))
        except BlobMissingError:
            return frozenset()
