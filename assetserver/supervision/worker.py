"""A worker as its master sees it: a place, who has it, and how somebody new gets it."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Protocol

Serve = Callable[[socket.socket], None]
"""What a worker does, given its channel; ends by returning or by ``SystemExit``."""

STOPPING = (signal.SIGTERM, signal.SIGINT)
TOLD = (*STOPPING, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1)
"""The signals of a master."""

NEVER = float("inf")


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None:
        """Close it."""


@dataclass(slots=True)
class Worker:
    """A place for a worker, and who has it: nobody, if ``pid`` is 0; then the next one comes at ``due_s``.

    ``run``: what it does; nobody comes after one that has none. ``serves``: nothing is served without one. Others do jobs.
    ``silent_s``: how long nothing was heard of it, as far as the master listened. ``deadline_s``: when it is killed.
    All times are of the monotonic clock.
    """

    run: Serve | None
    serves: bool = True
    pid: int = 0
    channel: socket.socket | None = None
    is_ready: bool = False
    started_s: float = 0.0
    due_s: float = 0.0
    short_lives: int = 0
    silent_s: float = 0.0
    deadline_s: float = NEVER

    @property
    def title(self) -> str:
        """What people are told it is."""
        return "worker" if self.serves else "job worker"

    def start(self, now_s: float, not_theirs: Iterable[Closable]) -> None:
        """Fork a process that has this place; in it, close what is ``not_theirs``. Raises ``OSError`` if there can be none."""
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)  # until the child has its own handlers
        try:
            pid = os.fork()
            if pid == 0:
                self._become(theirs, [ours, *not_theirs])
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
            theirs.close()
        self.pid, self.channel, self.is_ready, self.started_s = pid, ours, False, now_s
        self.silent_s, self.deadline_s = 0.0, NEVER

    def send(self, number: int) -> None:
        """Send a signal to who has the place."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def reap(self) -> int | None:
        """Return the exit code of who had the place, if it has ended: that of ``subprocess``. The place is free then."""
        try:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else took the news
            ended, status = self.pid, 0
        if not ended:
            return None
        self.pid, self.deadline_s = 0, NEVER
        return os.waitstatus_to_exitcode(status)

    def _become(self, channel: socket.socket, not_ours: Iterable[Closable]) -> NoReturn:
        """Go on as a worker, and never return into what the master was doing, whenever it is told to end."""
        code = 1
        try:
            code = self._work(channel, not_ours)
        finally:
            os._exit(code)

    def _work(self, channel: socket.socket, not_ours: Iterable[Closable]) -> int:
        """Do what this place is for, and return the exit code."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):  # a terminal sends them to all; the master decides
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, _leave)
            for one in not_ours:
                one.close()
            faulthandler.enable()  # who is stuck is ended by SIGABRT: then the log says where
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
            assert self.run is not None  # noqa: S101 - or nobody would be started
            self.run(channel)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else bool(error.code)
        except BaseException:  # noqa: BLE001 - the boundary of the process
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
        return code


def _leave(*_: object) -> NoReturn:
    """End, once: what raises again while that goes on would end elsewhere."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def name_end(code: int) -> str:
    """Return in a word how a process ended: who is stuck is sent SIGABRT."""
    if code == -signal.SIGABRT:
        return "stuck"
    return "killed" if code < 0 else "ended"


def describe_end(code: int) -> str:
    """Say how a process ended that has this exit code, as ``subprocess`` counts them."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
