"""Uploads as assets: what the records name, with the blobs as files. The same interface as ``LiveFolder``.

    ID/NAME                    an upload, or a variant of it: never other bytes, until it is removed
    by-name/NAME               the newest upload with this name
    by-name/COLLECTION/NAME    the same, in a collection

Records are looked up when a path is first asked for, and again when what is known of it is older than ``FRESH_S``, on a thread.
Beyond that, ``read_mark`` gives what changes whenever a name gets a newer upload or an upload is removed: what was looked up
before does not count any more, at once and in every process. Misses are not remembered: what is uploaded now is there now.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from assetserver.errors import OverloadedError
from assetserver.semantics.representation import SUFFIXES, Asset, ContentCoding, Representation
from assetserver.semantics.respond import AssetResponses
from assetserver.semantics.targets import AssetPath
from assetserver.semantics.untrusted import select_serving
from assetserver.storage.pools import wait_future

from .blobsources import BlobSources
from .livefolder import FRESH_S, HASHED_AT_ONCE_BYTES, Entry, Source
from .probe import MISSING, Kind, Probe, Roots
from .resources import Resources

LIMIT_ENTRIES = 3072

BY_NAME = "by-name"
_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


class Medium(Protocol):
    """What a record says of a complete upload, or of what was made of it."""

    @property
    def id(self) -> str:
        """Its identifier."""
        ...

    @property
    def name(self) -> str:
        """The name that it was uploaded under."""
        ...

    @property
    def collection(self) -> str:
        """The collection that it belongs to, or ""."""
        ...

    @property
    def size(self) -> int | None:
        """Length in bytes; known once it is complete."""
        ...

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes in hexadecimal; "" until it is complete."""
        ...

    @property
    def media_type(self) -> str:
        """The type found in its content."""
        ...


class Media(Protocol):
    """Where uploads are looked up. Both methods block, and may be called from any thread."""

    def find(self, upload_id: str, name: str) -> Medium | None:
        """Return the upload with this id, complete or not, or what has this name of all that was made of it; or None."""
        ...

    def find_by_name(self, name: str, collection: str) -> Medium | None:
        """Return the newest complete upload with this name, or None."""
        ...


class MediaPath(NamedTuple):
    """What a path asks for: an upload by its ``id`` and its ``name``, or without an id the newest in ``collection``."""

    id: str
    name: str
    collection: str = ""


@dataclass(slots=True)
class MediaEntry(Entry):
    """An entry with what was looked up for it: ``medium`` as the records had it when ``mark`` was read."""

    medium: Medium | None = None
    mark: bytes = b""


MakeAsset = Callable[[AssetPath, Medium, tuple[Representation, ...], bool], Asset]
"""(path, upload, representations, negotiable) → asset: the owner's policy."""


