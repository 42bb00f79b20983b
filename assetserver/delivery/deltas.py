"""The deltas of a site: which files may come as ``dcz`` and are dictionaries, and where the deltas of one lie. RFC 9842.

What a client offers is a hash, and only what it finds is ever used: a delta that is recorded for this very file, whose bytes
were hashed, and whose stream names that dictionary. Everything else is answered as without: unknown hashes, hashes of what is
no site's, deltas that are lost or damaged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from assetserver.errors import AssetServerError
from assetserver.releases.deltas import ON_DEMAND_LIMIT_BYTES, keep_delta
from assetserver.releases.library import Library
from assetserver.semantics.dictionaries import (
    LIMIT_BYTES,
    LONG_LIVED_S,
    MINIMUM_BYTES,
    check_pattern,
    cover_next_names,
    format_use_as_dictionary,
    usable_s,
)
from assetserver.semantics.mediatypes import is_compressible
from assetserver.semantics.representation import Asset, ContentCoding, Field, Representation
from assetserver.semantics.targets import format_target
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import DCZ_HEADER_BYTES, DCZ_MAGIC
from assetserver.storage.pools import FilePool, wait_future

from .blobsources import BlobSources
from .files import open_regular
from .livefolder import Entry, Source
from .requests import FRONT_PAGE, url_of

logger = logging.getLogger(__name__)

LIMIT_FOUND = 4096
LIMIT_LACKING = 4096
"""Pairs of file and hash of which it is known that there is no delta. Apart, since anybody can make up hashes."""

LIMIT_WAITING = 64
"""Deltas that wait to be made. Who comes when there are as many gets the file without, and may come again."""

DICTIONARY_QUERY = "dictionary="
"""Begins the query of a URL that names the front page by its digest: what never changes can be kept, and be a dictionary."""

_QUERY_DIGITS = 32
_PAGES = ("document", "")
"""Where a page that is everywhere may be a dictionary: for pages, and for its own next version, which a ``Link`` asks for."""

_Pair = tuple[bytes, bytes]


class Lack(Enum):
    """Why there is no delta."""

    NONE = "none"
    """There is none, until something else is served."""
    YET = "not yet"
    """It is being made."""


class FoundDelta(NamedTuple):
    """A delta, and where its bytes lie."""

    representation: Representation
    source: Source


class SiteDeltas:
    """The deltas in ``library`` of the files that one site serves below the URL path ``prefix``, "" or such as ``docs/``.

    ``makers``: the threads that make on demand what is missing; without, only what was made when a release was published is
    there. ``files``: those that look at the disk. ``links``: pages may announce dictionaries. ``is_everywhere``: the front page
    answers all paths that are no file's.
    """

    def __init__(
        self,
        library: Library,
        *,
        prefix: str,
        files: FilePool,
        makers: FilePool | None = None,
        links: bool = True,
        is_everywhere: bool = False,
    ) -> None:
        self._library = library
        self._prefix = prefix
        self._files = files
        self._makers = makers
        self._links = links
        self._is_everywhere = is_everywhere
        self._blobs = BlobSources(lambda digest: library.blobs.path_of(Digest(digest)), remedy="publish it again")
        self._mark: object = None
        self._found: dict[_Pair, FoundDelta] = {}
        self._lacking: dict[_Pair, None] = {}
        self._looking: dict[_Pair, Future[FoundDelta | Lack]] = {}
        self._waiting: set[_Pair] = set()
        self._lock = threading.Lock()

    # What a file says of itself

    def announce(self, path: str, asset: Asset, *, is_fingerprint: bool, clean_urls: bool = False) -> Asset:
        """Return ``asset``, served at ``path``, as one that takes deltas and is a dictionary, if it can be; may be repeated.

        It is if browsers may use it for long: then its own answers are dictionaries. The front page has to be asked for each
        time, so another URL is its dictionary, which it names in a ``Link``.
        """
        url = self._prefix + url_of(path, clean_urls=clean_urls)
        use = format_use_as_dictionary(cover_next_names(url, is_fingerprint=is_fingerprint)).encode()
        own = ((b"use-as-dictionary", use), self._link(url, asset))
        others = tuple(field for field in asset.cache_fields if field not in own)
        asset = replace(asset, cache_fields=others, takes_deltas=False)
        if not is_eligible(path, asset):
            return asset
        if any(name == b"use-as-dictionary" for name, _ in (*others, *asset.fields)):
            return replace(asset, takes_deltas=True)  # a rule says it
        pattern = cover_next_names(url, is_fingerprint=is_fingerprint)
        if pattern and _usable_s(asset) >= LONG_LIVED_S:
            return replace(asset, cache_fields=(*others, own[0]), takes_deltas=True)
        if path == FRONT_PAGE and self._links and pattern:
            return replace(asset, cache_fields=(*others, own[1]), takes_deltas=True)
        return asset

    def as_dictionary(self, entry: Entry, asset: Asset, cache_fields: tuple[Field, ...]) -> Asset:
        """Return the front page ``asset`` of ``entry`` as its dictionary's URL gives it, to be kept as ``cache_fields`` say."""
        root = check_pattern(format_target(self._prefix + url_of(entry.path)))
        use = format_use_as_dictionary(root + "*", _PAGES) if self._is_everywhere else format_use_as_dictionary(root)
        return replace(asset, cache_fields=(*cache_fields, (b"use-as-dictionary", use.encode())), takes_deltas=True)

    def names_dictionary(self, entry: Entry, query: bytes) -> bool:
        """Tell whether ``query`` makes the front page's URL that of its dictionary: it names what the page holds now."""
        if entry.path != FRONT_PAGE or entry.digest is None or not self._links:
            return False
        return query == f"{DICTIONARY_QUERY}{entry.digest.hex()[:_QUERY_DIGITS]}".encode()

    def _link(self, url: str, asset: Asset) -> Field:
        digest = (asset.representations[0].digest or b"").hex()[:_QUERY_DIGITS]
        return b"link", f'<{format_target(url)}?{DICTIONARY_QUERY}{digest}>; rel="compression-dictionary"'.encode()

    # What there is

    async def find(
        self, entry: Entry, dictionary: bytes, mark: object, is_dictionary: Callable[[bytes], bool]
    ) -> FoundDelta | Lack:
        """Return the delta of the file ``entry`` against the ``dictionary`` with this SHA-256, or why there is none.

        ``mark`` changes when something else is served; ``is_dictionary`` tells whether the site's visitors may hold a file.
        Callers at once share one look at the disk.
        """
        assert entry.digest is not None  # noqa: S101 - files of releases have one
        pair = entry.digest, dictionary
        with self._lock:
            if mark != self._mark:
                self._mark, self._found, self._lacking = mark, {}, {}
            if (found := self._found.get(pair)) is not None:
                return found
            if pair in self._lacking:
                return Lack.NONE
            if pair in self._waiting:
                return Lack.YET
            recorded = entry.deltas.get(dictionary)
            if recorded is None and self._makers is None:
                return Lack.NONE
            future = self._looking.get(pair)
            if future is None:
                future = self._looking[pair] = self._files.submit(self._look, entry, pair, recorded, is_dictionary)
                future.add_done_callback(lambda _: self._looking.pop(pair, None))
        return await wait_future(future)

    def distrust(self, delta: Representation) -> None:
        """Have the disk looked at before ``delta`` is sent again: what was read did not fit."""
        with self._lock:
            for pair in [pair for pair, found in self._found.items() if found.representation is delta]:
                del self._found[pair]

    def _look(
        self, entry: Entry, pair: _Pair, recorded: tuple[bytes, int] | None, is_dictionary: Callable[[bytes], bool]
    ) -> FoundDelta | Lack:
        new, dictionary = pair
        if recorded is None and is_dictionary(dictionary):
            recorded = self._recorded(new, dictionary)
            if recorded is None and self._order(entry, pair):
                return Lack.YET
        found = self._open(entry, dictionary, *recorded) if recorded else None
        return self._note(pair, found)

    def _recorded(self, new: bytes, dictionary: bytes) -> tuple[bytes, int] | None:
        """Return blob and size of a delta that was made since the index was written, here or by another process."""
        for one in self._library.deltas_of(Digest(new.hex())):
            if one.dictionary == dictionary.hex():
                return bytes.fromhex(one.digest), one.size
        return None

    def _note(self, pair: _Pair, found: FoundDelta | None) -> FoundDelta | Lack:
        with self._lock:
            if found is None:
                while len(self._lacking) >= LIMIT_LACKING:
                    self._lacking.pop(next(iter(self._lacking)))
                self._lacking[pair] = None
                return Lack.NONE
            while len(self._found) >= LIMIT_FOUND:
                self._found.pop(next(iter(self._found)))
            self._found[pair] = found
            return found

    def _open(self, entry: Entry, dictionary: bytes, digest: bytes, size: int) -> FoundDelta | None:
        """Return a delta whose blob is whole and whose stream names ``dictionary``: browsers break the page over another."""
        source = self._blobs.find(digest, size, f"{entry.path} as a delta")
        if source is None:
            return None
        try:
            descriptor, _ = open_regular(source.path)
        except OSError:  # gone since
            return None
        with open(descriptor, "rb") as file:
            header = file.read(DCZ_HEADER_BYTES)
        if header != DCZ_MAGIC + dictionary:
            logger.error("/%s has a delta, %s, that is not of the dictionary it is recorded for", entry.path, source.path)
            return None
        assert entry.responses is not None  # noqa: S101 - it is a file's
        media_type = entry.responses.asset.representations[0].media_type
        return FoundDelta(Representation(ContentCoding.DCZ, media_type, size, digest), source)

    # What is made on demand

    def _order(self, entry: Entry, pair: _Pair) -> bool:
        """Have a delta made, or expect it to be made some time; False if none can be."""
        assert entry.responses is not None  # noqa: S101 - it is a file's
        representations = entry.responses.asset.representations
        if self._makers is None or representations[0].length > ON_DEMAND_LIMIT_BYTES:
            return False
        with self._lock:
            if pair in self._waiting or len(self._waiting) >= LIMIT_WAITING:
                return True
            self._waiting.add(pair)
        made = self._makers.submit(self._make, entry, pair, min(one.length for one in representations))
        made.add_done_callback(lambda _: self._waiting.discard(pair))
        return True

    def _make(self, entry: Entry, pair: _Pair, plain_bytes: int) -> None:
        new, dictionary = (Digest(one.hex()) for one in pair)
        try:
            delta = keep_delta(self._library, new, dictionary, plain_bytes)
        except (OSError, AssetServerError) as error:
            logger.warning("no delta of /%s was made: %s", entry.path, error)
            delta = None
        self._note(pair, self._open(entry, pair[1], bytes.fromhex(delta.digest), delta.size) if delta else None)


def is_eligible(path: str, asset: Asset) -> bool:
    """Tell whether a file may come as a delta: a text, neither tiny nor huge, that browsers load by themselves."""
    plain = asset.representations[0]
    in_bounds = MINIMUM_BYTES <= plain.length <= LIMIT_BYTES
    return in_bounds and is_compressible(plain.media_type) and not path.endswith(".map")


def _usable_s(asset: Asset) -> int:
    return max((usable_s(value.decode("latin-1")) for name, value in asset.cache_fields if name == b"cache-control"), default=0)
