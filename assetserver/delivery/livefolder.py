"""A folder as assets, live: known files are answered from memory, and a change on disk is noticed within a second.

An entry is trusted for ``FRESH_S``; after that the next request has it looked at again, on a file thread: one resolution of the
name, one stat for each file involved, and nothing is read unless something changed. Hashing and compressing happen once per
content. There is no watcher: inotify sees neither network file systems nor a swapped symlink above the root.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import new as new_digest

from assetserver.errors import FileChangedError, OverloadedError
from assetserver.semantics.fingerprints import PROOF_ALGORITHMS, find_hex_fingerprint, is_proved
from assetserver.semantics.mediatypes import media_type_of
from assetserver.semantics.representation import SUFFIXES, Asset, ContentCoding, Representation
from assetserver.semantics.respond import AssetResponses
from assetserver.semantics.targets import AssetPath
from assetserver.storage.pools import FilePool, wait_future
from assetserver.storage.signatures import Signature, sign

from .encodings import CodedFile, Encodings
from .files import open_regular, read_pieces
from .probe import Kind, Probe, Roots, last_modified_of, sidecar_path

logger = logging.getLogger(__name__)

FRESH_S = 0.9
"""How long an entry is trusted without a look at the disk: "within a second", with the time to look."""

SETTLED_NS = 2_000_000_000
"""A file changed less than this before it was hashed may change again without its signature moving (coarse file-system
clocks, 2 s on FAT): it is hashed once more at the next look."""

HASHED_AT_ONCE_BYTES = 64 << 20
"""Larger files are hashed in the background; until then they have no ETag, but everything else."""

LIMIT_ENTRIES = 65_536
LIMIT_MISSES = 4096
"""Misses have a bound of their own: what is on disk bounds the files that are known, but anybody can make up names."""

LIMIT_PATH_BYTES = 512
"""Longer paths of nothing are not remembered at all."""

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where the bytes of a representation lie."""

    path: str
    signature: Signature


@dataclass(slots=True)
class Entry:
    """What is known of a path. Replaced as a whole when the disk changes; only ``checked_s`` moves.

    ``responses`` and ``sources`` are there for files. ``work`` is the hashing or compressing still under way that will replace
    this entry by a better one. ``deltas``: blob and size of what is recorded as made of the file against a dictionary, by its
    SHA-256; ``delta``: the one that a request at hand may have.
    """

    path: AssetPath
    probe: Probe
    checked_s: float
    settled: bool = True
    digest: bytes | None = None
    proved: bool = False
    responses: AssetResponses | None = None
    sources: Mapping[ContentCoding, Source] = field(default_factory=dict)
    work: Future[None] | None = None
    deltas: Mapping[bytes, tuple[bytes, int]] = field(default_factory=dict)
    delta: Representation | None = None


MakeAsset = Callable[[AssetPath, tuple[Representation, ...], bool, bool], Asset]
"""(path, representations, negotiable, proved fingerprint) → asset: the owner's policy."""


