"""The master of several workers: forks them, starts one anew that died, and stops them all; knows nothing of HTTP and jobs.

Laws:
- The master has no event loop, no application and no thread: what it forks holds no lock that nobody will ever release.
- Each worker shares a socket pair with the master, its ``channel``. A byte from the worker says that it is ready. Where the
  channel ends, the master is gone, and the worker ends, too.
- Signals come to the master alone, and go on as SIGTERM; SIGUSR1, which has logs opened anew, as itself. Who does not end in
  time is killed; nothing outlives the master.

Listening sockets are inherited: with SO_REUSEPORT, a worker that ends resets what waits in its own queue (24 of 40 connections,
measured 2026-11-22).
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import click

from .endings import EX_FAILURE

Serve = Callable[[socket.socket], None]
"""What a worker does, given its channel; ends by returning or by ``SystemExit``."""

MARGIN_S = 5.0
"""How much longer than its own deadline a worker may take to end."""

STEADY_S = 10.0
"""A worker that lived so long did not die of how it was started: its successor comes at once."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0

READY = b"R"
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_TOLD = (*_STOPPING, signal.SIGCHLD, signal.SIGUSR1)


def run_workers(count: int, serve: Serve, grace_s: float, *, jobs: int = 0, work: Serve | None = None) -> int:
    """Run ``count`` processes that ``serve``, and ``jobs`` that ``work``, until SIGTERM or SIGINT; return the exit code.

    They get ``grace_s`` and ``MARGIN_S`` to end; a second signal kills them at once. One that dies is started anew; if none
    can start that serves, all ends, with the exit code of the last. To be called in the main thread of a process that has no
    other one.
    """
    gc.collect()
    gc.freeze()  # a collection would write into every page that the workers share
    workers = [_Worker(serve) for _ in range(count)]
    if work is not None:
        workers += [_Worker(work, serves=False) for _ in range(jobs)]
    return _Master(workers, grace_s + MARGIN_S).run()


@dataclass(slots=True)
class _Worker:
    """A place for a worker, and who has it: nobody, if ``pid`` is 0; then the next one comes at ``due_s``.

    ``serves``: nothing is served without one. Others do jobs.
    """

    run: Serve
    serves: bool = True
    pid: int = 0
    channel: socket.socket | None = None
    is_ready: bool = False
    started_s: float = 0.0
    due_s: float = 0.0
    short_lives: int = 0

    @property
    def title(self) -> str:
        """What people are told it is."""
        return "worker" if self.serves else "job worker"