class MediaFolder:
    """The complete uploads of ``media``; blobs lie where ``path_of`` says. ``clock_s`` is monotonic seconds.

    Text gets compressed forms, made once in the background, as files of a live folder do.
    """

    def __init__(
        self,
        media: Media,
        path_of: Callable[[str], str],
        make_asset: MakeAsset,
        resources: Resources,
        *,
        read_mark: Callable[[], bytes] = bytes,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock_s = clock_s
        self.roots = Roots(())  # uploads have names, no folders to list
        self._media = media
        self._make_asset = make_asset
        self._encodings = resources.encodings
        self._files = resources.files
        self._compressors = resources.compressors
        self._read_mark = read_mark
        self._blobs = BlobSources(path_of, remedy="upload it again", hashed_bytes=HASHED_AT_ONCE_BYTES)
        self._entries: dict[AssetPath, MediaEntry] = {}
        self._loading: dict[tuple[bytes, AssetPath], Future[MediaEntry]] = {}
        self._lock = threading.Lock()

    def get(self, path: AssetPath) -> MediaEntry | None:
        """Return the entry of ``path`` if it is known and stands: no record, no thread, one ``pread``."""
        entry = self._entries.get(path)
        if entry is None or entry.mark != self._read_mark() or self.clock_s() - entry.checked_s >= FRESH_S:
            return None
        return entry

    async def lookup(self, path: AssetPath) -> MediaEntry:
        """Return the entry of ``path``, looking it up if need be; callers at once share one look."""
        if (entry := self.get(path)) is not None:
            return entry
        asked = parse_media_path(path)
        if asked is None:
            return MediaEntry(path, MISSING, self.clock_s())
        key = self._read_mark(), path  # who comes after a change must not get what was begun before it
        with self._lock:
            future = self._loading.get(key)
            if future is None:
                future = self._loading[key] = self._files.submit(self._load, path, asked)
                future.add_done_callback(lambda _: self._loading.pop(key, None))
        return await wait_future(future)

    def distrust(self, path: AssetPath) -> None:
        """Have the record and the blob of ``path`` looked at again: what was read did not fit."""
        self._entries.pop(path, None)

    def _load(self, path: AssetPath, asked: MediaPath) -> MediaEntry:
        now_s, mark = self.clock_s(), self._read_mark()  # before the look, so that what changes during it is noticed
        medium = self._find(asked)
        known = self._entries.get(path)
        if known is not None and medium is not None and known.medium == medium:
            known.checked_s, known.mark = now_s, mark
            return known
        entry = MediaEntry(path, MISSING, now_s) if medium is None else self._build(path, medium, now_s)
        entry.mark = mark
        self._remember(entry)
        return entry

    def _find(self, asked: MediaPath) -> Medium | None:
        media = self._media
        medium = media.find(asked.id, asked.name) if asked.id else media.find_by_name(asked.name, asked.collection)
        return medium if medium is not None and medium.sha256 and (not asked.id or medium.name == asked.name) else None

    def _build(self, path: AssetPath, medium: Medium, now_s: float) -> MediaEntry:
        digest = bytes.fromhex(medium.sha256)
        source = self._blobs.find(digest, medium.size or 0, f"media/{path}")
        if source is None:
            return MediaEntry(path, MISSING, now_s)
        entry = MediaEntry(path, Probe(Kind.FILE, source.path), now_s, digest=digest, medium=medium)
        return self._describe(entry, source)

    def _describe(self, entry: MediaEntry, source: Source) -> MediaEntry:
        """Fill in what follows from the record and the blob: representations, sources, prepared answers."""
        medium, digest = entry.medium, entry.digest
        assert medium is not None  # noqa: S101 - the caller has both
        assert digest is not None  # noqa: S101 - as above
        media_type = select_serving(medium.media_type, medium.name).media_type
        size = source.signature.size
        makes = self._encodings.makes(media_type, size)
        coded = [self._encodings.find(coding, digest, size, None) for coding in SUFFIXES] if makes else []
        found = [one for one in coded if one is not None]
        representations = (
            Representation(ContentCoding.IDENTITY, media_type, size, digest),
            *(Representation(one.coding, media_type, one.length, one.digest) for one in found),
        )
        entry.responses = AssetResponses(self._make_asset(entry.path, medium, representations, makes))
        entry.sources = {ContentCoding.IDENTITY: source, **{one.coding: Source(one.path, one.signature) for one in found}}
        return entry

    def _remember(self, entry: MediaEntry) -> None:
        with self._lock:
            self._entries.pop(entry.path, None)
            if entry.responses is None:
                return
            while len(self._entries) >= LIMIT_ENTRIES:
                self._entries.pop(next(iter(self._entries)))
            self._entries[entry.path] = entry
            missing = tuple(coding for coding in SUFFIXES if coding not in entry.sources)
            if entry.responses.asset.negotiable and missing:  # under the lock, for the work ends in _replace
                entry.work = self._compressors.submit(self._compress, entry, missing)

    def _compress(self, entry: MediaEntry, missing: tuple[ContentCoding, ...]) -> None:
        source, digest = entry.sources[ContentCoding.IDENTITY], entry.digest
        assert digest is not None  # noqa: S101 - it is a file's
        self._encodings.make(source.path, source.signature, digest, missing)
        better = MediaEntry(entry.path, entry.probe, entry.checked_s, digest=digest, medium=entry.medium, mark=entry.mark)
        with suppress(OverloadedError, InterruptedError):  # then the file goes on as it is
            self._replace(entry, self._describe(better, source))

    def _replace(self, entry: MediaEntry, better: MediaEntry) -> None:
        """Put ``better`` in the place of ``entry``, unless something else is there by now."""
        with self._lock:
            better.work = entry.work
            if self._entries.get(entry.path) is entry:
                better.checked_s, better.mark = entry.checked_s, entry.mark
                self._entries[entry.path] = better


def parse_media_path(path: str) -> MediaPath | None:
    """Return what a path below ``/media/`` asks for, or None: then there is nothing to look up."""
    match path.split("/"):
        case ["by-name", name] if name:
            return MediaPath("", name)
        case ["by-name", collection, name] if collection and name:
            return MediaPath("", name, collection)
        case [upload_id, name] if name and _ID.fullmatch(upload_id):
            return MediaPath(upload_id, name)
    return None