class LiveFolder:
    """The assets in ``roots``. ``clock_s`` is monotonic seconds; tests pass their own."""

    def __init__(
        self,
        roots: Roots,
        encodings: Encodings,
        make_asset: MakeAsset,
        *,
        files: FilePool,
        compressors: FilePool,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.roots = roots
        self.clock_s = clock_s
        self._encodings = encodings
        self._make_asset = make_asset
        self._files = files
        self._compressors = compressors
        self._entries: dict[AssetPath, Entry] = {}
        self._misses: dict[AssetPath, Entry] = {}
        self._loading: dict[AssetPath, Future[Entry]] = {}
        self._lock = threading.Lock()

    def get(self, path: AssetPath) -> Entry | None:
        """Return the entry of ``path`` if it is known and fresh: no disk, no thread."""
        entry = self._known(path)
        return entry if entry is not None and self.clock_s() - entry.checked_s < FRESH_S else None

    async def lookup(self, path: AssetPath) -> Entry:
        """Return the entry of ``path``, looking at the disk if need be; callers at once share one look."""
        found = self.get(path) or self._load_soon(path)
        return found if isinstance(found, Entry) else await wait_future(found)

    def distrust(self, path: AssetPath) -> None:
        """Have the disk looked at before ``path`` is answered again: what was read did not fit its entry."""
        self._entries.pop(path, None)
        self._misses.pop(path, None)

    def load(self, path: AssetPath) -> Entry:
        """Look at the disk and return the entry as it is now. Blocks: for file threads and for warming up.

        Raises ``OverloadedError`` as ``Roots.probe`` does, and ``InterruptedError`` when the server is stopping.
        """
        now_s = self.clock_s()  # before the look, so that what changes during a long one is noticed in time
        probe = self.roots.probe(path)
        known = self._known(path)
        if known is not None and known.probe == probe and known.settled:
            known.checked_s = now_s
            return known
        entry = self._build(path, probe, known, now_s)
        self._remember(entry)
        return entry

    def _known(self, path: AssetPath) -> Entry | None:
        entry = self._entries.get(path)
        return self._misses.get(path) if entry is None else entry

    def _load_soon(self, path: AssetPath) -> Future[Entry] | Entry:
        with self._lock:
            if entry := self.get(path):  # a look that we saw neither the end nor the beginning of
                return entry
            future = self._loading.get(path)
            if future is None:
                future = self._loading[path] = self._files.submit(self.load, path)
                future.add_done_callback(lambda _: self._loading.pop(path, None))
            return future

    def _remember(self, entry: Entry) -> None:
        with self._lock:
            self._entries.pop(entry.path, None)
            self._misses.pop(entry.path, None)
            if entry.probe.kind is not Kind.MISSING:
                _put(self._entries, entry, LIMIT_ENTRIES)
            elif len(entry.path.encode()) <= LIMIT_PATH_BYTES:
                _put(self._misses, entry, LIMIT_MISSES)
            if entry.responses is not None and entry.work is None:  # under the lock, for the work ends in _replace
                entry.work = self._improve_soon(entry)

    def _build(self, path: AssetPath, probe: Probe, known: Entry | None, now_s: float) -> Entry:
        if probe.kind is not Kind.FILE:
            return Entry(path, probe, now_s)
        for _ in range(_ATTEMPTS):
            assert probe.signature is not None  # noqa: S101 - a file's probe has one
            if probe.signature.size > HASHED_AT_ONCE_BYTES:
                return self._describe(Entry(path, probe, now_s))
            try:
                digest, proved, settled = _identify(path, probe.full, probe.signature)
            except InterruptedError:
                raise
            except (OSError, FileChangedError):
                probe = self.roots.probe(path)
                if probe.kind is not Kind.FILE:
                    return Entry(path, probe, now_s)
                continue
            if known is not None and known.probe == probe and known.digest == digest:
                known.checked_s, known.settled = now_s, settled
                return known
            return self._describe(Entry(path, probe, now_s, settled, digest, proved))
        logger.warning("%s changes faster than it can be read; it is served without validators", probe.full)
        return self._describe(Entry(path, probe, now_s, settled=False))

    def _describe(self, entry: Entry) -> Entry:
        """Fill in what follows from probe and digest: representations, sources, prepared answers."""
        probe, signature = entry.probe, entry.probe.signature
        assert signature is not None  # noqa: S101 - a file's probe has one
        coded = self._find_coded(entry)
        media_type = media_type_of(entry.path)
        modified = last_modified_of(signature, int(time.time())) if entry.settled or entry.digest else None
        identity = Representation(ContentCoding.IDENTITY, media_type, signature.size, entry.digest, modified)
        others = (Representation(file.coding, media_type, file.length, file.digest, modified) for file in coded)
        negotiable = bool(coded) or self._encodings.makes(media_type, signature.size)
        entry.responses = AssetResponses(self._make_asset(entry.path, (identity, *others), negotiable, entry.proved))
        entry.sources = {file.coding: Source(file.path, file.signature) for file in coded}
        entry.sources = {**entry.sources, ContentCoding.IDENTITY: Source(probe.full, signature)}
        return entry

    def _find_coded(self, entry: Entry) -> list[CodedFile]:
        probe, signature = entry.probe, entry.probe.signature
        if entry.digest is None or signature is None:
            return []
        makes = self._encodings.makes(media_type_of(entry.path), signature.size)
        found = []
        for coding, sidecar in zip(SUFFIXES, probe.sidecars, strict=True):
            if sidecar is None and not makes:
                continue
            path = sidecar_path(probe.full, coding) if sidecar else None
            if coded := self._encodings.find(coding, entry.digest, signature.size, path):
                found.append(coded)
        return found

    def _improve_soon(self, entry: Entry) -> Future[None] | None:
        """Start what makes a better entry: the digest of a large file, the compressed forms that are missing."""
        signature = entry.probe.signature
        assert signature is not None  # noqa: S101 - a file's probe has one
        if entry.digest is None:
            settled = signature.size > HASHED_AT_ONCE_BYTES
            return self._compressors.submit(self._identify_large, entry) if settled else None
        missing = tuple(coding for coding in SUFFIXES if coding not in entry.sources)
        if not missing or not self._encodings.makes(media_type_of(entry.path), signature.size):
            return None
        return self._compressors.submit(self._compress, entry, missing)

    def _identify_large(self, entry: Entry) -> None:
        assert entry.probe.signature is not None  # noqa: S101 - a file's probe has one
        try:
            digest, proved, settled = _identify(entry.path, entry.probe.full, entry.probe.signature)
            self._replace(entry, Entry(entry.path, entry.probe, entry.checked_s, settled, digest, proved))
        except (OSError, FileChangedError, OverloadedError):
            entry.settled = False  # tried again at the next look

    def _compress(self, entry: Entry, missing: tuple[ContentCoding, ...]) -> None:
        assert entry.probe.signature is not None  # noqa: S101 - a file's probe has one
        assert entry.digest is not None  # noqa: S101 - only hashed files are compressed
        self._encodings.make(entry.probe.full, entry.probe.signature, entry.digest, missing)
        better = Entry(entry.path, entry.probe, entry.checked_s, entry.settled, entry.digest, entry.proved)
        with suppress(OverloadedError, InterruptedError):  # then the file goes on as it is
            self._replace(entry, better)

    def _replace(self, entry: Entry, better: Entry) -> None:
        """Put ``better`` in the place of ``entry``, unless the disk has changed since."""
        self._describe(better)
        with self._lock:
            better.work = entry.work
            if self._entries.get(entry.path) is entry:
                better.checked_s = entry.checked_s
                better.settled = entry.settled if entry.digest else better.settled
                self._entries[entry.path] = better


def _put(entries: dict[AssetPath, Entry], entry: Entry, limit: int) -> None:
    """Add an entry; the one added first leaves where there are too many."""
    entries[entry.path] = entry
    while len(entries) > limit:
        entries.pop(next(iter(entries)))


def _identify(path: AssetPath, full: str, expected: Signature) -> tuple[bytes, bool, bool]:
    """Return the SHA-256 of a file, whether its name's fingerprint is proved by the content, and whether it has settled.

    Raises ``FileChangedError`` if the file is not, or stops being, what ``expected`` signs.
    """
    fingerprint = find_hex_fingerprint(path)
    digests = {name: new_digest(name, usedforsecurity=False) for name in (PROOF_ALGORITHMS if fingerprint else ("sha256",))}
    descriptor, status = open_regular(full)
    try:
        if sign(status) != expected:
            raise FileChangedError(f"{full} was replaced while it was looked up")
        hashed_ns = time.time_ns()
        for piece in read_pieces(descriptor):
            for digest in digests.values():
                digest.update(piece)
        if sign(os.fstat(descriptor)) != expected:
            raise FileChangedError(f"{full} changed while it was read")
    finally:
        os.close(descriptor)
    proved = fingerprint is not None and is_proved(fingerprint, {name: one.hexdigest() for name, one in digests.items()})
    return digests["sha256"].digest(), proved, hashed_ns - expected.ctime_ns > SETTLED_NS
