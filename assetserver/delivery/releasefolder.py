"""The active release of a site as assets: answered from the index, with the blobs as files.

The same interface as ``LiveFolder``. The site's state file is looked at twice a second, one stat; when it moved, the new index
is mapped and all entries are made anew: a request in flight keeps the entry, and so the release, that it began with. Each blob
is hashed before this process first serves it, and again when its signature moved: a damaged one is a 404 and a line in the
log, never wrong bytes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol

from assetserver.errors import AssetServerError, OverloadedError
from assetserver.releases.siterules import NO_RULES, SiteRules
from assetserver.semantics.mediatypes import media_type_of
from assetserver.semantics.representation import ContentCoding, Representation
from assetserver.semantics.respond import AssetResponses
from assetserver.semantics.targets import AssetPath
from assetserver.storage.pools import FilePool, wait_future

from .blobsources import BlobSources
from .claims import Standing
from .livefolder import Entry, MakeAsset, Source
from .probe import MISSING, Kind, Probe, Roots

logger = logging.getLogger(__name__)

LOOK_S = 0.5

RETRY_S = 10.0
"""How long a damaged file is a miss before its blob is hashed again: publishing repairs it, and no activation follows."""

LIMIT_ENTRIES = 3072
"""An entry takes up to 4 kB once all its answers are made: in all 12 MB, whatever the release holds. One that has to be made
again costs an index look-up and a hash of its blobs."""


class Served(Protocol):
    """What the index says of a path; see ``releases.catalog.CatalogEntry``."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file, 32 bytes."""
        ...

    @property
    def size(self) -> int:
        """Length of the file in bytes."""
        ...

    @property
    def immutable(self) -> bool:
        """Whether the name is a fingerprint."""
        ...

    @property
    def links(self) -> tuple[str, ...]:
        """Values of its ``Link`` field."""
        ...

    @property
    def forms(self) -> tuple[tuple[str, bytes, int], ...]:
        """Coding, SHA-256 and length of each compressed form."""
        ...

    @property
    def deltas(self) -> tuple[tuple[bytes, bytes, int], ...]:
        """SHA-256 of the dictionary, SHA-256 and length of each delta that is recorded."""
        ...


class Index(Protocol):
    """Paths of one release, or of all that a site serves, and the rules of the release."""

    @property
    def rules(self) -> SiteRules:
        """What ``_headers`` and ``_redirects`` say."""
        ...

    @property
    def release(self) -> str:
        """The id of the release."""
        ...

    def get(self, path: str) -> Served | None:
        """Return what is served at ``path``, or None."""
        ...

    def may_have(self, path: str) -> bool:
        """Tell whether something may be served at ``path``; False is certain. Never waits."""
        ...

    def is_dictionary(self, digest: bytes) -> bool:
        """Tell whether a client of the site may hold the file with this SHA-256 as a dictionary. Blocks."""
        ...


OpenIndex = Callable[[], tuple[object, Index | None]]
"""Returns a mark that changes when the site does, and the index to serve, None for nothing; one stat if the mark stands."""


