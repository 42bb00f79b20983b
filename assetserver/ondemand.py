"""Pictures on demand: ``GET /image/OPTIONS/PATH`` makes what ``PATH`` names smaller, an upload or a file of a release.

    /image/width=640/assets/harbour.jpg        /image/width=640,format=webp/media/ID/NAME        /image/PRESET/…

Order: one spelling (308), signature or ladder, the source, as a GET of it would find it, its header, the format that the client
shows, and then the picture: from the store, or ordered as a job. Who waits too long gets a larger picture, for a moment.

Laws:
- Who may not read a source does not get it smaller. A signature for ``/image`` is for that picture alone.
- Nothing is decoded here, and nothing is ordered whose header is refused.
- Answers that depend on ``Accept`` say so, errors and redirects among them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from .access.keys import KeyRing
from .access.signedurls import IMAGE, Admission, is_signed, verify_url
from .delivery.assetfiles import AssetFiles
from .delivery.claims import OFFER, Claim
from .delivery.livefolder import Entry
from .delivery.mediafiles import ADMITTED
from .delivery.requests import encoded_prefix, query_suffix, raw_path, read_request
from .delivery.variantfolder import VARY, VariantEntry, VariantFolder, dress, make_entry
from .delivery.variantstore import StoredPicture
from .errors import (
    AssetServerError,
    ForbiddenError,
    OverloadedError,
    PictureLateError,
    PictureMissingError,
    PictureRefusedError,
)
from .images.headers import Facts
from .images.studio import Studio
from .ondemandjobs import Order, Pool, Subject, order_picture
from .ondemandorders import Workshop
from .ondemandurls import MOUNT, PictureUrls, Wanted
from .semantics.picturetypes import PictureClass, select_picture_class
from .semantics.representation import Asset, ContentCoding
from .semantics.respond import AssetResponses, respond
from .semantics.targets import AssetPath, RefusedTarget, Target, is_spelled, parse_target
from .storage.pools import wait_future
from .uploads.answers import render_problem

STAND_IN = "public, max-age=5"
"""What may be kept of a picture that only stands in for another."""

LIMIT_FACTS = 4096
_ATTEMPTS = 3
_SHOWS: dict[PictureClass, tuple[str, ...]] = {
    "base": ("jpeg", "png", "gif"),
    "webp": ("jpeg", "png", "gif", "webp"),
    "avif": ("jpeg", "png", "gif", "webp", "avif"),
}


class PictureSource(NamedTuple):
    """What a picture is made of: a file that ``files`` serve, as ``asset`` describes it, among the blobs of ``pool``."""

    files: AssetFiles
    pool: Pool
    entry: Entry
    asset: Asset

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file."""
        assert self.entry.digest is not None  # noqa: S101 - who found it looked
        return self.entry.digest

    @property
    def is_private(self) -> bool:
        """Whether not everybody may read it."""
        return b"private" in self._directives

    @property
    def stand_in(self) -> str:
        """The policy of what stands in for a picture made of it."""
        return "no-store" if b"no-store" in self._directives else STAND_IN

    @property
    def _directives(self) -> set[bytes]:
        values = [value for name, value in self.asset.cache_fields if name == b"cache-control"]
        return {one.strip().lower() for value in values for one in value.split(b",")}


FindFiles = Callable[[Scope, Target], tuple[AssetFiles, Pool, Scope] | None]
"""(scope, target of the source) → who serves it, whose blobs those are, and the scope of a GET of it."""


class Asked(NamedTuple):
    """What is asked for, once it is clear that it may be; ``kind`` is what the client shows."""

    scope: Scope
    wanted: Wanted
    target: Target
    admission: Admission | None
    kind: PictureClass

    @property
    def varies(self) -> bool:
        """Whether the answer depends on ``Accept``."""
        return self.wanted.transform.format == "auto"


