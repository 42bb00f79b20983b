"""``/uploads``: files in one request, as a form or as they are; files by name; what is there.

Each handler goes the same way: who asks, what they bring, whether it may be; only then the service reads the body. What can be
refused by its header is refused before the first byte.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from urllib.parse import urlencode

import anyio
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from assetserver.access.principal import Principal
from assetserver.bodies import body_of
from assetserver.errors import AssetServerError, BadRequestError, TooLargeError, UploadMissingError
from assetserver.semantics.parameters import parse_media_type

from .answers import etag_of, render_json
from .authorising import authorise, check_owner, read_collection, restrict
from .desk import Desk
from .intake import Conditions, Digesting, check_framing, parse_digest_field, read_digests, read_raw, read_type
from .metadata import FormMetadata
from .multipart import LIMIT_FIELDS, LIMIT_FIELDS_BYTES, FormParts, PartHeader, read_boundary
from .naming import clean_name, parse_name
from .records import NewUpload, Upload

logger = logging.getLogger(__name__)

DEFAULT_PAGE = 100
LIMIT_PAGE = 1000
STOP_LIMIT_S = 10.0
SMALL_BYTES = 64 << 10
"""What may come whole with its header, and is then stored at once: as much as Uvicorn holds before it stops reading."""

_FORM_SLACK_BYTES = 2 << 20
"""What a form has beside its files: delimiters, part headers, fields."""


class UploadEndpoint:
    """The handlers of one desk; ``files`` is how many files one form may bring."""

    def __init__(self, desk: Desk, files: int) -> None:
        self._desk = desk
        self._service = desk.service
        self._files = files
        self._forms: set[anyio.Event] = set()

    async def close(self) -> None:
        """Wait until forms that were cut have taken back what they brought. The server takes no more requests by then.

        Whoever stops the server cancels what still runs; a second time, and for good, once this has returned.
        """
        with anyio.move_on_after(STOP_LIMIT_S):
            for ended in tuple(self._forms):
                await ended.wait()

    async def create(self, request: Request) -> Response:
        """``POST /uploads``: 201 with what became of each file, in the order of the form."""
        principal = await authorise(request, "upload")
        found = parse_media_type(request.headers.get("content-type", ""))
        if found is not None and found.value.startswith("multipart/"):
            uploads = await self._take_form(request, principal)
            return await self._answer(uploads, HTTPStatus.CREATED)
        new = await restrict(request, principal, read_raw(request, body_of(request).length))
        upload = await self._take(request, new)
        return await self._answer([upload], HTTPStatus.CREATED, {"Location": self._desk.locate(request, upload)})

    async def put(self, request: Request) -> Response:
        """``PUT /uploads/by-name/{name}``: 201 where the name is new, 200 where it now means other bytes than before."""
        principal = await authorise(request, "upload")
        new = read_raw(request, body_of(request).length, by_name=request.path_params["name"])
        new = await restrict(request, principal, new)
        current = await self._find_by_name(new)
        if current is not None:
            check_owner(principal, current.owner, "write")
        conditions = Conditions(request.headers)
        conditions.check(current)
        new = replace(
            new,
            if_none_match=conditions.wants_nothing_there,
            if_match=conditions.if_match,
            only_own=not principal.has_scope("admin"),
        )
        upload = await self._take(request, new)
        fields = {"Location": self._desk.locate(request, upload), "ETag": str(etag_of(upload))}
        return await self._answer([upload], HTTPStatus.OK if current else HTTPStatus.CREATED, fields)

    async def show(self, request: Request) -> Response:
        """``GET /uploads/{id}``: what is known of an upload."""
        principal = await authorise(request, "upload", "read")
        upload = await self._service.find(request.path_params["id"])
        check_owner(principal, upload.owner, "read")
        return render_json((await self._desk.describe([upload]))[0])

    async def show_by_name(self, request: Request) -> Response:
        """``GET /uploads/by-name/{name}``: what is known of what has the name now."""
        principal = await authorise(request, "upload", "read")
        name = parse_name(request.path_params["name"])
        upload = await self._service.find_by_name(name, read_collection(request))
        check_owner(principal, upload.owner, "read")
        return render_json((await self._desk.describe([upload]))[0])

    async def show_all(self, request: Request) -> Response:
        """``GET /uploads``: the caller's, or with the scope for it everybody's; the newest first, by pages."""
        principal = await authorise(request, "upload", "read")
        owner = None if principal.has_scope("read") else principal.id
        limit = _read_limit(request.query_params.get("limit"))
        uploads, cursor = await self._service.list(owner=owner, cursor=request.query_params.get("cursor", ""), limit=limit)
        fields = {"Link": f'</uploads?{urlencode({"limit": limit, "cursor": cursor})}>; rel="next"'} if cursor else {}
        return render_json({"uploads": await self._desk.describe(uploads), "next": cursor or None}, fields=fields)

    async def _take(self, request: Request, new: NewUpload) -> Upload:
        await self._service.check(new)
        content = body_of(request).take_whole(SMALL_BYTES)
        if content is not None:
            return await self._service.store(new, content)
        return await self._service.receive(new, self._desk.chunks(request))

    async def _find_by_name(self, new: NewUpload) -> Upload | None:
        try:
            return await self._service.find_by_name(new.by_name, new.collection)
        except UploadMissingError:
            return None

    async def _take_form(self, request: Request, principal: Principal) -> list[Upload]:
        """Take every file of a form, or none: what was stored before something failed is removed again."""
        boundary = read_boundary(request.headers["content-type"])
        check_framing(request.headers)
        digesting = Digesting(read_digests(request.headers, ("content-digest", "repr-digest")))
        await self._check_form(request, principal)
        taken: list[Upload] = []
        ended = anyio.Event()
        self._forms.add(ended)
        try:
            parts = FormParts(boundary, digesting.pass_on(self._desk.chunks(request)))
            await self._take_parts(request, parts, principal, taken)
            digesting.check()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._take_back(taken)
            raise
        finally:
            self._forms.discard(ended)
            ended.set()
        return taken

    async def _take_back(self, taken: list[Upload]) -> None:
        for upload in taken:
            try:
                await self._service.remove(upload.id)
            except AssetServerError as error:  # why the form failed is what the client must be told
                logger.warning("upload %s of a form that failed is still there: %s", upload.id, error)

    async def _check_form(self, request: Request, principal: Principal) -> None:
        """Refuse what can be refused before the form is read: it does not say yet how long each of its files is."""
        length, limit = body_of(request).length, self._desk.max_size
        if length is not None and limit and length > self._files * limit + _FORM_SLACK_BYTES:
            raise TooLargeError(
                f"the form has {length} bytes; {self._files} files of {limit} bytes are the most that it may have"
            )
        told = length if length is not None and (not limit or length <= limit) else None
        collection = read_collection(request, principal)
        form = NewUpload(name="form", length=told, kind="multipart", collection=collection)
        await self._service.check(replace(form, owner=principal.id, account=principal.account))

    async def _take_parts(self, request: Request, parts: FormParts, principal: Principal, taken: list[Upload]) -> None:
        fields = field_bytes = 0
        metadata = FormMetadata()
        while (header := await parts.next_part()) is not None:
            if header.filename is None:
                value = await parts.read_value()
                metadata.add(header.name, value)
                fields, field_bytes = fields + 1, field_bytes + len(value)
                if fields > LIMIT_FIELDS or field_bytes > LIMIT_FIELDS_BYTES:
                    raise TooLargeError(f"the form has more than {LIMIT_FIELDS} fields, or {LIMIT_FIELDS_BYTES} bytes of them")
            elif header.filename:
                if len(taken) == self._files:
                    raise TooLargeError(f"the form has more than {self._files} files")
                new = await restrict(request, principal, _read_part(header, read_collection(request), metadata))
                await self._service.check(new)
                taken.append(await self._service.receive(new, parts.content()))
            else:
                await _pass_over(parts)
        if not taken:
            raise BadRequestError("the form has no file")

    async def _answer(self, uploads: list[Upload], status: int, fields: dict[str, str] | None = None) -> Response:
        return render_json({"uploads": await self._desk.describe_new(uploads)}, status, fields)


def _read_part(header: PartHeader, collection: str, metadata: FormMetadata) -> NewUpload:
    assert header.filename  # noqa: S101 - the caller looked
    return NewUpload(
        name=clean_name(header.filename),
        length=None,
        declared_type=read_type(header.media_type),
        collection=collection,
        kind="multipart",
        metadata=metadata.of_file(),
        expected=parse_digest_field("Repr-Digest", header.digest) if header.digest else {},
    )


async def _pass_over(parts: FormParts) -> None:
    """Pass over what a browser sends where no file was chosen: no name, no bytes."""
    async for _ in parts.content():
        raise BadRequestError("a file of the form has no name")


def _read_limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_PAGE
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= LIMIT_PAGE or len(text) > len(str(LIMIT_PAGE)):
        raise BadRequestError(f"limit must be between 1 and {LIMIT_PAGE}")
    return int(text)
