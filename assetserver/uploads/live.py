"""News of an upload as they come: server-sent events, and a WebSocket. What is told is the JSON of ``GET /uploads/{id}``.

Both begin with what is so now, tell what changes, and end when nothing more will, when the server stops, or after ten minutes:
then a client asks again. Before each news, and every few seconds, it is looked whether who listens still may; if not, they are
told why, and it ends. Source: the HTML standard, §9.2 (server-sent events); RFC 6455 §7.4.1 (status codes).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

import anyio
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from assetserver.access.principal import Principal, ScopeName
from assetserver.errors import AssetServerError, BusyError, ForbiddenError, OverloadedError, UnauthorisedError

from .answers import encode_json, render_problem
from .authorising import authorise, check_owner
from .records import Upload
from .watching import GONE, News, Watching

LIFE_S = 600.0
"""How long one stream may last: who is still there asks again, and is looked at again."""

HEARTBEAT_S = 15.0
"""Proxies close what is silent for a minute, some for thirty seconds."""

LOOK_AGAIN_S = 5.0
"""How long somebody who may listen no more goes on listening at most: a token that was looked up is asked from memory."""

RETRY_MS = 1000
_FINISHED, _GOING_AWAY, _REFUSED = 1000, 1001, 1008
_LIMIT_REASON = 123
"""Bytes that the reason of a WebSocket's end may have (RFC 6455 §5.5)."""

_SCOPES: tuple[ScopeName, ...] = ("upload", "read")
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
        listener, news = await self._look(request)
        known = request.headers.get("last-event-id", "")
        if news.is_last and news.id == known:
            return Response(None, 204, {"Cache-Control": "no-store"})
        return _EventStream(follow(self._watching, listener, news, known))

    async def socket(self, websocket: WebSocket) -> None:
        """WebSocket ``/uploads/{id}/live``: a message of text for each change. What the client sends is not read."""
        try:
            listener, news = await self._look(websocket)
        except AssetServerError as error:
            await websocket.send_denial_response(_without_body_to_drain(render_problem(error)))
            return
        with suppress(WebSocketDisconnect):
            await websocket.accept()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_when_gone, websocket, tasks.cancel_scope)
            with suppress(WebSocketDisconnect, RuntimeError):  # the latter: it was closed meanwhile
                code, reason = await _send_all(websocket, follow(self._watching, listener, news))
                await websocket.close(code, reason)
            tasks.cancel_scope.cancel()

    async def _look(self, connection: HTTPConnection) -> tuple[Listener, News]:
        """Return who listens, and what is known of the upload. Raises for who may not, or not now."""
        principal = await authorise(connection, *_SCOPES)
        self._watching.check_room(principal)
        upload = await self._find(connection.path_params["id"])
        check_owner(principal, upload.owner, "read")

        async def check() -> None:
            check_owner(await authorise(connection, *_SCOPES), upload.owner, "read")

        return Listener(principal, upload.id, check), await self._watching.look_at(upload)


class Listener(NamedTuple):
    """Who listens to news of which upload; ``check`` raises once they may not any more, or nobody knows."""

    principal: Principal
    upload_id: str
    check: Callable[[], Awaitable[None]]


async def follow(watching: Watching, listener: Listener, first: News, known: str = "") -> AsyncGenerator[News | None, None]:
    """Yield ``first`` unless it is known, then what changes, and None when a sign of life is due.

    Ends after news that are the last, when the upload is removed, when the server stops, or when the time is over. Raises what
    ``listener.check`` does.
    """
    if first.id != known:
        yield first
    if first.is_last:
        return
    try:
        watcher = watching.add(listener.upload_id, listener.principal, first.id)
    except (BusyError, OverloadedError):  # since it was looked for
        return
    deadline_s = anyio.current_time() + LIFE_S
    sign_s = anyio.current_time() + HEARTBEAT_S
    try:
        while (now_s := anyio.current_time()) < deadline_s:
            news = None
            with anyio.move_on_after(min(LOOK_AGAIN_S, max(0.0, sign_s - now_s))) as waiting:
                news = await watcher.wait()
            if not waiting.cancelled_caught and (news is None or news is GONE):
                return
            await listener.check()
            if news is None and anyio.current_time() < sign_s:
                continue
            yield news
            sign_s = anyio.current_time() + HEARTBEAT_S
            if news is not None and news.is_last:
                return
    finally:
        watching.discard(watcher)


async def _send_all(websocket: WebSocket, following: AsyncGenerator[News | None, None]) -> tuple[int, str]:
    """Send what there is to tell; return the code and the reason of the end."""
    try:
        async with aclosing(following):
            async for news in following:
                if news is not None:
                    await websocket.send_text(news.text)
                    if news.is_last:
                        return _FINISHED, ""
    except (UnauthorisedError, ForbiddenError) as error:
        return _REFUSED, str(error).encode()[:_LIMIT_REASON].decode("utf-8", "ignore")
    except AssetServerError:  # nobody knows whether they may: they ask again
        pass
    return _GOING_AWAY, ""


class _EventStream(Response):
    def __init__(self, following: AsyncGenerator[News | None, None]) -> None:
        super().__init__(None, 200, _EVENT_STREAM)
        del self.headers["Content-Length"]
        self._following = following

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
        try:
            async with aclosing(self._following):
                async for news in self._following:
                    await self._send(send, ":\n\n" if news is None else f"id: {news.id}\ndata: {news.text}\n\n")
        except (UnauthorisedError, ForbiddenError) as error:
            problem = encode_json({"status": error.status, "detail": str(error)}).decode()
            await self._send(send, f"event: refused\ndata: {problem}\n\n")
        except AssetServerError:  # nobody knows whether they may: they ask again
            pass

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
