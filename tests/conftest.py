"""Fixtures that start real programs: the server itself, and whatever stands in front of it.

Every program gets a log file, a bounded time to start, and is stopped by its own process group however the test ends. The
logs of running programs are shown with a failed test.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

from .postgresql import postgres as postgres  # noqa: PLC0414 - a fixture, for all tests

HERE = Path(__file__).parent
START_LIMIT_S = 60.0
STOP_LIMIT_S = 5.0
KILL_LIMIT_S = 60.0
ANSWER_LIMIT_S = 60.0
LOG_TAIL_BYTES = 8000
POLL_S = 0.02
POLL_LIMIT_S, POLL_EVERY_S = 60.0, 0.1
PORTS, PORTS_EACH = range(10_000, 32_000), 40
"""Below those that the kernel gives to whoever names none, and how many of them a process of tests has for itself."""

PACKAGES = {
    "nginx": "nginx-light",
    "varnishd": "varnish",
    "npm": "npm",
    "node": "nodejs",
    "chromium": "chromium",
    "systemd-analyze": "systemd",
    "minisign": "minisign",
    "mandoc": "mandoc",
    "dpkg-deb": "dpkg",
    "curl": "curl",
    "jq": "jq",
}
"""Debian's package of each program that a test may need; ``.ci/run`` installs them."""

LONGEST = (
    "test_benchmarks.py",
    "service/test_units.py",
    "test_ondemand.py",
    "remote/test_killed.py",
    "browser/test_hostile_uploads.py",
    "conformance/test_npm_releases.py",
    "crash/test_upload_killed.py",
    "images/test_corpus.py",
    "test_monitoring.py",
    "test_remotepublishing.py",
    "test_reloading.py",
    "releases/test_awkward_names.py",
    "releases/test_examine.py",
    "browser/test_pictures.py",
    "test_upkeep.py",
)
"""Files whose tests take a minute and more: they begin first, so that at the end nobody has to wait for one of them."""

_running: list[Program] = []


