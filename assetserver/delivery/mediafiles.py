"""``MediaFiles``: what was uploaded, with the HTTP of ``AssetFiles``; public, or for who has a signed URL.

What strangers wrote cannot run in the pages of anybody: see ``semantics.untrusted``. An upload never changes, and its own URL
may be kept for a year; by name it is asked for again each time. What needs a signed URL is for no shared cache, and the hot
path repeats it for that very URL, until it expires.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from assetserver.access.keys import KeyRing
from assetserver.access.signedurls import Admission, UrlRefusal, verify_url
from assetserver.semantics.caching import ERROR, IMMUTABLE, PAGE, CachePolicy
from assetserver.semantics.representation import Asset, Representation
from assetserver.semantics.respond import AssetResponses
from assetserver.semantics.targets import AssetPath
from assetserver.semantics.untrusted import select_serving

from .assetfiles import AssetFiles
from .claims import OFFER, Claim
from .livefolder import FRESH_S, Entry
from .mediafolder import Media, MediaEntry, MediaFolder, Medium, parse_media_path

PRIVATE = "private, no-cache"
"""The browser keeps it and asks each time, with the signature."""

ADMITTED = "assetserver.admitted"
"""Under this name a scope holds the ``Admission`` of who showed a signature, here or before."""


class MediaFiles(AssetFiles):
    """Serves the uploads of ``media``.

    Args:
        media: Where they are looked up.
        path_of: Says where the blob with a hexadecimal digest lies.
        is_signed: Tells whether a collection wants signed URLs.
        load_keys: Returns the keys that sign; called when the first signed URL comes.
        read_mark: Changes whenever a name gets a newer upload or an upload is removed; see ``MediaFolder``.
        keywords: Those of ``AssetFiles``, ``directory`` and ``packages`` aside. A rule of ``cache`` that matches
            wins over what is said above, but never for what wants a signed URL.
    """

    folder: MediaFolder
    trust_s = 0.0  # who has replaced or removed an upload sees that in the next answer

    def __init__(
        self,
        media: Media,
        path_of: Callable[[str], str],
        *,
        is_signed: Callable[[str], bool],
        load_keys: Callable[[], Awaitable[KeyRing]],
        read_mark: Callable[[], bytes] = bytes,
        **keywords: Any,
    ) -> None:
        self._media = media
        self._path_of = path_of
        self._is_signed = is_signed
        self._load_keys = load_keys
        self._read_mark = read_mark
        super().__init__(**keywords)

    def _open_folder(self) -> MediaFolder:
        return MediaFolder(self._media, self._path_of, self._describe, self._resources, read_mark=self._read_mark)

    async def _find(self, path: AssetPath, scope: Scope) -> Entry | Response | None:
        """Return the upload, if the URL gives access to it.

        By name, what wants a signature is a miss without: whether there is such a name is nobody's business.
        """
        entry = await self.folder.lookup(path)
        if entry.medium is None:
            return None
        if ADMITTED in scope or not self._is_signed(entry.medium.collection):
            return entry
        found = verify_url(await self._load_keys(), path, scope.get("query_string", b""), now=time.time())
        if isinstance(found, Admission):
            scope[ADMITTED] = found
            return entry
        if found is not UrlRefusal.EXPIRED and not _names_id(path):
            return None
        raise HTTPException(403, found.value, {"Cache-Control": ERROR, "X-Content-Type-Options": "nosniff"})

    def _describe(
        self, path: AssetPath, medium: Medium, representations: tuple[Representation, ...], negotiable: bool
    ) -> Asset:
        own = select_serving(medium.media_type, medium.name).fields
        names = {name for name, _ in own}
        return Asset(
            representations,
            negotiable,
            cache_fields=self.cache.fields_of(self._select_policy(path, medium)),
            fields=(*(field for field in self._fields if field[0] not in names), *own),
        )

    def _select_policy(self, path: AssetPath, medium: Medium) -> CachePolicy:
        if self._is_signed(medium.collection):
            return CachePolicy(PRIVATE)
        default = CachePolicy(IMMUTABLE if _names_id(path) else PAGE)
        return self.cache.find_rule(path) or default

    def _remember(self, scope: Scope, entry: Entry, responses: AssetResponses) -> None:
        """The short way does not look at queries: what wants a signature in one may only be repeated for the whole target."""
        assert isinstance(entry, MediaEntry)  # noqa: S101 - the folder has no others
        if entry.medium is None or not self._is_signed(entry.medium.collection):
            super()._remember(scope, entry, responses)
        elif self._may_be_hot and (offer := scope.get(OFFER)) is not None:
            offer(self._claim_signed(scope, entry))

    def _claim_signed(self, scope: Scope, entry: MediaEntry) -> Claim:
        admission: Admission = scope[ADMITTED]
        left_s = admission.expires - time.time()
        deadline_s = min(entry.checked_s + FRESH_S, self.folder.clock_s() + left_s)
        return self._claim_entry(entry, deadline_s)


def _names_id(path: str) -> bool:
    asked = parse_media_path(path)
    return asked is not None and bool(asked.id)
