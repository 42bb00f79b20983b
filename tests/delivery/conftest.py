"""A folder of real files behind an ``AssetFiles``, a clock that moves only when told, and a client that speaks plain ASGI."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import pytest

from assetserver.delivery.assetfiles import AssetFiles
from assetserver.delivery.encodings import Encodings
from assetserver.delivery.memory import MemoryCache
from assetserver.delivery.releasefiles import ReleaseFiles
from assetserver.delivery.releasefolder import LOOK_S
from assetserver.delivery.resources import Resources
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.library import Library
from assetserver.releases.publish import publish_folder
from assetserver.releases.serving import ActiveIndex
from assetserver.storage.files import FileBlobs

CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 100
DEADLINE_S = 60


class Clock:
    """Monotonic seconds that stand still until ``pass_s``."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Answer:
    """What an app sent: every message, and their sum."""

    messages: list[dict[str, Any]]

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        return list(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def pieces(self) -> list[bytes]:
        return [bytes(message["body"]) for message in self.messages[1:]]

    def get(self, name: str) -> str | None:
        """Return the value of a field that stands at most once."""
        values = [value.decode("latin-1") for key, value in self.fields if key.decode().lower() == name.lower()]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"no {name} in {self.fields}"
        return value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None


def make_scope(
    path: str | bytes,
    method: str = "GET",
    headers: list[tuple[bytes, bytes]] | None = None,
    root_path: str = "",
    query: bytes = b"",
) -> dict[str, Any]:
    """Return the scope that a server makes of a request target; ``path`` as sent, below the mount."""
    raw = path.encode("latin-1") if isinstance(path, str) else path
    raw = root_path.encode() + raw
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw.decode("latin-1")),
        "raw_path": raw,
        "root_path": root_path,
        "query_string": query,
        "headers": headers or [],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


async def exchange(app: Any, scope: Mapping[str, Any]) -> Answer:
    """Send one request without content and return all of the answer; the client stays until it is whole."""
    messages: list[dict[str, Any]] = []
    asked = False
    forever = anyio.Event()

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await forever.wait()
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    await app(dict(scope), receive, send)
    return Answer(messages)


def ask(
    app: Any,
    path: str | bytes = "/",
    method: str = "GET",
    *,
    headers: list[tuple[bytes, bytes]] | None = None,
    root_path: str = "",
    query: bytes = b"",
    backend: str = "asyncio",
    **fields: str,
) -> Answer:
    """Ask an app once, on an event loop of its own; ``fields`` are request fields with "_" for "-"."""
    lines = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in fields.items()]
    scope = make_scope(path, method, [*(headers or []), *lines], root_path, query)
    return anyio.run(exchange, app, scope, backend=backend)


def wait_until(condition: Callable[[], bool], what: str = "it") -> None:
    """Wait for work on another thread; fail if it does not come to an end."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {DEADLINE_S} s"
        time.sleep(0.002)


@dataclass
class Site:
    """A folder and the app that serves it."""

    root: Path
    app: AssetFiles
    clock: Clock
    resources: Resources
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, name: str, content: bytes | str = CSS) -> Path:
        """Put a file in place as a careful deploy does: beside, then renamed."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name("tmp~" + path.name)
        beside.write_bytes(content if isinstance(content, bytes) else content.encode())
        beside.replace(path)
        return path

    def get(self, path: str | bytes, method: str = "GET", **rest: Any) -> Answer:
        return ask(self.app, path, method, **rest)

    def settle(self, path: str) -> None:
        """Wait for the background work on an asset."""
        entry = self.app.folder.load(path)
        wait_until(lambda: entry.work is None or entry.work.done(), "background work")

    def forget(self) -> None:
        """Let everything known be old enough to be looked at again."""
        self.clock.pass_s(1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resources(tmp_path: Path) -> Iterator[Resources]:
    """Threads, memory and a cache folder that no other test shares."""
    made = Resources(memory=MemoryCache(), encodings=Encodings(directory=str(tmp_path / "forms")))
    yield made
    made.close()


@pytest.fixture
def make_site(tmp_path: Path, clock: Clock, resources: Resources) -> Callable[..., Site]:
    """Return a function from files and keywords of ``AssetFiles`` to a site; compressed forms are waited for."""

    def make(
        files: Mapping[str, bytes | str] | None = None, *, app_class: type[AssetFiles] = AssetFiles, **options: Any
    ) -> Site:
        root = tmp_path / "site"
        root.mkdir(exist_ok=True)
        options = {"directory": root, "resources": resources, "patience_s": 30} | options
        site = Site(root, app_class(**options), clock, options["resources"], options)
        site.app.folder.clock_s = clock
        for name, content in (files or {}).items():
            site.write(name, content)
        return site

    return make


@pytest.fixture(name="ask")
def ask_fixture() -> Callable[..., Answer]:
    return ask


@pytest.fixture(name="exchange")
def exchange_fixture() -> Callable[..., Any]:
    return exchange


@pytest.fixture(name="make_scope")
def make_scope_fixture() -> Callable[..., dict[str, Any]]:
    return make_scope


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def count_descriptors() -> Callable[[], int]:
    """Return a function that counts this process's open descriptors on files below a folder."""

    def count(folder: os.PathLike[str] | str = "/") -> int:
        found = 0
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink("/proc/self/fd/" + name)
            except OSError:
                continue
            found += target.startswith(os.fspath(folder))
        return found

    return count


@pytest.fixture
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every file for old enough to be trusted by its signature: a test cannot set a ctime back."""
    monkeypatch.setattr("assetserver.delivery.livefolder.SETTLED_NS", -(10**10))


@dataclass
class Served:
    """A data folder, and the app that serves its site ``main``."""

    root: Path
    library: Library
    app: ReleaseFiles
    clock: Callable[[], float]
    ask: Callable[..., object]
    count: int = 0

    @property
    def site(self):
        return self.library.site("main")

    def publish(self, files):
        """Publish files as a kept release and return its id."""
        self.count += 1
        folder = self.root / f"build-{self.count}"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        release = publish_folder(self.library, str(folder), lambda *_: None).release
        keep_release(self.library, self.site, release)
        return release

    def activate(self, files_or_release):
        """Activate a release, or publish one first."""
        release = files_or_release if isinstance(files_or_release, str) else self.publish(files_or_release)
        activate_release(self.library, self.site, release)
        return release

    def get(self, path, **rest):
        return self.ask(self.app, path, **rest)

    def look(self):
        """Let the next request look whether the site changed."""
        self.clock.pass_s(LOOK_S)

    def blob(self, content):
        """Return the file of a blob, writable."""
        path = Path(self.library.blobs.path_of(sha256(content).hexdigest()))
        path.chmod(0o644)
        return path


@pytest.fixture
def served(tmp_path, clock, resources, ask) -> Served:
    library = Library(str(tmp_path / "data"), FileBlobs(str(tmp_path / "data" / "blobs")))
    app = ReleaseFiles(ActiveIndex(library, library.site("main")), library.blobs.path_of, resources=resources)
    app.folder.clock_s = clock
    return Served(tmp_path, library, app, clock, ask)
