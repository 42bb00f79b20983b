"""A real server in a thread of this process, and a client's connection that reads one answer after the other."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette

from assetserver.app import create_app
from assetserver.delivery.assetfiles import AssetFiles
from assetserver.delivery.hotcache import HOT, HotCache
from assetserver.delivery.openfiles import OpenFiles
from assetserver.delivery.protocol import AssetProtocol
from assetserver.settings import load_settings

LIMIT_S = 60.0
UNLIKE = re.compile(rb"(?im)^(date|x-request-id): [^\r\n]*\r\n")
CACHE_STATUS = re.compile(rb"(?im)^cache-status: [^\r\n]*\r\n")


@dataclass
class Server:
    """A server in a thread of this process."""

    port: int
    uvicorn: uvicorn.Server
    loop: asyncio.AbstractEventLoop
    root: Path
    app: Starlette

    @property
    def hot(self) -> HotCache:
        """Return what the server repeats."""
        return self.uvicorn.lifespan.state[HOT]

    @property
    def open_files(self) -> OpenFiles:
        """Return the files that it keeps open."""
        mounted = [route.app for route in self.app.routes if isinstance(getattr(route, "app", None), AssetFiles)]
        return mounted[0]._resources.open_files

    @property
    def connections(self) -> list[AssetProtocol]:
        return list(self.uvicorn.server_state.connections)

    def connect(self, receive_bytes: int = 0) -> Wire:
        return Wire(self.port, receive_bytes)

    def ask(self, target: str = "/file.txt", fields: str = "") -> bytes:
        with self.connect() as wire:
            return wire.ask(get(target, fields))


class Wire:
    """A client's connection that reads one answer after the other."""

    def __init__(self, port: int, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", port))
        self._rest = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def ask(self, request: bytes) -> bytes:
        self.send(request)
        return self.read(request[:4])

    def read(self, method: bytes = b"GET ") -> bytes:
        """Return one answer, head and body."""
        while (end := self._rest.find(b"\r\n\r\n") + 4) < 4:
            self._more()
        head = bytes(self._rest[:end])
        if head.startswith(b"HTTP/1.1 100"):
            del self._rest[:end]
            return head + self.read(method)
        length = re.search(rb"(?im)^content-length: (\d+)", head)
        assert length or head[9:12] in (b"204", b"304"), head
        end += int(length[1]) if length and method != b"HEAD" and head[9:12] != b"304" else 0
        while len(self._rest) < end:
            self._more()
        answer = bytes(self._rest[:end])
        del self._rest[:end]
        return answer

    def read_all(self) -> bytes:
        """Return all that comes until the server closes."""
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                self._more()
        return bytes(self._rest)

    def _more(self) -> None:
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise EOFError(self._rest[:300])
        self._rest += piece


def get(target: str = "/file.txt", fields: str = "", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()


def post(fields: str, body: bytes = b"") -> bytes:
    return get("/file.txt", fields, "POST") + body


@contextlib.contextmanager
def running(
    root: Path,
    http: type = AssetProtocol,
    data: Path | None = None,
    ws: str = "auto",
    loop: str = "auto",
    sites: list[dict[str, object]] | None = None,
    mounts: list[dict[str, object]] | None = None,
    **server: object,
) -> Iterator[Server]:
    """Serve ``root`` or other ``mounts``, or the site ``main`` or other ``sites`` of ``data``, with a protocol."""
    config = {"server.access_log": "off", "compression.patience_s": 10.0, "compression.minimum_bytes": 200}
    config |= {"data.path": str(data)} if data else {"mounts": [{"prefix": "/", "directory": str(root)}]}
    config |= {"sites": sites} if sites else {}
    config |= {"mounts": mounts} if mounts else {}
    app = create_app(load_settings(None, {}, config | {f"server.{name}": value for name, value in server.items()}))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10
    )  # what is not read waits in the server, not in the kernel
    one = uvicorn.Server(
        uvicorn.Config(app, http=http, access_log=False, log_level="critical", server_header=False, proxy_headers=False,
                       timeout_keep_alive=5, timeout_graceful_shutdown=1, lifespan="on", ws=ws, loop=loop)
    )  # fmt: skip
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await one.serve([listener])

    factory = one.config.get_loop_factory()

    def run() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_for(lambda: one.started, "the start")
        yield Server(listener.getsockname()[1], one, loops[0], root, app)
    finally:
        one.should_exit = True
        thread.join(LIMIT_S)
        listener.close()
    assert not thread.is_alive()


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.005)


def alike(answer: bytes, *, first: bool = False) -> bytes:
    """Return an answer without what differs between any two."""
    answer = UNLIKE.sub(b"", answer)
    return CACHE_STATUS.sub(b"", answer) if first else answer
