"""What the two protocols of resumable uploads need from outside, and what both do with it.

Decides who may touch an upload, before a byte of a body is read; how a protocol spells requests and answers is not known here.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, NamedTuple

from starlette.requests import ClientDisconnect, Request

from ..access.principal import Principal
from ..bodies import Pace, body_of
from ..errors import AssetServerError, BusyError, TooLargeError, UploadBusyError, UploadGoneError
from ..pictures.records import PictureRecord
from .answers import Places, describe_upload, format_media_path
from .authorising import authorise, check_owner, spend
from .records import Upload
from .service import UploadService

COLLECTION_PATH = "/uploads"


class Desk(NamedTuple):
    """Where uploads are received: the service, how URLs are written, and what clients are held to.

    ``max_size`` in bytes; ``clock`` gives seconds since 1970.
    """

    service: UploadService
    places: Places
    max_size: int
    pace: Pace = Pace()
    media_url: str = ""
    clock: Callable[[], float] = time.time

    def locate(self, request: Request, upload: Upload) -> str:
        """Return the URL at which an upload goes on."""
        return self.places.locate(request, f"{COLLECTION_PATH}/{upload.id}")

    def locate_media(self, upload: Upload) -> str:
        """Return the URL at which a complete upload is served."""
        return self.media_url + format_media_path(upload)

    async def describe(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """Return uploads as their JSON says them, with what is made of them."""
        pictures = await self.service.find_pictures(uploads)
        return [self.describe_one(one, pictures.get(one.picture)) for one in uploads]

    def describe_one(self, upload: Upload, picture: PictureRecord | None) -> dict[str, Any]:
        """Return an upload as its JSON says it, with what is known of its picture."""
        return describe_upload(upload, self.media_url, picture)

    async def describe_new(self, uploads: Sequence[Upload]) -> list[dict[str, Any]]:
        """As ``describe``, for uploads that succeeded just now, which nobody is told otherwise whatever the records say."""
        try:
            return await self.describe(uploads)
        except AssetServerError:
            return [describe_upload(one, self.media_url) for one in uploads]

    def chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Return the body of a request as it comes; the first step asks the client to send it."""
        return body_of(request).chunks(self.pace)

    def check_size(self, length: int | None) -> None:
        """Raise ``TooLargeError`` for a length that no upload may have; None is not known yet."""
        if length is not None and length > self.max_size:
            raise TooLargeError(f"an upload may have {self.max_size} bytes, not {length}")

    async def admit(self, request: Request) -> Principal:
        """Return who wants to upload. Raises ``UnauthorisedError`` or ``ForbiddenError`` before the body is asked for."""
        return await authorise(request, "upload")

    async def find(self, request: Request, verb: Literal["read", "write", "remove"]) -> Upload:
        """Return the upload that a request is about, as recorded, if whoever asks may do that with it.

        Raises what ``admit`` raises, ``UploadMissingError``, and ``UploadGoneError``, also for one that failed: it can only be
        removed.
        """
        principal = await self.admit(request)
        upload = await self.service.find(request.path_params["id"])
        check_owner(principal, upload.owner, verb)
        if upload.state == "failed" and verb != "remove":
            raise UploadGoneError(f"upload {upload.id} failed; begin anew")
        return upload

    async def settle(self, upload: Upload) -> Upload:
        """Return an upload with the offset that the next append may use; who writes to it now has given way.

        Raises ``UploadBusyError``, never another: clients take any other failure of HEAD for the end of an upload, and
        begin a new one (tus-js-client 4.3).
        """
        try:
            return await self.service.settle(upload.id)
        except BusyError as error:
            raise UploadBusyError(str(error)) from error

    async def remove(self, request: Request) -> None:
        """Remove the upload that a request is about."""
        upload = await self.find(request, "remove")
        await self.service.remove(upload.id)

    async def abandon(self, request: Request, upload: Upload) -> None:
        """Remove an upload of which no client has heard: what came with its creation was refused, or cut off.

        Where that fails, the use of the grant that it took is spent: the upload is there.
        """
        try:
            await self.service.remove(upload.id)
        except AssetServerError:
            spend(request)
            raise


UNHEARD = (AssetServerError, ClientDisconnect)
"""How a creation fails of which the client has not yet heard the URL."""