class PictureFiles(AssetFiles):
    """Serves pictures made of what ``find_files`` finds.

    Args:
        urls: Which options there are, and what is so of every picture.
        find_files: Says who serves the source.
        workshop: Where pictures are got.
        studio: Looks at headers; makes nothing here.
        load_keys: Returns the keys that sign; called when the first signed URL comes.
        wants_signature: Serve signed URLs alone.
        keeps_apart: What strangers wrote has a host of its own, and never stands in here: clients are sent there.
        keywords: Those of ``AssetFiles``, ``directory`` and ``packages`` aside.
    """

    folder: VariantFolder

    def __init__(
        self,
        urls: PictureUrls,
        find_files: FindFiles,
        workshop: Workshop,
        studio: Studio,
        *,
        load_keys: Callable[[], Awaitable[KeyRing]],
        wants_signature: bool = False,
        keeps_apart: bool = False,
        **keywords: Any,
    ) -> None:
        self._urls = urls
        self._find_files = find_files
        self._workshop = workshop
        self._load_keys = load_keys
        self._wants_signature = wants_signature
        self._keeps_apart = keeps_apart
        self._studio = studio
        self._facts: dict[bytes, Facts | str] = {}
        super().__init__(**keywords)

    def _open_folder(self) -> VariantFolder:
        return VariantFolder(self._workshop.store, self._resources.files)

    async def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return await self.get_response("", scope)
        try:
            return await self._answer_url(scope)
        except AssetServerError as error:
            fields = {name.decode(): value.decode("latin-1") for name, value in (*self._fields, VARY)}
            return render_problem(error, fields)

    async def _answer_url(self, scope: Scope) -> Response:
        asked = await self._read(scope)
        location = f"{encoded_prefix(scope)}/{asked.wanted.options}{asked.target.canonical}"
        if not is_spelled(raw_path(scope), location):
            return self._lead_to(308, location + query_suffix(scope), self.redirect_cache)
        source = await self._find_source(asked)
        try:
            order = await self._choose(asked, source)
            return await self._deliver(asked, source, order)
        except PictureRefusedError:
            if asked.wanted.transform.onerror != "redirect" or source.is_private:
                raise
            return self._lead_to_source(asked)

    def _lead_to(self, status: int, location: str, policy: str) -> Response:
        answer = self._redirect_to(status, location, policy)
        answer.headers["Vary"] = "Accept"
        return answer

    def _lead_to_source(self, asked: Asked) -> Response:
        return self._lead_to(302, encoded_prefix(asked.scope).removesuffix(MOUNT) + asked.target.canonical, STAND_IN)

    # What is asked for

    async def _read(self, scope: Scope) -> Asked:
        """Return what the URL asks for, in its one spelling. Raises ``TransformError``, or for who may not."""
        segment, _, rest = raw_path(scope)[len(encoded_prefix(scope)) + 1 :].partition("/")
        wanted = self._urls.read(segment)
        target = parse_target("/" + rest)
        if isinstance(target, RefusedTarget):
            raise PictureMissingError(f"there can be nothing at /{rest[:100]}: {target.reason}")
        admission = await self._admit(scope, f"{wanted.options}/{target.path}")
        if admission is None:
            wanted = self._urls.admit(wanted)
        kind = select_picture_class(", ".join(_values(scope, b"accept")))
        return Asked(scope, wanted, target, admission, kind)

    async def _admit(self, scope: Scope, path: str) -> Admission | None:
        """Return what a signature admits to, or None without one. Raises ``ForbiddenError``."""
        query = scope.get("query_string", b"")
        if not self._wants_signature and not is_signed(query):
            return None
        found = verify_url(await self._load_keys(), path, query, now=time.time(), purpose=IMAGE)
        if isinstance(found, Admission):
            return found
        raise ForbiddenError(f"{found.value}; `assetserver sign {MOUNT}/…` makes one")

    async def _find_source(self, asked: Asked) -> PictureSource:
        """Return what the picture is made of. Raises ``PictureMissingError``, or ``ForbiddenError``."""
        nothing = PictureMissingError(f"there is no upload and no published file at {asked.target.canonical}")
        found = self._find_files(asked.scope, asked.target)
        if found is None:
            raise nothing
        files, pool, scope = found
        if asked.admission is not None:
            scope[ADMITTED] = asked.admission
        try:
            source = await files.find_source(AssetPath(files.get_path(scope)), scope)
        except HTTPException as error:
            if error.status_code == ForbiddenError.status:
                raise ForbiddenError(f"{error.detail}; `assetserver sign {MOUNT}/…` makes one") from error
            raise nothing from error
        if source is None or source[0].digest is None:
            raise nothing
        return PictureSource(files, pool, *source)

    async def _choose(self, asked: Asked, source: PictureSource) -> Order:
        """Return what has to be made. Raises ``PictureRefusedError`` for what the header already shows."""
        facts = await self._look(source)
        subject = Subject(source.pool, source.digest.hex(), facts.frames > 1)
        return order_picture(self._urls.common, subject, asked.wanted.transform, asked.kind)

    async def _look(self, source: PictureSource) -> Facts:
        """Return what the header of a source says, looked at once for each content."""
        digest = source.digest
        if (known := self._facts.get(digest)) is None:
            known = await wait_future(self._resources.files.submit(self._look_now, source.entry))
            while len(self._facts) >= LIMIT_FACTS:
                self._facts.pop(next(iter(self._facts)))
            self._facts[digest] = known
        if isinstance(known, str):
            raise PictureRefusedError(known)
        return known

    def _look_now(self, entry: Entry) -> Facts | str:
        try:
            return self._studio.look(entry.sources[ContentCoding.IDENTITY].path)
        except PictureRefusedError as error:
            return error.reason
        except OSError as error:
            raise OverloadedError(f"the picture cannot be read: {error.strerror}") from error

    # The answer

    async def _deliver(self, asked: Asked, source: PictureSource, order: Order) -> Response:
        path = _path_of(asked, source, order)
        for _ in range(_ATTEMPTS):
            entry = self.folder.recall(path, source.entry) or await self._take(asked, source, order)
            if entry is None:
                return await self._stand_in(asked, source, order)
            if response := await self._open_now(entry, entry.responses, asked):
                self._offer_entry(asked, entry)
                return response
            self.folder.distrust(path)
        raise OverloadedError("pictures are removed faster than they can be read; give images.cache_limit_bytes more room")

    async def _take(self, asked: Asked, source: PictureSource, order: Order) -> VariantEntry | None:
        """Return the entry of a picture that is there, or comes in time."""
        found = await self._workshop.obtain(order)
        return found and self._add_entry(found, asked, source, order)

    def _add_entry(self, found: StoredPicture, asked: Asked, source: PictureSource, order: Order) -> VariantEntry:
        asset = self._dress(source.asset, varies=asked.varies)
        entry = make_entry(_path_of(asked, source, order), found, asset, self.folder.clock_s())
        entry.key, entry.source, entry.folder = order.key, source.entry, source.files.folder
        self.folder.add(entry)
        return entry

    def _dress(self, asset: Asset, *, varies: bool) -> Asset:
        """Return what a picture made of ``asset`` says of itself."""
        return dress(asset, varies=varies)

    async def _stand_in(self, asked: Asked, source: PictureSource, order: Order) -> Response:
        """Answer with a larger picture, or with the source. Raises ``PictureLateError`` where neither is for who asks."""
        late = PictureLateError("the picture is being made; ask again in a moment")
        if source.is_private:
            raise late
        wider = await self._find_wider(asked, source, order)
        if wider is not None and wider.responses is not None:
            asset = dress(wider.responses.asset, cache_control=source.stand_in)
            if response := await self._open_now(wider, AssetResponses(asset), asked):
                return response
            self.folder.distrust(wider.path)
        if (await self._look(source)).format not in _SHOWS[asked.kind]:
            raise late
        if source.pool == "media" and self._keeps_apart:
            return self._lead_to_source(asked)
        asset = dress(source.asset, varies=asked.varies, cache_control=source.stand_in)
        if response := await self._open_now(source.entry, AssetResponses(asset), asked):
            return response
        raise late

    async def _find_wider(self, asked: Asked, source: PictureSource, order: Order) -> VariantEntry | None:
        """Return the nearest larger picture that is there: hashed for the first who needs it, and known to all others."""
        for one in list_wider(order, self._urls.ladder):
            if (entry := self.folder.recall(_path_of(asked, source, one), source.entry)) is not None:
                return entry
            if (found := await self._workshop.find(one)) is not None:
                return self._add_entry(found, asked, source, one)
        return None

    async def _open_now(self, entry: Entry, responses: AssetResponses | None, asked: Asked) -> Response | None:
        """Return the answer that ``responses`` give, with the bytes of ``entry``, or None if those are there no more."""
        assert responses is not None  # noqa: S101 - it is a file's
        return await self._open(entry, respond(responses, read_request(asked.scope), now=int(time.time())))

    def _offer_entry(self, asked: Asked, entry: VariantEntry) -> None:
        """Let the hot path repeat the answer, as long as its source stands, and its signature."""
        offer = asked.scope.get(OFFER)
        if offer is None:
            return
        left_s = asked.admission.expires - time.time() if asked.admission else float("inf")
        offer(Claim(self.folder.get, entry.path, entry, self.folder.clock_s, self.folder.clock_s() + left_s, 0.0))


def _path_of(asked: Asked, source: PictureSource, order: Order) -> AssetPath:
    """Return where the entry of a picture is: what it is of, made how, and whether its answer varies."""
    return AssetPath(f"{id(source.files)}/{order.key}/{asked.varies:d}/{source.entry.path}")


def list_wider(order: Order, ladder: tuple[int, ...]) -> list[Order]:
    """Return orders for the same picture in the wider widths of ``ladder``, the nearest first."""
    transform = order.plan.transform
    if not transform.width or transform.height:
        return []
    return [
        msgspec.structs.replace(
            order, plan=msgspec.structs.replace(order.plan, transform=msgspec.structs.replace(transform, width=width))
        )
        for width in ladder
        if width > transform.width
    ]


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for found, value in scope["headers"] if found == name]
