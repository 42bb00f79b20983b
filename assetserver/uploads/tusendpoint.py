"""tus 1.0 over HTTP: requests become calls of the service, what it returns becomes answers. ``tus`` knows the spelling.

Source: https://tus.io/protocols/resumable-upload (1.0.0); status codes beyond it are those that tus-js-client, Uppy, tuspy and
aiotus retry or give up at.

Laws:
- Who asks, and whether what is asked makes sense, is settled before the body is: the first byte is only then asked for.
- Every answer carries ``Tus-Resumable``, refusals too: without it, clients take it for another server's.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from ..access.principal import Principal
from ..errors import (
    AssetServerError,
    BadRequestError,
    ChecksumMismatchError,
    ForbiddenError,
    OffsetConflictError,
    UploadGoneError,
    UploadMissingError,
)
from . import tus
from .answers import Handler, render_problem
from .authorising import check_owner, restrict
from .desk import UNHEARD, Desk
from .intake import read_type
from .naming import clean_name
from .records import Kind, NewUpload, Upload

_KINDS: dict[str, Kind] = {"whole": "tus", "partial": "tus-partial", "final": "tus-final"}


class TusEndpoint:
    """The requests of tus, one method for each."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(self, request: Request) -> Response:
        """Answer a POST to the collection: 201 with ``Location``, and with ``Upload-Offset`` if it brought content."""
        return await _answer(self._create, request)

    async def state(self, request: Request) -> Response:
        """Answer a HEAD: 200 with the offset that the next PATCH may use."""
        return await _answer(self._state, request)

    async def append(self, request: Request) -> Response:
        """Answer a PATCH: 204 with the new offset."""
        return await _answer(self._append, request)

    async def remove(self, request: Request) -> Response:
        """Answer a DELETE: 204, and the upload is gone."""
        return await _answer(self._remove, request)

    def describe(self) -> dict[str, str]:
        """Return the fields that an OPTIONS request is answered with."""
        return tus.format_configuration(self._desk.max_size)

    async def _create(self, request: Request) -> Response:
        tus.check_version(request.headers)
        principal = await self._desk.admit(request)
        creation = tus.parse_creation(request.headers)
        self._desk.check_size(creation.length)
        new = await restrict(request, principal, _describe_new(request, creation))
        if creation.concat.role == "final":
            await self._check_parts(principal, creation.concat.parts)
            upload = await self._desk.service.concatenate(new)
        else:
            upload = await self._desk.service.create(new)
        if tus.has_upload_type(request.headers):
            upload = await self._take_first(request, upload, creation.checksum)
        fields = {"Location": self._desk.locate(request, upload)}
        return Response(None, 201, fields | self._report(upload))

    async def _take_first(self, request: Request, upload: Upload, checksum: tus.Checksum | None) -> Upload:
        """Append what came with the creation; where that fails, nobody knows the upload, and it is removed."""
        try:
            return await self._take(request, upload, tus.Append(0, None, checksum, tus.parse_content_length(request.headers)))
        except UNHEARD:
            await self._desk.abandon(request, upload)
            raise

    async def _state(self, request: Request) -> Response:
        if "tus-resumable" in request.headers:
            tus.check_version(request.headers)
        upload = await self._desk.settle(await self._desk.find(request, "read"))
        return Response(None, 200, tus.format_state(upload) | tus.format_result(upload, self._desk.locate_media(upload)))

    async def _append(self, request: Request) -> Response:
        tus.check_version(request.headers)
        upload = await self._desk.find(request, "write")
        if upload.kind == "tus-final":
            raise ForbiddenError("a final upload is made of its parts; nothing can be appended to it")
        append = tus.parse_append(request.headers)
        if append.length is not None:
            upload = await self._declare_length(upload, append.offset, append.length)
        upload = await self._take(request, upload, append)
        return Response(None, 204, self._report(upload))

    async def _declare_length(self, upload: Upload, offset: int, length: int) -> Upload:
        """Record the length that a PATCH tells, unless the PATCH is refused anyhow; once told, it stands."""
        if upload.size is None:
            upload = await self._desk.settle(upload)
            if offset != upload.offset:
                raise OffsetConflictError(f"the upload is at {upload.offset}, not {offset}", upload.offset)
            self._desk.check_size(length)
            return await self._desk.service.declare_length(upload.id, length)
        if upload.size != length:
            raise BadRequestError(f"the length is {upload.size}, and cannot become {length}")
        return upload

    async def _take(self, request: Request, upload: Upload, append: tus.Append) -> Upload:
        return await self._desk.service.append(
            upload.id,
            append.offset,
            self._desk.chunks(request),
            content_length=append.content_length,
            checksum=append.checksum,
        )

    async def _remove(self, request: Request) -> Response:
        tus.check_version(request.headers)
        await self._desk.remove(request)
        return Response(None, 204)

    async def _check_parts(self, principal: Principal, parts: tuple[str, ...]) -> None:
        """Refuse parts that are not there, not theirs, not partial, or not complete."""
        for part in parts:
            try:
                upload = await self._desk.service.find(part)
            except (UploadMissingError, UploadGoneError) as error:
                raise BadRequestError(f"Upload-Concat: there is no upload {part}") from error
            check_owner(principal, upload.owner, "read")
            if upload.kind != "tus-partial" or upload.state != "complete":
                raise BadRequestError(f"Upload-Concat: {part} is not a partial upload that is complete")

    def _report(self, upload: Upload) -> dict[str, str]:
        return tus.format_progress(upload) | tus.format_result(upload, self._desk.locate_media(upload))


def _describe_new(request: Request, creation: tus.Creation) -> NewUpload:
    return NewUpload(
        name=clean_name(creation.name),
        length=creation.length,
        declared_type=read_type(creation.media_type),
        collection=request.query_params.get("collection", ""),
        kind=_KINDS[creation.concat.role],
        metadata=creation.metadata,
        parts=creation.concat.parts,
    )


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        answer = await handler(request)
    except AssetServerError as error:
        answer = _refuse(error)
    answer.headers["Tus-Resumable"] = tus.VERSION
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


def _refuse(error: AssetServerError) -> Response:
    """Return the answer to a request that failed, with what tus adds to it."""
    extra: Mapping[str, str] = {}
    if isinstance(error, tus.VersionError):
        extra = {"Tus-Version": tus.VERSION}
    elif isinstance(error, OffsetConflictError):
        extra = {"Upload-Offset": str(error.offset)}
    elif isinstance(error, ChecksumMismatchError):
        error = tus.ChunkMismatchError(str(error))
    return render_problem(error, extra)
