"""A service of uploads in a folder, without any HTTP; what goes in and what can be seen of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio

from assetserver.database.sqlite import SqliteDatabase
from assetserver.database.uploads import SqlUploads
from assetserver.settingtables import UploadSettings
from assetserver.storage.files import FileBlobs
from assetserver.storage.staging import FileStaging
from assetserver.uploads.records import NewUpload, Upload
from assetserver.uploads.service import UploadService


class Clock:
    """Seconds since 1970, as the test wants them."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Store:
    """Everything that uploads need in ``folder``, and a service of it."""

    def __init__(
        self, folder: Path | str, *, patience_s: float = 5.0, clock: Callable[[], float] | None = None, **settings: Any
    ):
        self.folder = str(folder)
        self.database = SqliteDatabase(os.path.join(self.folder, "records.sqlite3"), patience_s=patience_s)
        self.blobs = FileBlobs(os.path.join(self.folder, "media", "blobs"))
        self.staging = FileStaging(os.path.join(self.folder, "media", "staging"), self.blobs)
        self.changes = 0
        self.change_error: Exception | None = None
        settings = {"reserve_bytes": 0, **settings}
        clocks = {} if clock is None else {"clock": clock}
        self.service = UploadService(
            self.staging, self.blobs, self.records, UploadSettings(**settings), changed=self._count, **clocks
        )

    def records(self) -> SqlUploads:
        self.database.open()
        return SqlUploads(self.database)

    def staged(self) -> dict[str, int]:
        """The sizes of staging files by upload."""
        return {one.upload_id: one.size for one in self.staging.list_staged()}

    def stored(self) -> set[str]:
        """The digests of all blobs, each of which is whole."""
        digests = {str(one.digest) for one in self.blobs.list_blobs()}
        for digest in digests:
            assert sha256(b"".join(self.blobs.read(digest))).hexdigest() == digest
        return digests

    def read(self, upload: Upload) -> bytes:
        return b"".join(self.blobs.read(upload.sha256))

    async def aclose(self) -> None:
        await self.service.close()
        self.database.close()

    def _count(self) -> None:
        self.changes += 1
        if self.change_error is not None:
            raise self.change_error


def new(content: bytes | None = None, **values: Any) -> NewUpload:
    """What a client says of an upload; its length if there is ``content``."""
    known = {} if content is None else {"length": len(content)}
    return NewUpload(**{"name": "a.bin", "owner": "me", **known, **values})


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def cut_off(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body whose client goes away."""
    for piece in pieces:
        yield piece
    raise ConnectionResetError("the client is gone")


async def stalled(*pieces: bytes, arrived: anyio.Event | None = None) -> AsyncIterator[bytes]:
    """A body that stops coming, with the connection open."""
    for piece in pieces:
        yield piece
    if arrived is not None:
        arrived.set()
    await anyio.sleep_forever()


def run(store: Store, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run ``work`` on an event loop, and then stop the service."""

    async def whole() -> Any:
        try:
            return await work()
        finally:
            await store.aclose()

    return anyio.run(whole)
