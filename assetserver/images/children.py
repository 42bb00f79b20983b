"""Work of strangers' making, done in child processes that may crash, hang or grow without harm to this one.

``Children`` keeps a fork server (see ``forkserver``), starts it when it is first needed and again when it has died, and waits
for children. What the work is, and what its answer means, is its user's.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

import msgspec

from assetserver.errors import ChildFailedError

from .confinement import Confines, Protections
from .forkserver import LIMIT_MESSAGE, Ending, Task, Unborn

LIMIT_ANSWER = 1 << 16
"""Longest answer, in bytes: what a pipe holds, so that a child never waits for its reader."""
_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 5.0
_LOOK_S = 0.25
_GRACE_S = 10.0
"""How much longer than a child's own time its end is waited for, before the fork server counts as stuck."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    f"from {__package__}.forkserver import serve; serve(int(sys.argv[2]), sys.argv[3])"
)
_KEPT = ("LD_LIBRARY_PATH",)


class Descriptors(NamedTuple):
    """What a child is given: the source to read, and the folder in which it may create files."""

    source: int
    folder: int


class Children:
    """Runs ``work``, the ``module:function`` of a ``forkserver.Work``, each time in a new process.

    All methods block, and may be called from any thread of the process that made this, not of one forked from it. Closed, it
    kills what runs. If this process dies, so do all.
    """

    def __init__(self, work: str) -> None:
        self.protections: Protections | None = None
        """What this kernel allows; known once a child was started."""
        self._work = work
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the fork server and what it runs. It starts again if there is more to do."""
        with self._lock:
            self._stop()

    def run(
        self, order: bytes, descriptors: Descriptors, confines: Confines, is_wanted: Callable[[], bool] = lambda: True
    ) -> tuple[Ending, bytes]:
        """Have one child do the work with ``order`` (JSON); return how it ended, and its answer: a stranger's bytes.

        ``is_wanted`` is asked four times a second; once it says no, the child is killed. Raises ``ChildFailedError`` if no
        child could be started, or nobody knows how it ended.
        """
        message = msgspec.json.encode(Task(confines, msgspec.Raw(order)))
        if len(message) > LIMIT_MESSAGE:
            raise ChildFailedError(f"the job has {len(message)} bytes; {LIMIT_MESSAGE} are the limit")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        answer, answers = os.pipe()
        try:
            with ours:
                with theirs:
                    try:
                        self._send(message, [*descriptors, answers, theirs.fileno()])
                    finally:
                        os.close(answers)
                ending = self._wait(ours, confines.wall_s + _GRACE_S, is_wanted)
            return ending, _read_all(answer)
        finally:
            os.close(answer)

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        with self._lock:
            for attempt in range(2):
                if self._server is None or self._server.poll() is not None:
                    self._start()
                try:
                    socket.send_fds(self._control_socket(), [message], descriptors)
                except OSError as error:
                    self._stop()
                    if attempt:
                        raise ChildFailedError(f"no child process can be started: {error.strerror}") from error
                else:
                    return

    def _control_socket(self) -> socket.socket:
        if self._control is None:
            raise ChildFailedError("the children were closed")
        return self._control

    def _wait(self, life: socket.socket, limit_s: float, is_wanted: Callable[[], bool]) -> Ending:
        deadline_s = time.monotonic() + limit_s
        poll = select.poll()
        poll.register(life, select.POLLIN)
        while not poll.poll(1000 * _LOOK_S):
            if not is_wanted():
                raise ChildFailedError("nobody waits for it any more")
            if time.monotonic() > deadline_s:
                self.close()
                raise ChildFailedError("the process that starts children is stuck; it was replaced")
        if not (told := life.recv(LIMIT_MESSAGE)):
            raise ChildFailedError("the process that starts children ended meanwhile, or could not take the job")
        ending = msgspec.json.decode(told, type=Ending | Unborn)
        if isinstance(ending, Unborn):
            raise ChildFailedError(f"no child process can be started: {ending.reason}")
        return ending

    def _start(self) -> None:
        """Start a fresh interpreter that inherits one socket, no environment and no other descriptor."""
        self._stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            path = json.dumps([os.path.abspath(entry) for entry in sys.path])
            self._server = subprocess.Popen(  # noqa: S603 - this interpreter, and arguments of our own
                [sys.executable, "-I", "-S", "-c", _BOOT, path, str(theirs.fileno()), self._work],
                env={"MALLOC_ARENA_MAX": "2", **{name: os.environ[name] for name in _KEPT if name in os.environ}},
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        self._control = ours
        ours.settimeout(_START_LIMIT_S)
        try:
            self.protections = msgspec.json.decode(ours.recv(LIMIT_MESSAGE), type=Protections)
        except (OSError, msgspec.DecodeError) as error:
            self._stop()
            raise ChildFailedError("the process that starts children does not start; the log says why") from error

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(_STOP_LIMIT_S)
            self._server.kill()
            self._server.wait()
            self._server = None


def _read_all(pipe: int) -> bytes:
    """Return what is in a pipe that nobody writes to any more, up to the limit."""
    os.set_blocking(pipe, False)
    told = b""
    with suppress(BlockingIOError):
        while len(told) <= LIMIT_ANSWER and (piece := os.read(pipe, LIMIT_ANSWER)):
            told += piece
    return told
