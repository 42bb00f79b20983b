"""A headless Chromium, spoken to over two pipes (``--remote-debugging-pipe``): no driver and no socket.

Source: Chrome DevTools Protocol, whose messages are JSON, each ended by a NUL.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

ANSWER_LIMIT_S = 60.0
STOP_LIMIT_S = 10.0
QUIET_S = 0.5
BLANK_QUIET_S = 0.1
"""An empty page asks for nothing."""
POLL_S = 0.05
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_READS, _WRITES = 3, 4  # the descriptors on which Chromium reads commands and writes events
_ABOVE_THOSE = 10


class Browser:
    """One page of a running Chromium. ``events`` holds every event since the last ``open``, in order."""

    def __init__(self, commands: int, replies: int, log: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._commands = commands
        self._replies = replies
        self._log = log
        self._received = b""
        self._count = 0
        self._session: str | None = None
        self._context = ""

    def attach(self) -> None:
        """Open a page in a profile of its own, and listen to what happens in it."""
        self._context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def leave(self) -> None:
        """Close the page, and throw its profile away."""
        self._session = None
        self.call("Target.disposeBrowserContext", browserContextId=self._context)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._count += 1
        message: dict[str, object] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (reply := self._read(ANSWER_LIMIT_S)) is not None:
            if reply.get("id") == self._count:
                assert "error" not in reply, (method, reply["error"])
                return reply["result"]
        pytest.fail(f"no reply to {method} within {ANSWER_LIMIT_S} s:\n{self._tail()}")

    def open(self, url: str) -> None:
        """Go to ``url`` from an empty page, as a visitor would; return when it is loaded and nothing is under way."""
        self.clear()
        self.call("Page.navigate", url=url)
        self._settle()

    def clear(self) -> None:
        """Leave the page, and what it still waits for, for an empty one, and forget its events."""
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self._settle(BLANK_QUIET_S)
        self.events.clear()

    def evaluate(self, expression: str) -> object:
        """Return the value, as JSON knows it, of a JavaScript expression in the page; what is thrown fails the test."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def wait_until(self, is_so: Callable[[], object], what: str) -> None:
        """Wait until ``is_so()``, which may evaluate in the page or look at the events; fails with ``what`` was expected."""
        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        while not is_so():
            if time.monotonic() > deadline_s:
                pytest.fail(f"after {ANSWER_LIMIT_S} s not yet {what}:\n{self.events[-5:]}\n{self._tail()}")
            self._read(POLL_S)

    def select(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of one kind."""
        return [event["params"] for event in self.events if event["method"] == method]

    def unanswered(self) -> set[str]:
        """Return the requests that have not ended. Who leaves a page while there are some may never hear of them again."""
        ended = {end["requestId"] for kind in ("loadingFinished", "loadingFailed") for end in self.select(f"Network.{kind}")}
        return {start["requestId"] for start in self.select("Network.requestWillBeSent")} - ended

    def _settle(self, quiet_s: float = QUIET_S) -> None:
        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        while time.monotonic() < deadline_s:
            is_quiet = self._read(quiet_s) is None
            if is_quiet and not self.unanswered() and self.select("Page.loadEventFired"):
                return
        pytest.fail(f"the page is not loaded after {ANSWER_LIMIT_S} s:\n{self._tail()}")

    def _read(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next message, events noted on the way; None if none comes."""
        deadline_s = time.monotonic() + timeout_s
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self._replies, 1 << 20)
            if not piece:
                pytest.fail(f"Chromium has ended:\n{self._tail()}")
            self._received += piece
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message and message.get("sessionId") == self._session:
            self.events.append(message)
        return message

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def chromium(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int, Path]]:
    """A Chromium for the tests of a module: what it reads, what it writes, and its log."""
    program = require("chromium")
    home = tmp_path_factory.mktemp("chromium")
    log = home / "chromium.log"
    command = [program, *FLAGS, f"--user-data-dir={home / 'profile'}", "about:blank"]
    (its_commands, commands), (replies, its_replies) = _pipe(), _pipe()
    with tempfile.TemporaryDirectory(prefix="test-", ignore_cleanup_errors=True) as short:  # sockets' paths have 107 bytes
        process = os.posix_spawn(
            program,
            command,
            {**os.environ, "HOME": str(home), "TMPDIR": short},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, its_commands, _READS),
                (os.POSIX_SPAWN_DUP2, its_replies, _WRITES),
            ],
            setpgroup=0,
        )
        os.close(its_commands)
        os.close(its_replies)
        try:
            yield commands, replies, log
        finally:
            os.close(commands)  # the end of the pipe asks it to quit
            _stop(process)
            os.close(replies)


@pytest.fixture
def browser(chromium: tuple[int, int, Path]) -> Iterator[Browser]:
    """A page of a Chromium, with an empty profile: nothing is cached, kept or known from the test before."""
    page = Browser(*chromium)
    page.attach()
    yield page
    page.leave()


def _pipe() -> tuple[int, int]:
    """Return a pipe whose ends lie above the descriptors that the child wants, and are closed in it."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THOSE) for end in ends]
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _stop(process: int) -> None:
    deadline_s = time.monotonic() + STOP_LIMIT_S
    ended = 0
    while not ended and time.monotonic() < deadline_s:
        ended, _ = os.waitpid(process, os.WNOHANG)
        time.sleep(POLL_S)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # it, or what it left behind
    if not ended:
        os.waitpid(process, 0)
