"""Servers of releases on loopback, forked when wanted, and a client that says what travelled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from assetserver.data import open_empty
from assetserver.releases.library import Library
from assetserver.remote import client as client_module
from assetserver.remote.client import Remote, SiteInfo
from assetserver.remote.previous import Previous
from assetserver.remote.sending import Build, Sent, read_build, send_build
from assetserver.remote.submission import Submission
from assetserver.storage.files import FileBlobs

PROGRAM = Path(__file__).with_name("server.py")
TOKEN = "right-token"  # noqa: S105 - of a server on loopback


class Farm:
    """Starts servers by forking a program that has imported all there is to import."""

    def __init__(self, log: Path) -> None:
        self._sink = log.open("wb")
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._sink,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")},
        )
        self._children: list[int] = []

    def start(self, data: object, step: int = 0) -> tuple[int, str]:
        """Start a server of the data folder ``data``, which dies before the durable step ``step``; return its pid and URL."""
        self._process.stdin.write(f"{data} {step}\n")
        self._process.stdin.flush()
        pid, port = map(int, self._process.stdout.readline().split())
        self._children.append(pid)
        return pid, f"http://127.0.0.1:{port}"

    def stop(self, pid: int, with_signal: int = signal.SIGKILL) -> None:
        """End a server."""
        with suppress(ProcessLookupError):
            os.kill(pid, with_signal)

    def close(self) -> None:
        """End all of it."""
        for pid in self._children:
            self.stop(pid)
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()
        self._sink.close()


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    found = Farm(tmp_path_factory.mktemp("farm") / "log")
    yield found
    found.close()


@dataclass
class Origin:
    """A running server: where it is, and its releases on disk."""

    pid: int
    url: str
    library: Library
    client: httpx.Client = field(default_factory=lambda: httpx.Client(verify=False, timeout=60))  # noqa: S501 - no TLS here

    def ask(self, method: str, path: str, token: str = TOKEN, **options: object) -> httpx.Response:
        """Return the answer to one request."""
        fields = {"Authorization": f"Bearer {token}", **options.pop("headers", {})} if token else options.pop("headers", {})
        return self.client.request(method, self.url + path, headers=fields, **options)


@pytest.fixture
def server(farm: Farm, tmp_path: Path) -> Iterator[Origin]:
    """A server with an empty data folder."""
    data = tmp_path / "data"
    pid, url = farm.start(data)
    found = Origin(pid, url, Library(str(data), FileBlobs(str(data / "blobs"))))
    with found.client:
        yield found
    farm.stop(pid)


class Counted(httpx.HTTPTransport):
    """Counts requests by method and path, and may do something before each."""

    def __init__(self, before: Callable[[httpx.Request], None] = lambda _: None) -> None:
        super().__init__(limits=httpx.Limits(max_connections=8))
        self.requests: list[tuple[str, str]] = []
        self._before = before

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        self.requests.append((request.method, request.url.path))
        self._before(request)
        return super().handle_request(request)

    @property
    def puts(self) -> list[str]:
        """The digests of blobs that were sent, sorted."""
        return sorted(path.rpartition("/")[2] for method, path in self.requests if method == "PUT")


def send(
    url: str,
    folder: object,
    nowhere: object,
    transport: httpx.BaseTransport | None = None,
    *,
    kept: object = "",
    **told: object,
) -> Sent:
    """Publish a folder to the server at ``url``; ``kept``: where what is sent is kept for the next time."""
    with Remote(url, TOKEN, transport) as remote:
        info = remote.describe_site("")
        build = read_build(open_empty(str(nowhere)), str(folder), info, lambda *_: None)
        previous = Previous(str(kept), url, info.site)
        return send_build(remote, build, "", submission_of(build, **told), lambda *_: None, previous)


def submission_of(build: Build, **told: object) -> Submission:
    """Return what a client asks for."""
    return Submission(dict(build.files), left_out=build.left_out, **told)


def info_of(server: Origin) -> SiteInfo:
    """Return what the server says of its site."""
    with Remote(server.url, TOKEN) as remote:
        return remote.describe_site("")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients repeat requests at once."""
    monkeypatch.setattr(client_module, "delay_s", lambda *_: 0.01)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below ``folder``."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def wait_until(what: Callable[[], object], limit_s: float = 60) -> None:
    """Wait until ``what`` is true."""
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)