class _Master:
    def __init__(self, workers: list[_Worker], patience_s: float) -> None:
        self._workers = workers
        self._patience_s = patience_s
        self._signals: list[int] = []
        self._code: int | None = None  # known once we are stopping
        self._is_interrupted = False
        self._deadline_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._bell, self._ring = socket.socketpair()  # signals interrupt a wait by ringing

    def run(self) -> int:
        """Run until all workers have ended."""
        self._listen_to_signals()
        try:
            while self._code is None or any(worker.pid for worker in self._workers):
                self._turn()
        finally:
            self._kill_all()
        if self._is_interrupted:
            tell_stopped()
        return self._code

    def _turn(self) -> None:
        now_s = time.monotonic()
        if self._code is None:
            for worker in self._workers:
                if not worker.pid and worker.due_s <= now_s:
                    self._start(worker, now_s)
        elif now_s >= self._deadline_s:
            _say("the workers do not end; they are killed")
            self._kill_all()
        self._wait(now_s)
        for number in self._take_signals():
            self._on_signal(number)
        for worker in self._workers:
            self._reap(worker)

    def _wait(self, now_s: float) -> None:
        """Wait until something happens or is due."""
        due = [worker.due_s for worker in self._workers if not worker.pid] if self._code is None else [self._deadline_s]
        for key, _ in self._selector.select(max(0.0, min(due) - now_s) if due else None):
            if key.data is None:
                self._bell.recv(1024)
            else:
                self._on_word(key.data)

    # Workers

    def _start(self, worker: _Worker, now_s: float) -> None:
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, _TOLD)  # until the child has its own handlers
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(worker.run, ours, theirs)
        except OSError as error:
            ours.close()
            _say(f"cannot start a {worker.title}: {(error.strerror or str(error)).lower()}")
            self._postpone(worker, now_s)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
            theirs.close()
        worker.pid, worker.channel, worker.is_ready, worker.started_s = pid, ours, False, now_s
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _become_worker(self, run: Serve, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        """Go on as a worker, and never return into what the master was doing."""
        code = EX_FAILURE
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of us; the master decides
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            for one in (ours, self._bell, self._ring, *(worker.channel for worker in self._workers)):
                if one is not None:
                    one.close()
            self._selector.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _TOLD)
            run(theirs)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else EX_FAILURE * bool(error.code)
        except BaseException:  # noqa: BLE001 - the boundary of the process
            traceback.print_exc()
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _on_word(self, worker: _Worker) -> None:
        """Take what a worker says; what it may say later than now, such as that it lives, comes in here."""
        assert worker.channel is not None  # noqa: S101 - or nobody would listen to it
        try:
            word = worker.channel.recv(1024)
        except OSError:
            word = b""
        if READY in word:
            worker.is_ready = True
        if not word:
            self._hang_up(worker)

    def _hang_up(self, worker: _Worker) -> None:
        if worker.channel is not None:
            self._selector.unregister(worker.channel)
            worker.channel.close()
            worker.channel = None

    def _reap(self, worker: _Worker) -> None:
        """Take note of a worker that ended; decide who comes next."""
        if not worker.pid:
            return
        try:
            ended, status = os.waitpid(worker.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else took the news
            ended, status = worker.pid, 0
        if not ended:
            return
        if worker.channel is not None:  # what it said last may not have been heard
            worker.channel.settimeout(0)
            self._on_word(worker)
        self._hang_up(worker)
        worker.pid = 0
        if self._code is None:
            self._replace(worker, ended, os.waitstatus_to_exitcode(status))

    def _replace(self, worker: _Worker, pid: int, code: int) -> None:
        end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        is_served = worker.is_ready or any(other.pid and other.is_ready and other.serves for other in self._workers)
        if worker.serves and not is_served:
            _say(f"error: worker {pid} {end} before it could serve, and no other one does; nothing is served")
            self._stop(code if code > 0 else EX_FAILURE)
            return
        now_s = time.monotonic()
        worker.short_lives = 0 if now_s - worker.started_s >= STEADY_S else worker.short_lives + 1
        pause_s = self._postpone(worker, now_s) if worker.short_lives else 0.0
        worker.due_s = now_s + pause_s
        _say(f"{worker.title} {pid} {end}; another one starts" + (f" in {pause_s:g} s" if pause_s else ""))

    def _postpone(self, worker: _Worker, now_s: float) -> float:
        """Let the next start wait the longer the more went wrong in a row; return how long."""
        worker.short_lives = max(1, worker.short_lives)
        pause_s = min(FIRST_PAUSE_S * (1 << min(worker.short_lives - 1, 10)), LONGEST_PAUSE_S)
        worker.due_s = now_s + pause_s
        return pause_s

    # The end

    def _listen_to_signals(self) -> None:
        for one in (self._bell, self._ring):
            one.settimeout(0)
        self._selector.register(self._bell, selectors.EVENT_READ)
        for number in _TOLD:
            signal.signal(number, self._note_signal)
        signal.set_wakeup_fd(self._ring.fileno(), warn_on_full_buffer=False)

    def _note_signal(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _take_signals(self) -> list[int]:
        taken = self._signals[:]
        del self._signals[: len(taken)]
        if signal.SIGUSR1 in taken:
            self._send(signal.SIGUSR1)
        return [number for number in taken if number in _STOPPING]

    def _on_signal(self, number: int) -> None:
        if self._code is None:
            self._is_interrupted = number == signal.SIGINT
            self._stop(0)
        else:  # once more: whoever asks has no patience
            self._kill_all()

    def _stop(self, code: int) -> None:
        self._code, self._deadline_s = code, time.monotonic() + self._patience_s
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, number)

    def _kill_all(self) -> None:
        self._send(signal.SIGKILL)
        for worker in self._workers:
            if worker.pid:
                with suppress(ChildProcessError):
                    os.waitpid(worker.pid, 0)
                self._hang_up(worker)
                worker.pid = 0


def tell_stopped() -> None:
    """Say to who pressed Ctrl+C that all has ended."""
    _say("stopped")


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # who reads stderr may be gone; the workers serve on
        click.echo(text, err=True)
