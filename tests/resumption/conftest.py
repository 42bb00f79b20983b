"""A server that takes uploads, and a client that says exactly what a test wants said: every request on a socket of its own."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from click.testing import CliRunner

from assetserver.cli import main

LIMIT_S = 60.0
POLL_S = 0.05
VERSION = "1.0.0"
UPLOAD_TYPE = "application/offset+octet-stream"
MAX_SIZE = 4 << 20


@dataclass(frozen=True)
class Reply:
    """A response; ``reply["upload-offset"]`` is a field's value or None."""

    status: int
    lines: list[tuple[str, str]]
    content: bytes = field(repr=False)

    def __getitem__(self, name: str) -> str | None:
        values = [value for found, value in self.lines if found.lower() == name]
        return ", ".join(values) if values else None

    @property
    def json(self) -> dict:
        return json.loads(self.content)


class Client:
    """Speaks to a server with a token. Fields are keywords, ``upload_offset=5``; None leaves a default one out."""

    def __init__(self, url: str, token: str, **defaults: object) -> None:
        self.url = url
        self.token = token
        self.collection = f"{url}/uploads"
        self._defaults = {"authorization": f"Bearer {token}", **defaults}

    def ask(self, method: str, url: str = "", content: bytes | Iterable[bytes] | None = None, **fields: object) -> Reply:
        """Send one request; content that is no bytes goes in chunks."""
        parts = urlsplit(urljoin(self.collection, url) if url else self.collection)
        with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=LIMIT_S)) as connection:
            named = {name.replace("_", "-"): value for name, value in (self._defaults | fields).items()}
            sent = {name: str(value) for name, value in named.items() if value is not None}
            is_chunked = content is not None and not isinstance(content, bytes)
            with suppress(BrokenPipeError, ConnectionResetError):  # refused meanwhile: the answer is there
                connection.request(method, parts.path, content, sent, encode_chunked=is_chunked)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())

    def look(self, url: str) -> dict:
        """Return an upload as its JSON says it."""
        reply = self.ask("GET", url, tus_resumable=None)
        assert reply.status == 200, reply
        return reply.json

    def download(self, url: str) -> bytes:
        """Return the bytes of a complete upload, as it is served to everybody."""
        seen = self.look(url)
        assert seen["state"] == "complete", seen
        content = self.ask("GET", seen["url"], authorization=None, tus_resumable=None)
        assert content.status == 200, content
        assert hashlib.sha256(content.content).hexdigest() == seen["sha256"]
        return content.content

    @contextmanager
    def begin(self, method: str, url: str, length: int, **fields: object) -> Iterator[socket.socket]:
        """Send the head of a request whose body has ``length`` bytes; yields the connection to send them on."""
        parts = urlsplit(urljoin(self.collection, url))
        named = {name.replace("_", "-"): value for name, value in (self._defaults | fields).items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value is not None)
        head = f"{method} {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-length: {length}\r\n{lines}\r\n"
        with socket.create_connection((parts.hostname, parts.port), LIMIT_S) as connection:
            connection.sendall(head.encode())
            yield connection


class TusClient(Client):
    """As ``Client``, with ``Tus-Resumable`` on every request."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token, tus_resumable=VERSION)

    def create(self, length: int | None = None, **fields: object) -> str:
        """Create an upload and return its URL; a length of None is deferred."""
        known = {"upload_defer_length": 1} if length is None else {"upload_length": length}
        reply = self.ask("POST", **(known | fields))
        assert reply.status == 201, (reply, reply.content)
        return urljoin(self.collection, reply["location"])

    def create_final(self, concat: str, **fields: object) -> str:
        """Concatenate partial uploads and return the URL of the final one."""
        reply = self.ask("POST", upload_concat=concat, **fields)
        assert reply.status == 201, (reply, reply.content)
        return urljoin(self.collection, reply["location"])

    def append(self, url: str, offset: int, content: bytes | Iterable[bytes], **fields: object) -> Reply:
        """Send a PATCH."""
        return self.ask("PATCH", url, content, **({"upload_offset": offset, "content_type": UPLOAD_TYPE} | fields))

    def offset(self, url: str) -> int:
        """Return where an upload goes on, as HEAD tells it."""
        reply = self.ask("HEAD", url)
        assert reply.status == 200, reply
        return int(reply["upload-offset"])

    def upload(self, content: bytes, **fields: object) -> str:
        """Create an upload and send all of it; return its URL."""
        url = self.create(len(content), **fields)
        if content:
            assert self.append(url, 0, content).status == 204
        return url


@dataclass(frozen=True)
class UploadServer:
    """A running server, its data folder, and a token that may upload."""

    url: str
    data: Path
    token: str

    @property
    def tus(self) -> TusClient:
        return TusClient(self.url, self.token)

    @property
    def plain(self) -> Client:
        return Client(self.url, self.token)


StartUploads = Callable[..., UploadServer]


def make_token(data: Path, scope: str = "upload") -> str:
    """Return a new token, as people make it."""
    done = CliRunner().invoke(main, ["token", "create", "--scope", scope, "--data", str(data)])
    assert done.exit_code == 0, done.output
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def start_uploads(shared_origin, tmp_path_factory) -> StartUploads:
    """``start_uploads(config="TOML", workers=1)`` starts a server with an empty data folder, until the module's tests end."""

    def start(config: str = f"[uploads]\nmax_size = {MAX_SIZE}\n", *args: object) -> UploadServer:
        data = tmp_path_factory.mktemp("data")
        token = make_token(data)
        return UploadServer(shared_origin(None, "--data", data, *args, config=config), data, token)

    return start


@pytest.fixture(scope="module")
def server(start_uploads) -> UploadServer:
    """A server with one worker that takes files of at most 4 MiB."""
    return start_uploads()


@pytest.fixture
def client(server) -> TusClient:
    """A client of tus."""
    return server.tus


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object], str], None]:
    """``until(is_so, what)`` waits until it is so."""

    def wait(is_so: Callable[[], object], what: str) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < deadline_s, f"not yet {what}"
            time.sleep(POLL_S)

    return wait


def wait_staged(data: Path, url: str, size: int) -> None:
    """Wait until that many bytes of the upload at ``url`` are in its file below ``data``."""
    name, deadline_s = urlsplit(url).path.rpartition("/")[2], time.monotonic() + LIMIT_S
    while (found := sum(path.stat().st_size for path in data.rglob(name))) < size:
        assert time.monotonic() < deadline_s, f"{found} of {size} bytes arrived"
        time.sleep(POLL_S)


def encode(text: str) -> str:
    """Return the base64 of a text."""
    return base64.b64encode(text.encode()).decode()