@dataclass
class Program:
    """A program that a test started, in a process group of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def read_log(self) -> str:
        """Return all that the program has written."""
        return self.log.read_text(errors="replace")

    def show_tail(self) -> str:
        """Return the end of the log, for people."""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") or "(empty)"

    def wait_log(self, pattern: str, *, times: int = 1) -> re.Match[str]:
        """Wait until the log holds ``pattern`` for the given number of times; return the last match."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found[:] = re.finditer(pattern, self.read_log())
            return len(found) >= times

        self._wait(look, f"{pattern!r} in its log")
        return found[-1]

    def wait_port(self, port: int) -> None:
        """Wait until the program accepts connections on a loopback port."""

        def connect() -> bool:
            with socket.socket() as probe:
                probe.settimeout(1)
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self._wait(connect, f"port {port}")

    def stop(self) -> None:
        """Ask it to end, make it if it does not, and end whatever it left behind."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(KILL_LIMIT_S)

    def _wait(self, is_ready: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not is_ready():
            if self.process.poll() is not None:
                pytest.fail(f"{self.name} ended with {self.process.returncode} before {what}:\n{self.show_tail()}")
            if time.monotonic() > deadline_s:
                pytest.fail(f"{self.name}: no {what} within {START_LIMIT_S} s:\n{self.show_tail()}")
            time.sleep(POLL_S)


@dataclass(frozen=True)
class Answer:
    """A response as it came: ``content`` is still coded, ``lines`` are the field lines.

    ``answer["etag"]`` is a field's value, repeated lines joined by ", ", or None.
    """

    status: int
    lines: list[tuple[str, str]]
    content: bytes = field(repr=False)

    def __getitem__(self, name: str) -> str | None:
        values = [value for found, value in self.lines if found.lower() == name]
        return ", ".join(values) if values else None


StartProgram = Callable[..., Program]
StartOrigin = Callable[..., str]
Fetch = Callable[..., Answer]


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job, from which every program would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; all else stays in its order."""
    places = {HERE / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections += [(f"Log of {program.name}", program.show_tail()) for program in _running]
    return report


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI=true allows no skip", pytrace=False)
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """``missing(what)`` skips the test, saying what it lacks; with ``CI=true`` it fails it."""
    return _missing


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """``require(name)`` returns the path of a program, or skips the test as ``missing`` does."""

    def find(name: str) -> str:
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
        return path or _missing(f"{name} (Debian package {PACKAGES[name]})")

    return find


@pytest.fixture(scope="session")
def install_npm(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``install_npm("name@version", …)`` installs packages with what they need, and returns the folder; skips if that fails."""

    def install(*packages: str) -> Path:
        folder = tmp_path_factory.mktemp("npm")
        options = ["--no-audit", "--no-fund", "--loglevel=error", "--fetch-timeout=20000", "--fetch-retries=1"]
        command = [require("npm"), "install", *options, "--prefix", str(folder), *packages]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output = (error.stderr or b"").decode(errors="replace")
            _missing(f"npm packages {packages} ({' '.join(output.split())[:200] or error})")
        return folder

    return install


@contextmanager
def _programs(folder: Path) -> Iterator[StartProgram]:
    started: list[Program] = []

    def start(name: str, command: Iterable[object], **options: object) -> Program:
        log = folder / f"{name}-{len(started)}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        program = Program(name, process, log)
        started.append(program)
        _running.append(program)
        return program

    try:
        yield start
    finally:
        for program in reversed(started):
            program.stop()
            _running.remove(program)


def _environment(folder: Path, changes: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment without settings of whoever runs the tests; temporary files go to ``folder``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    kept.pop("CACHE_DIRECTORY", None)
    return {**kept, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", **(changes or {})}


@contextmanager
def _origins(folder: Path) -> Iterator[StartOrigin]:
    origins: list[Program] = []
    with _programs(folder) as start:

        def start_origin(
            directory: object = None,
            *args: object,
            config: str | None = None,
            env: Mapping[str, str] | None = None,
        ) -> str:
            command: list[object] = [
                sys.executable,
                "-m",
                "assetserver",
                "serve",
                *([directory] if directory else []),
                "--port",
                0,
            ]
            if config is not None:
                file = folder / f"assetserver-{len(origins)}.toml"
                file.write_text(config)
                command += ["--config", file]
            program = start("assetserver", [*command, *args], env=_environment(folder, env), cwd=folder)
            origins.append(program)
            url = program.wait_log(r"(?m)^on (http://127\.0\.0\.1:([1-9]\d*))")
            program.wait_port(int(url[2]))
            return url[1]

        yield start_origin
    broken = [program for program in origins if "Traceback" in program.read_log()]
    assert not broken, f"the server wrote a traceback:\n{broken[0].show_tail()}"


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[StartProgram]:
    """``start_program(name, command, **popen_options)`` runs a program until the test ends."""
    with _programs(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_shared_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartProgram]:
    """As ``start_program``, until the module's tests end."""
    with _programs(tmp_path_factory.mktemp("programs")) as start:
        yield start


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[StartOrigin]:
    """``origin(directory or None, *arguments, config="TOML", env={})`` starts the server and returns its base URL.

    It listens on a free loopback port until the test ends. A traceback in its log fails the test.
    """
    with _origins(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartOrigin]:
    """As ``origin``, until the module's tests end."""
    with _origins(tmp_path_factory.mktemp("origin")) as start:
        yield start


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """``free_port()`` returns a loopback port that nothing listens on now, and that is given to nobody else before it is taken.

    The kernel gives one that it chose to the next who asks, between its choice and the start of a program.
    """
    first = PORTS[os.getpid() % (len(PORTS) // PORTS_EACH) * PORTS_EACH]
    own = itertools.cycle(range(first, first + PORTS_EACH))

    def is_free(port: int) -> bool:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(("127.0.0.1", port))
            return True
        return False

    return lambda: next(port for port in itertools.islice(own, PORTS_EACH) if is_free(port))


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A loopback port where nobody listens, and nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(scope="session")
def fetch() -> Fetch:
    """``fetch(url, method="GET", **fields)`` returns the response, not decoded, no redirect followed.

    Fields are written as keywords: ``if_none_match=...`` sends ``if-none-match``. Nothing else is sent but ``Host``.
    """

    def run(url: str, method: str = "GET", **fields: str) -> Answer:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_LIMIT_S)
        try:
            connection.putrequest(method, parts.path + (parts.query and "?" + parts.query), skip_accept_encoding=True)
            for name, value in fields.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    return run


@pytest.fixture(scope="session")
def poll() -> Callable[..., object]:
    """``poll(call, is_done, every_s=0.1)`` calls until the result is as it should be, and returns it; fails after a minute."""

    def run(call, is_done, every_s=POLL_EVERY_S):
        deadline_s = time.monotonic() + POLL_LIMIT_S
        while not is_done(result := call()):
            assert time.monotonic() < deadline_s, f"still {result}"
            time.sleep(every_s)
        return result

    return run
