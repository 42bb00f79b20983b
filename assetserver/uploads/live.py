"""News of an upload as they come: server-sent events, and a WebSocket. What is told is the JSON of ``GET /uploads/{id}``.

Both begin with what is so now, tell what changes, and end when nothing more will, when the server stops, or after ten minutes:
then a client asks again. Source: the HTML standard, §9.2 (server-sent events); RFC 6455 §7.4.1 (status codes).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import anyio
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from assetserver.errors import AssetServerError, BusyError, OverloadedError

from .answers import render_problem
from .authorising import authorise, check_owner
from .records import Upload
from .watching import GONE, News, Watching

LIFE_S = 600.0
"""How long one stream may last: who is still there asks again, and is looked at again."""

HEARTBEAT_S = 15.0
"""Proxies close what is silent for a minute, some for thirty seconds."""

RETRY_MS = 1000
_FINISHED, _GOING_AWAY = 1000, 1001

_EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold it back
}


class LiveEndpoint:
    """The handlers of ``/uploads/{id}/events`` and ``/uploads/{id}/live``."""

    def __init__(self, find: Callable[[str], Awaitable[Upload]], watching: Watching) -> None:
        self._find = find
        self._watching = watching

    async def stream(self, request: Request) -> Response:
        """``GET /uploads/{id}/events``. Who has the last news already is told by 204 to ask no more."""
        news = await self._look(request)
        known = request.headers.get("last-event-id", "")
        if news.is_last and news.id == known:
            return Response(None, 204, {"Cache-Control": "no-store"})
        return _EventStream(self._watching, request.path_params["id"], news, known)

    async def socket(self, websocket: WebSocket) -> None:
        """WebSocket ``/uploads/{id}/live``: a message of text for each change. What the client sends is not read."""
        try:
            news = await self._look(websocket)
        except AssetServerError as error:
            await websocket.send_denial_response(_without_body_to_drain(render_problem(error)))
            return
        with suppress(WebSocketDisconnect):
            await websocket.accept()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_when_gone, websocket, tasks.cancel_scope)
            with suppress(WebSocketDisconnect, RuntimeError):  # the latter: it was closed meanwhile
                await websocket.close(await self._send_all(websocket, news))
            tasks.cancel_scope.cancel()

    async def _look(self, connection: HTTPConnection) -> News:
        """Return what is known of the upload, if whoever asks may know."""
        self._watching.check_room()
        principal = await authorise(connection, "upload", "read")
        upload = await self._find(connection.path_params["id"])
        check_owner(principal, upload.owner, "read")
        return await self._watching.look_at(upload)

    async def _send_all(self, websocket: WebSocket, news: News) -> int:
        """Send what there is to tell; return why it ended."""
        async for one in follow(self._watching, websocket.path_params["id"], news):
            if one is not None:
                await websocket.send_text(one.text)
                if one.is_last:
                    return _FINISHED
        return _GOING_AWAY


async def follow(watching: Watching, upload_id: str, first: News, known: str = "") -> AsyncIterator[News | None]:
    """Yield ``first`` unless it is known, then what changes, and None when a sign of life is due.

    Ends after news that are the last, when the upload is removed, when the server stops, or when the time is over.
    """
    if first.id != known:
        yield first
    if first.is_last:
        return
    try:
        watcher = watching.add(upload_id, first.id)
    except (BusyError, OverloadedError):  # since it was looked for
        return
    deadline = anyio.current_time() + LIFE_S
    try:
        while anyio.current_time() < deadline:
            news = None
            with anyio.move_on_after(HEARTBEAT_S) as waiting:
                news = await watcher.wait()
            if not waiting.cancelled_caught and (news is None or news is GONE):
                return
            yield news
            if news is not None and news.is_last:
                return
    finally:
        watching.discard(watcher)


class _EventStream(Response):
    def __init__(self, watching: Watching, upload_id: str, first: News, known: str) -> None:
        super().__init__(None, 200, _EVENT_STREAM)
        del self.headers["Content-Length"]
        self._watching, self._upload_id = watching, upload_id
        self._first, self._known = first, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
                await self._send_all(send)
                tasks.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        await self._send(send, f"retry: {RETRY_MS}\n\n")
        async for news in follow(self._watching, self._upload_id, self._first, self._known):
            await self._send(send, ":\n\n" if news is None else f"id: {news.id}\ndata: {news.text}\n\n")

    async def _send(self, send: Send, text: str) -> None:
        await send({"type": "http.response.body", "body": text.encode("utf-8", "replace"), "more_body": True})


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _end_when_gone(websocket: WebSocket, scope: anyio.CancelScope) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
    scope.cancel()


def _without_body_to_drain(problem: Response) -> Response:
    """Return a refusal as a plain response: the request to open a WebSocket has no body."""
    return Response(problem.body, problem.status_code, dict(problem.headers))
