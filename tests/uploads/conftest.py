"""A server that takes uploads, over real sockets, and tokens for it."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from assetserver.cli import main


@dataclass(frozen=True)
class Reply:
    """A response as it came; ``fields`` by lower-case name."""

    status: int
    fields: Mapping[str, str]
    content: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def problem(self) -> str:
        """The last part of the problem's type; the answer must be one, and its status that of the response."""
        assert self.fields["content-type"] == "application/problem+json", self.content
        assert self.json["status"] == self.status
        return self.json["type"].rpartition(":")[2]


@dataclass(frozen=True)
class Client:
    """Sends requests to one server, each on a connection of its own, with one token."""

    url: str
    token: str = ""
    data: Path = Path()

    def send(
        self, method: str, target: str, body: object = None, fields: Mapping[str, str] | None = None, token: str | None = None
    ) -> Reply:
        """Send a request; ``body`` is bytes, or an iterable of them that is sent in chunks. ``token=""`` sends none."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        bearer = self.token if token is None else token
        given = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            connection.request(method, target, body, {**given, **(fields or {})})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def upload(self, name: str, content: bytes, **fields: str) -> dict[str, Any]:
        """Upload a raw body, which must succeed; return what became of it."""
        reply = self.send("POST", f"/uploads?name={name}", content, {key.replace("_", "-"): fields[key] for key in fields})
        assert reply.status == 201, reply.content
        return reply.json["uploads"][0]

    @contextmanager
    def connect(self) -> Iterator[socket.socket]:
        """Yield a connected socket."""
        parts = urlsplit(self.url)
        with socket.create_connection((parts.hostname, parts.port), 60) as connection:
            yield connection

    def head(self, request_line: str, *lines: str, token: str | None = None) -> bytes:
        """Return the header of a request, to be sent by hand."""
        bearer = self.token if token is None else token
        given = [f"Authorization: Bearer {bearer}"] if bearer else []
        return "\r\n".join([f"{request_line} HTTP/1.1", "Host: localhost", *given, *lines, "", ""]).encode("utf-8")

    def read(self, connection: socket.socket) -> Reply:
        """Read one response, interim ones left out."""
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def _create_token(data: Path, *options: str) -> str:
    """Return a fresh token for a data folder, as the command prints it."""
    unset = {name: None for name in os.environ if name.startswith("ASSETSERVER_")}
    done = CliRunner().invoke(main, ["token", "create", "--data", str(data), *options], env=unset)
    assert done.exit_code == 0, done.output
    return done.stdout.split()[-1]


OpenClient = Callable[..., Client]


def _opener(start: Callable[..., str], folder: Path) -> OpenClient:
    number = 0

    def open_client(*arguments: object, scope: str = "upload", **options: object) -> Client:
        nonlocal number
        number += 1
        data = folder / f"data-{number}"
        data.mkdir()
        token = _create_token(data, "--scope", scope)
        return Client(start(None, "--data", data, *arguments, **options), token, data)

    return open_client


@pytest.fixture(scope="session")
def make_client() -> type[Client]:
    """``make_client(url, token, data)`` returns a client of a server that the test started itself."""
    return Client


@pytest.fixture(scope="session")
def create_token() -> Callable[..., str]:
    """``create_token(data, *options)`` returns a fresh token for a data folder."""
    return _create_token


@pytest.fixture
def open_client(origin: Callable[..., str], tmp_path: Path) -> OpenClient:
    """``open_client(*arguments, scope="upload", env={}, config="TOML")`` starts a server on an empty data folder."""
    return _opener(origin, tmp_path)


@pytest.fixture(scope="module")
def open_shared_client(shared_origin: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> OpenClient:
    """As ``open_client``, until the module's tests end."""
    return _opener(shared_origin, tmp_path_factory.mktemp("uploads"))


@pytest.fixture(scope="module")
def client(open_shared_client: OpenClient) -> Client:
    """A server with the default settings, for the tests of a module."""
    return open_shared_client()
