"""Resumable uploads of the IETF over HTTP: requests become calls of the service, what it returns becomes answers.

Experimental. Source: draft-ietf-httpbis-resumable-upload-05 to -11 (interop versions 6 to 8).

Laws:
- An offset that is told is synced: no byte before it need be sent again (§4.1). So progress within a request is not told.
- 104 is sent where the server can, before the body is asked for, and to clients of the same interop version only.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from ..errors import AssetServerError, OffsetConflictError, TooLargeError
from ..semantics.digestfields import format_digests
from ..semantics.parameters import parse_filename
from . import resumable
from .answers import Handler, render_json, render_problem
from .authorising import restrict, spend
from .desk import UNHEARD, Desk
from .intake import check_framing, read_digests, read_type
from .naming import clean_name
from .records import NewUpload, Upload

INTERIM = "assetserver.interim"
"""The extension of a scope that writes interim answers: ``{"write": write(status, fields)}``."""

_HASHES = {"sha-512": "sha512", "sha-256": "sha256"}
"""Algorithms of ``Content-Digest``, the strongest first, as ``hashlib`` spells them."""


class ResumableEndpoint:
    """The requests of resumable uploads, one method for each."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def create(self, request: Request) -> Response:
        """Answer a request with ``Upload-Complete`` to the collection: 201, as for any upload if it brought all of it."""
        return await self._answer(self._create, request)

    async def state(self, request: Request) -> Response:
        """Answer a HEAD: 204 with the offset that the next PATCH may use."""
        return await self._answer(self._state, request)

    async def append(self, request: Request) -> Response:
        """Answer a PATCH: 204, or as for any upload if it brought the rest."""
        return await self._answer(self._append, request)

    async def remove(self, request: Request) -> Response:
        """Answer a DELETE: 204, and the upload is gone."""
        return await self._answer(self._remove, request)

    def describe(self) -> dict[str, str]:
        """Return the fields that an OPTIONS request is answered with."""
        return {"Accept-Patch": resumable.CONTENT_TYPE, **self._limits()}

    async def _create(self, request: Request) -> Response:
        principal = await self._desk.admit(request)
        creation = resumable.parse_creation(request.headers)
        self._desk.check_size(creation.length)
        new = await restrict(request, principal, _describe_new(request, creation))
        checksum = _read_checksum(request)
        upload = await self._desk.service.create(new)
        location = self._desk.locate(request, upload)
        is_announced = self._announce(request, upload, location, creation.interop)
        try:
            upload = await self._take_first(request, upload, creation, checksum)
        except UNHEARD:
            if not is_announced:
                await self._desk.abandon(request, upload)
            raise
        return await self._report(upload, HTTPStatus.CREATED, {"Location": location})

    async def _take_first(
        self, request: Request, upload: Upload, creation: resumable.Creation, checksum: tuple[str, bytes] | None
    ) -> Upload:
        """Append what came with the creation."""
        return await self._desk.service.append(
            upload.id,
            0,
            self._desk.chunks(request),
            content_length=creation.content_length,
            checksum=checksum,
            completes=creation.completes,
        )

    def _announce(self, request: Request, upload: Upload, location: str, interop: int | None) -> bool:
        """Tell the client where the upload goes on, should it be cut off (§5.2); return whether that was possible.

        Who has been told has an upload, whatever becomes of this request: so the use of their grant is spent.
        """
        extension = request.scope.get("extensions", {}).get(INTERIM)
        if extension is None or interop is None:
            return False
        spend(request)
        fields = {"Location": location, "Upload-Draft-Interop-Version": str(interop)} | self._limits(upload)
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
        extension["write"](resumable.INTERIM_STATUS, encoded)
        return True

    async def _state(self, request: Request) -> Response:
        upload = await self._desk.settle(await self._desk.find(request, "read"))
        return Response(None, HTTPStatus.NO_CONTENT, resumable.format_state(upload) | self._limits(upload))

    async def _append(self, request: Request) -> Response:
        upload = await self._desk.find(request, "write")
        append = resumable.parse_append(request.headers)
        checksum = _read_checksum(request)
        if upload.state == "complete":
            _refuse_more(upload, append)
        upload = await self._desk.settle(upload)
        if append.offset != upload.offset:
            raise resumable.MismatchingOffsetError(upload.offset, append.offset)
        resumable.check_length(upload, append)
        if append.length is not None and upload.size is None:
            self._desk.check_size(append.length)
            upload = await self._desk.service.declare_length(upload.id, append.length)
        upload = await self._desk.service.append(
            upload.id,
            append.offset,
            self._desk.chunks(request),
            content_length=append.content_length,
            checksum=checksum,
            completes=append.completes,
        )
        return await self._report(upload, HTTPStatus.OK if upload.state == "complete" else HTTPStatus.NO_CONTENT)

    async def _remove(self, request: Request) -> Response:
        await self._desk.remove(request)
        return Response(None, HTTPStatus.NO_CONTENT)

    async def _report(self, upload: Upload, status: int, fields: dict[str, str] | None = None) -> Response:
        fields = resumable.format_progress(upload) | self._limits(upload) | (fields or {})
        if upload.state != "complete":
            return Response(None, status, fields)
        fields["Repr-Digest"] = format_digests({"sha-256": bytes.fromhex(upload.sha256)})
        return render_json({"uploads": await self._desk.describe_new([upload])}, status, fields)

    def _limits(self, upload: Upload | None = None) -> dict[str, str]:
        """Return ``Upload-Limit``, for a new upload or the one given."""
        expires = None if upload is None else upload.expires
        return resumable.format_limits(self._desk.max_size, None if expires is None else int(expires - self._desk.clock()))

    async def _answer(self, handler: Handler, request: Request) -> Response:
        try:
            answer = await handler(request)
        except AssetServerError as error:
            answer = render_problem(error, self._limits() if isinstance(error, TooLargeError) else _explain(error))
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer


def _refuse_more(upload: Upload, append: resumable.Append) -> None:
    """Raise what an append to a complete upload is answered with (§5.4): nothing may change it."""
    if append.content_length != 0:
        raise resumable.InconsistentLengthError(f"the upload is complete, with {upload.size} bytes")
    raise resumable.CompletedUploadError("the upload is complete already")


def _explain(error: AssetServerError) -> dict[str, str]:
    if isinstance(error, OffsetConflictError):
        return {"Upload-Offset": str(error.offset), "Upload-Complete": "?0"}
    return {}


def _describe_new(request: Request, creation: resumable.Creation) -> NewUpload:
    check_framing(request.headers)
    name = request.query_params.get("name") or parse_filename(request.headers.get("content-disposition", "")) or ""
    return NewUpload(
        name=clean_name(name),
        length=creation.length,
        declared_type=read_type(request.headers.get("content-type", "")),
        collection=request.query_params.get("collection", ""),
        kind="resumable",
        expected=read_digests(request.headers, ["repr-digest"]),
    )


def _read_checksum(request: Request) -> tuple[str, bytes] | None:
    """Return the strongest digest of ``Content-Digest``, which the content of this request must have."""
    digests = read_digests(request.headers, ["content-digest"])
    return next(((_HASHES[name], digests[name]) for name in _HASHES if name in digests), None)
