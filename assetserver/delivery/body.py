"""Plans become bytes on a connection: content from memory, or from a file, through one descriptor.

A server that can have the kernel send files is told which bytes of an open one (``sendfile``). For others, files are read with
aiofiles on asyncio and with anyio on trio, 1 MiB at a time; a slow reader holds one piece.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiofiles
import anyio
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from assetserver.errors import FileChangedError
from assetserver.semantics.ranges import ByteRange
from assetserver.semantics.respond import NoBody, Parts, ResponsePlan, Slice, Whole
from assetserver.storage.pools import runs_on_asyncio
from assetserver.storage.signatures import Signature, sign

from .files import OPEN_FLAGS, PIECE_BYTES
from .openfiles import Find, OpenedFile
from .pages import read_now
from .sendfile import FILE, takes_files

LIMIT_PARTS_BYTES = 64 << 10
"""Several ranges of together no more are sent from memory: each would cost two turns of the kernel."""

OpenFile = Any
"""An asynchronous file of aiofiles or anyio: both read, seek, close and tell their ``fileno``."""


async def open_file(path: str, expected: Signature) -> OpenFile | None:
    """Open ``path``, or return None if it is no longer what ``expected`` signs. The caller closes it."""
    open_async: Callable[..., Any] = aiofiles.open if runs_on_asyncio() else anyio.open_file
    try:
        file: OpenFile = await open_async(path, "rb", buffering=0, opener=lambda name, _: os.open(name, OPEN_FLAGS))
    except OSError:
        return None
    if sign(os.fstat(file.fileno())) == expected:
        return file
    await _close(file)
    return None


class AssetResponse(Response):
    """A Starlette response that sends a ``ResponsePlan``; its ``headers`` may be changed until it is sent.

    ``content`` are all bytes of the representation, or ``file`` an open file of them, or neither where the plan has no body;
    ``find`` finds the file again, for who repeats the answer.
    """

    def __init__(
        self,
        plan: ResponsePlan,
        content: bytes | None = None,
        file: OpenedFile | None = None,
        find: Find | None = None,
    ) -> None:
        self.plan = plan
        self.status_code = plan.status
        self.raw_headers = list(plan.fields)
        self.background: BackgroundTask | None = None
        self.body = b""
        self._content = content
        self._file = file
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response.

        Raises ``FileChangedError`` when the file was cut short or written to meanwhile: the server then closes the connection,
        and the client sees an incomplete message (RFC 9112 §8). Padding would be a lie, and so would the bytes of two versions.
        """
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        if self._file is None:
            await send(start)
            await send({"type": "http.response.body", "body": b"".join(self._from_memory())})
        else:
            await send(start)
            await self._send_file(self._file, scope, receive, send)
        if self.background is not None:  # a subclass of AssetFiles may have set it, as on any Starlette response
            await self.background()

    def _from_memory(self) -> Iterator[bytes | memoryview]:
        content, body = memoryview(self._content or b""), self.plan.body
        match body:
            case NoBody():
                return
            case Whole():
                yield content
            case Slice(found):
                yield content[found.start : found.stop]
            case Parts(parts, tail):
                for head, found in parts:
                    yield head
                    yield content[found.start : found.stop]
                yield tail

    async def _send_file(self, file: OpenedFile, scope: Scope, receive: Receive, send: Send) -> None:
        pieces = deque(self._pieces())
        if takes_files(scope, receive):
            if (content := self._short_parts(file, pieces)) is not None:
                await send({"type": "http.response.body", "body": content})
                return
            await self._hand_over(file, pieces, send)
        if pieces:
            async with _until_disconnect(receive):
                await _stream(file, pieces, send)
        await send({"type": "http.response.body", "body": b""})

    def _short_parts(self, file: OpenedFile, pieces: Iterable[bytes | ByteRange]) -> bytes | None:
        """Return several ranges as one piece, which can be repeated, if they are short and in memory."""
        if not isinstance(self.plan.body, Parts) or sum(map(len, pieces)) > LIMIT_PARTS_BYTES:
            return None
        parts: list[bytes] = []
        for piece in pieces:
            part = piece if isinstance(piece, bytes) else read_now(file.descriptor, piece.start, len(piece))
            if part is None:
                return None
            parts.append(part)
        file.check(0)
        return b"".join(parts)

    def _pieces(self) -> Iterator[bytes | ByteRange]:
        match self.plan.body:
            case Whole():
                yield ByteRange(0, self.plan.representation.length)
            case Slice(found):
                yield found
            case Parts(parts, tail):
                for head, found in parts:
                    yield head
                    yield found
                yield tail

    async def _hand_over(self, file: OpenedFile, pieces: deque[bytes | ByteRange], send: Send) -> None:
        """Have the server send all, or what it takes, off the left. When the client leaves, it ends that itself."""
        while pieces:
            piece = pieces[0]
            if isinstance(piece, bytes):
                await _send_piece(piece, send)
            else:
                message = {
                    "type": FILE,
                    "file": file.descriptor,
                    "offset": piece.start,
                    "count": piece.stop - piece.start,
                    "check": file.check,
                    "opened": file,
                    "find": self._find,
                }
                await send(message)
                if "sent" not in message:
                    return
            pieces.popleft()


async def _stream(opened: OpenedFile, pieces: Iterable[bytes | ByteRange], send: Send) -> None:
    with anyio.CancelScope(shield=True):  # or a file that a thread has just opened would be nobody's
        file = await open_file(opened.path, opened.signature)
    if file is None:
        raise FileChangedError(f"{opened.path} changed before it was sent; the connection is closed")
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                await _send_piece(piece, send)
            else:
                await _send_range(file, opened, piece, send)
    finally:
        with anyio.CancelScope(shield=True):
            await _close(file)


async def _send_range(file: OpenFile, opened: OpenedFile, found: ByteRange, send: Send) -> None:
    position = found.start
    await file.seek(position)
    while position < found.stop:
        piece = await file.read(min(PIECE_BYTES, found.stop - position))
        opened.check(position)
        if not piece:
            raise FileChangedError(f"{opened.path} was cut while it was sent, at byte {position}; the connection is closed")
        position += len(piece)
        await _send_piece(piece, send)


async def _send_piece(piece: bytes, send: Send) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


@asynccontextmanager
async def _until_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client leaves: Uvicorn's ``send`` then does nothing, and the file would be read to its end."""
    failure: Exception | None = None

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again below, outside the group that would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _close(file: OpenFile) -> None:
    await (file.aclose if hasattr(file, "aclose") else file.close)()
