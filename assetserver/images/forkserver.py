"""A small process that forks one child for each job, and tells how it ended. It is started afresh, and holds nothing else.

It imports what children work with once, so that a child costs a fork. It never touches a stranger's bytes itself. Each job
comes as one message with four descriptors: the source, the folder for results, a pipe for the child's answer, and a socket on
which the end is told; if the other end of that is closed, the child is killed. If the control socket ends, all are. Where
there is no process or memory for a child, that is told instead, and the next job is waited for.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import msgspec

from .confinement import Confines, Protections, confine, find_landlock, leave_network

LIMIT_MESSAGE = 1 << 15
"""Longest job, in bytes."""
FIRST_DESCRIPTOR = 3
_DESCRIPTORS = 4
"""With each job: the source, the folder, the pipe for the answer, the socket for the end."""
_ALL_DESCRIPTORS = (1 << 31) - 1
_LATE_S = 2.0
_ATTEMPTS, _PAUSE_S = 10, 0.1
"""A child's own clock ends it; this much later it is killed from outside."""

Work = Callable[[bytes, int, int], bytes]
"""What a child does: from the order, the source's descriptor and the folder's to the answer."""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job: what the child may take, and what its work is told."""

    confines: Confines
    order: msgspec.Raw


class Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ended"):
    """How a child ended: the status of ``wait``, processor time, the most memory it held, and whether it was too late."""

    status: int
    cpu_s: float
    peak_bytes: int
    was_late: bool


class Unborn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unborn"):
    """Why there is no child: what the system said."""

    reason: str


class _Child(NamedTuple):
    process: int
    life: socket.socket
    deadline_s: float
    is_killed: bool = False
    was_late: bool = False


def _let_others_first() -> None:
    """Put this session behind the others, where Linux shares cores first between sessions: niceness counts within one alone.

    It takes one such change in 0.1 s, whoever makes it.
    """
    for _ in range(_ATTEMPTS):
        try:
            with open("/proc/self/autogroup", "w", encoding="ascii") as file:
                file.write("19")
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        except OSError:  # there is no such sharing, or a sandbox forbids it
            return
        else:
            return


def serve(control: int, work: str) -> None:
    """Fork children until the socket behind the descriptor ``control`` ends. ``work`` is ``module:function``, a ``Work``."""
    _let_others_first()
    module, _, name = work.partition(":")
    function: Work = getattr(importlib.import_module(module), name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # the collector would write to every page that children share
    with socket.socket(fileno=control) as jobs:
        jobs.send(msgspec.json.encode(Protections(leave_network(), find_landlock())))
        _Server(jobs, function).run()


class _Server:
    def __init__(self, jobs: socket.socket, work: Work) -> None:
        self._jobs = jobs
        self._work = work
        self._children: dict[int, _Child] = {}
        """By the descriptor of each process (pidfd)."""
        self._poll = select.poll()
        self._poll.register(jobs, select.POLLIN)

    def run(self) -> None:
        """Work until nobody is left who could send jobs."""
        while True:
            ready = dict(self._poll.poll(self._choose_timeout_ms()))
            for pidfd, child in list(self._children.items()):
                is_late = time.monotonic() > child.deadline_s
                if pidfd in ready:
                    self._bury(pidfd, child)
                elif not child.is_killed and (is_late or child.life.fileno() in ready):
                    self._kill(pidfd, child, was_late=is_late)
            if self._jobs.fileno() in ready and not self._take():
                break
        for pidfd in self._children:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _choose_timeout_ms(self) -> float | None:
        deadlines_s = [child.deadline_s for child in self._children.values() if not child.is_killed]
        return max(50.0, 1000 * (min(deadlines_s) - time.monotonic())) if deadlines_s else None

    def _take(self) -> bool:
        """Take a job and start its child, or tell why there is none; False if there will be no more."""
        message, descriptors, _, _ = socket.recv_fds(self._jobs, LIMIT_MESSAGE, _DESCRIPTORS)
        if len(descriptors) < _DESCRIPTORS:  # the end, or this process may open no more: who waits sees its socket closed
            for descriptor in descriptors:
                os.close(descriptor)
            return bool(message)
        *given, last = descriptors
        life = socket.socket(fileno=last)
        try:
            self._start(msgspec.json.decode(message, type=Task), given, life)
        except OSError as error:
            _tell_end(life, Unborn(error.strerror or str(error)))
        finally:
            for descriptor in given:
                os.close(descriptor)
        return True

    def _start(self, task: Task, given: list[int], life: socket.socket) -> None:
        """Start a child. Raises ``OSError`` where the system has no process, memory or descriptor for it."""
        parent = os.getpid()
        process = os.fork()
        if process == 0:
            _live(self._work, task, given, parent)
        try:
            pidfd = os.pidfd_open(process)
        except OSError:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise
        self._children[pidfd] = _Child(process, life, time.monotonic() + task.confines.wall_s + _LATE_S)
        self._poll.register(pidfd, select.POLLIN)
        self._poll.register(life, 0)  # hanging up is told in any case

    def _kill(self, pidfd: int, child: _Child, *, was_late: bool) -> None:
        """Kill a child, once: it may take its time, as in a disk that hangs, and meanwhile nothing is to be told of it."""
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._poll.unregister(child.life)
        self._children[pidfd] = child._replace(is_killed=True, was_late=was_late)

    def _bury(self, pidfd: int, child: _Child) -> None:
        _, status, used = os.wait4(child.process, 0)
        self._poll.unregister(pidfd)
        if not child.is_killed:
            self._poll.unregister(child.life)
        del self._children[pidfd]
        os.close(pidfd)
        _tell_end(child.life, Ending(status, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, child.was_late))


def _tell_end(life: socket.socket, told: Ending | Unborn) -> None:
    """Tell who waits what came of a child, if they still do."""
    with life, suppress(OSError):
        life.send(msgspec.json.encode(told), socket.MSG_NOSIGNAL)


def _live(work: Work, task: Task, descriptors: list[int], parent: int) -> None:
    """Be the child: keep three descriptors and nothing else, give up all rights, work, answer, end."""
    try:
        # Copies first, above all targets, or one would overwrite the next.
        copies = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, FIRST_DESCRIPTOR + 3) for descriptor in descriptors]
        for target, copy in enumerate(copies, FIRST_DESCRIPTOR):
            os.dup2(copy, target)
        os.dup2(1, 2)  # nothing of a stranger's gets into the log: standard output leads nowhere
        source, folder, answer = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + 3)
        os.closerange(answer + 1, _ALL_DESCRIPTORS)
        confine(task.confines, folder, parent)
        told = memoryview(work(bytes(task.order), source, folder))
        while told:
            told = told[os.write(answer, told) :]
        os._exit(0)
    finally:
        os._exit(1)
