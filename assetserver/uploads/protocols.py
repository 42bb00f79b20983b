"""Which protocol a request to ``/uploads`` speaks: tus, resumable uploads of the IETF, or none, which is a plain upload.

Decides by what only one of them sends; where both would send the same (HEAD, DELETE), by how the upload was begun.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..errors import MethodNotAllowedError
from . import resumable, tus
from .desk import Desk
from .resumableendpoint import ResumableEndpoint
from .tusendpoint import TusEndpoint

COLLECTION_METHODS = "GET, HEAD, OPTIONS, POST"
ITEM_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST"


class UploadProtocols:
    """Both protocols of resumable uploads, behind the URLs of plain ones. That of the IETF can be switched off."""

    def __init__(self, desk: Desk, *, speaks_resumable: bool = True) -> None:
        self._desk = desk
        self._speaks_resumable = speaks_resumable
        self._tus = TusEndpoint(desk)
        self._resumable = ResumableEndpoint(desk)

    async def collection(self, request: Request) -> Response | None:
        """Answer OPTIONS and POST to ``/uploads``, or return None if it is a plain upload.

        Raises ``BadRequestError`` and ``MethodNotAllowedError``: no method but POST can be meant by one.
        """
        if request.method == "OPTIONS":
            return self._options(COLLECTION_METHODS)
        method = tus.parse_method(request.method, request.headers)
        if method != "POST":
            raise MethodNotAllowedError(f"{method} is not for the URL that uploads are created at", COLLECTION_METHODS)
        names = {name for name, _ in request.scope["headers"]}
        if b"tus-resumable" in names:
            return await self._tus.create(request)
        if b"upload-complete" in names:
            is_one = self._speaks_resumable and resumable.parse_complete(request.headers) is not None
            return await self._resumable.create(request) if is_one else None
        if not tus.CREATION_FIELDS.isdisjoint(names):
            return await self._tus.create(request)  # which says that the version is missing
        return None

    async def item(self, request: Request) -> Response:
        """Answer OPTIONS, HEAD, PATCH, DELETE, and POST that stands for one of them, to ``/uploads/{id}``.

        Raises ``BadRequestError`` and ``MethodNotAllowedError``, and for HEAD what ``Desk.find`` does; once a protocol is
        chosen, errors are its answers.
        """
        method = tus.parse_method(request.method, request.headers)
        if method == "OPTIONS":
            return self._options(ITEM_METHODS)
        endpoint = await self._select(request, method)
        match method:
            case "HEAD":
                return await endpoint.state(request)
            case "PATCH":
                return await endpoint.append(request)
            case "DELETE":
                return await endpoint.remove(request)
        raise MethodNotAllowedError(f"{method} is not for the URL of an upload", ITEM_METHODS)

    async def _select(self, request: Request, method: str) -> TusEndpoint | ResumableEndpoint:
        headers = request.headers
        if not self._speaks_resumable or "tus-resumable" in headers or tus.has_upload_type(headers):
            return self._tus
        if method == "HEAD" and "upload-draft-interop-version" not in headers:
            upload = await self._desk.find(request, "read")
            return self._resumable if upload.kind == "resumable" else self._tus
        return self._resumable

    def _options(self, methods: str) -> Response:
        fields = self._tus.describe() | (self._resumable.describe() if self._speaks_resumable else {})
        return Response(None, 204, {"Allow": methods, "Cache-Control": "no-store", **fields})