class ReleaseFolder:
    """What a site serves now. ``path_of`` says where the blob with a hexadecimal digest lies."""

    def __init__(
        self,
        open_index: OpenIndex,
        path_of: Callable[[str], str],
        make_asset: MakeAsset,
        files: FilePool,
        *,
        links: bool = True,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock_s = clock_s
        self.roots = Roots(())  # a release has names, no folders to list
        self._open_index = open_index
        self._blobs = BlobSources(path_of, remedy="publish it again")
        self._make_asset = make_asset
        self._files = files
        self._links = links
        self._entries: dict[AssetPath, Entry] = {}
        self._index: Index | None = None
        self._mark: object = None
        self._standing = Standing()
        self._look_at_s = float("-inf")
        self._loading: dict[tuple[object, AssetPath], Future[Entry]] = {}
        self._damaged: dict[AssetPath, float] = {}
        self._complaint = ""
        self._lock = threading.Lock()

    def get(self, path: AssetPath) -> Entry | None:
        """Return the entry of ``path`` if it is known: no disk, no thread, but for one stat twice a second."""
        self._look()
        return self._entries.get(path)

    async def lookup(self, path: AssetPath) -> Entry:
        """Return the entry of ``path``; callers at once share one look at the blobs."""
        entry = self.get(path)
        if entry is not None:
            return entry
        index = self._index
        served = index.get(path) if index else None
        if served is None:
            return self._missing(path)
        key = self._mark, path  # who comes after a switch must not get what was begun before it
        with self._lock:
            if self._mark == key[0] and (entry := self._entries.get(path)):  # loaded since we looked
                return entry
            future = self._loading.get(key)
            if future is None:
                future = self._loading[key] = self._files.submit(self._load, path, served, self._mark)
                future.add_done_callback(lambda _: self._loading.pop(key, None))
        return await wait_future(future)

    def may_have(self, path: str) -> bool:
        """Tell whether something may be served at ``path``; False is certain. No disk but for the look at what is active."""
        self._look()
        return self._index is not None and self._index.may_have(path)

    def distrust(self, path: AssetPath) -> None:
        """Have the blobs of ``path`` looked at again: what was read did not fit."""
        self._entries.pop(path, None)

    def is_dictionary(self, digest: bytes) -> bool:
        """Tell whether a client of the site may hold the file with this SHA-256 as a dictionary. Blocks."""
        return self._index is not None and self._index.is_dictionary(digest)

    @property
    def release(self) -> str:
        """The id of the release that was served when last looked at, "" for none."""
        return self._index.release if self._index else ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is active."""
        self._look()
        return self._index is None

    def standing_of(self, mark: object) -> Standing:
        """Return what all answers of the release with ``mark`` share, as long as it is served."""
        with self._lock:
            return self._standing if mark is self._mark else Standing()

    @property
    def mark(self) -> object:
        """What changes whenever something else is served."""
        self._look()
        return self._mark

    @property
    def rules(self) -> SiteRules:
        """The rules of what is served now."""
        self._look()
        return self._index.rules if self._index else NO_RULES

    def _look(self) -> None:
        now_s = self.clock_s()
        if now_s < self._look_at_s:
            return
        try:
            mark, index = self._open_index()
        except (AssetServerError, OSError) as error:
            if self._index is None:
                raise OverloadedError(f"the site cannot be opened: {error}") from error
            mark, index = self._mark, self._index
            if (complaint := str(error)) != self._complaint:  # once, and not twice a second
                logger.error("the site stays as it is, for its state cannot be read: %s", complaint)  # noqa: TRY400
                self._complaint = complaint
        else:
            self._complaint = ""
        self._look_at_s = now_s + LOOK_S
        with self._lock:  # or what is being loaded for the release before could end up among the new entries
            if mark != self._mark:
                self._mark, self._index, self._entries, self._damaged = mark, index, {}, {}
                self._standing.until_s = float("-inf")  # all that was said of the one before falls in this moment
                self._standing = Standing()
            for path in [path for path, retry_at_s in self._damaged.items() if retry_at_s <= now_s]:
                del self._damaged[path]
                self._entries.pop(path, None)

    def _missing(self, path: AssetPath) -> Entry:
        """A path is a folder if its index page is served: names alone make no folders in a release."""
        index = self._index
        is_folder = index is not None and index.get(f"{path}/index.html" if path else "index.html") is not None
        probe = Probe(Kind.FOLDER) if is_folder and not path.endswith("/") else MISSING
        return Entry(path, probe, float("inf"))

    def _load(self, path: AssetPath, served: Served, mark: object) -> Entry:
        entry = self._build(path, served)
        with self._lock:
            if mark == self._mark:
                while len(self._entries) >= LIMIT_ENTRIES:
                    self._entries.pop(next(iter(self._entries)))
                self._entries[path] = entry
                if entry.responses is None:
                    self._damaged[path] = self.clock_s() + RETRY_S
        return entry

    def _build(self, path: AssetPath, served: Served) -> Entry:
        sources: dict[ContentCoding, Source] = {}
        representations = []
        media_type = media_type_of(path)
        for coding, digest, size in (("identity", served.digest, served.size), *served.forms):
            source = self._blobs.find(digest, size, path)
            if source is not None:
                sources[ContentCoding(coding)] = source
                representations.append(Representation(ContentCoding(coding), media_type, size, digest))
        if ContentCoding.IDENTITY not in sources:
            return Entry(path, MISSING, float("inf"))
        asset = self._make_asset(path, tuple(representations), bool(served.forms), served.immutable)
        if self._links and served.links:
            asset = replace(asset, cache_fields=(*asset.cache_fields, (b"link", ", ".join(served.links).encode("latin-1"))))
        probe = Probe(Kind.FILE, sources[ContentCoding.IDENTITY].path)
        return Entry(
            path,
            probe,
            float("inf"),
            digest=served.digest,
            proved=served.immutable,
            responses=AssetResponses(asset),
            sources=sources,
            deltas={dictionary: (digest, size) for dictionary, digest, size in served.deltas},
        )
