"""Pictures that were made of others, as assets: what is known of each URL, as long as its source stands.

The same interface as ``LiveFolder``, but that nothing is looked up by path: who asks for a picture knows its source and its
key, and adds what the store has. A changed source has another entry, so what was made of the old one counts no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from assetserver.semantics.representation import Asset, ContentCoding, Field, Representation
from assetserver.semantics.respond import AssetResponses
from assetserver.semantics.targets import AssetPath
from assetserver.storage.pools import FilePool

from .livefolder import Entry, Source
from .probe import MISSING, Kind, Probe, Roots
from .variantstore import StoredPicture, VariantStore

LIMIT_ENTRIES = 3072

TOUCH_S = 600.0
"""How often a picture that is served from memory is noted as used."""

VARY = (b"vary", b"accept")


class SourceFolder(Protocol):
    """Where a source is: any folder of assets."""

    def get(self, path: AssetPath) -> Entry | None:
        """Return the entry of ``path`` if it is known and stands."""
        ...


@dataclass(slots=True)
class VariantEntry(Entry):
    """A picture under the ``key`` of the store, made of ``source``, an entry of ``folder``."""

    key: str = ""
    source: Entry | None = None
    folder: SourceFolder | None = None


class VariantFolder:
    """What is known of the pictures in ``store``. ``clock_s`` is monotonic seconds."""

    def __init__(self, store: VariantStore, files: FilePool, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.clock_s = clock_s
        self.roots = Roots(())  # nothing to list
        self._store = store
        self._files = files
        self._entries: dict[AssetPath, VariantEntry] = {}
        self._lock = threading.Lock()

    def get(self, path: AssetPath) -> VariantEntry | None:
        """Return the entry of ``path`` if it is known and its source stands: no thread."""
        entry = self._entries.get(path)
        if entry is None or entry.source is None or entry.folder is None:
            return None
        return entry if entry.folder.get(entry.source.path) is entry.source and self._note_use(entry) else None

    def recall(self, path: AssetPath, source: Entry) -> VariantEntry | None:
        """Return the entry of ``path`` if it is of ``source``, which the caller has just looked up."""
        entry = self._entries.get(path)
        return entry if entry is not None and entry.source is source and self._note_use(entry) else None

    async def lookup(self, path: AssetPath) -> Entry:
        """Return the entry of ``path`` if it is known, else a miss."""
        return self.get(path) or Entry(path, MISSING, self.clock_s())

    def distrust(self, path: AssetPath) -> None:
        """Forget ``path``: what was read did not fit."""
        self._entries.pop(path, None)

    def add(self, entry: VariantEntry) -> None:
        """Remember an entry that ``make_entry`` made."""
        with self._lock:
            self._entries.pop(entry.path, None)
            while len(self._entries) >= LIMIT_ENTRIES:
                self._entries.pop(next(iter(self._entries)))
            self._entries[entry.path] = entry

    def _note_use(self, entry: VariantEntry) -> bool:
        now_s = self.clock_s()
        if now_s - entry.checked_s >= TOUCH_S:
            entry.checked_s = now_s
            self._files.submit(self._store.touch, entry.key)
        return True


def make_entry(path: AssetPath, found: StoredPicture, asset: Asset, now_s: float) -> VariantEntry:
    """Return the entry of a picture, which is cached, and described otherwise, as its source ``asset``."""
    representation = Representation(ContentCoding.IDENTITY, found.media_type, found.signature.size, found.digest)
    return VariantEntry(
        path,
        Probe(Kind.FILE, found.path),
        now_s,
        digest=found.digest,
        responses=AssetResponses(Asset((representation,), cache_fields=asset.cache_fields, fields=asset.fields)),
        sources={ContentCoding.IDENTITY: Source(found.path, found.signature)},
    )


def dress(asset: Asset, *, varies: bool = False, cache_control: str = "") -> Asset:
    """Return ``asset`` with ``Vary: Accept`` if it ``varies``, and with another policy if one is given."""
    cache: tuple[Field, ...] = ((b"cache-control", cache_control.encode()),) if cache_control else asset.cache_fields
    fields = (*asset.fields, VARY) if varies else asset.fields
    return Asset(asset.representations[:1], cache_fields=cache, fields=fields)
