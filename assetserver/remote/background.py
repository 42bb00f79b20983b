"""Publishing beside serving: each in a child process of its own, behind whoever serves; the same one only once at a time.

A child ends with this process, however that ends; what it has stored stays, and the next publish goes on from there.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import msgspec

from assetserver.errors import AssetServerError, BusyError
from assetserver.releases.crew import end_with_parent
from assetserver.releases.library import Library
from assetserver.releases.publish import PublishOptions
from assetserver.storage.pools import FilePool

from .answers import status_of
from .finishing import Missing, Ready, Work, finish_release

logger = logging.getLogger(__name__)

AT_ONCE = 2
"""Publishes that work at the same time in one process; each may use all cores, and others wait."""

LIMIT_TASKS = 8
"""Publishes that work or wait in one process: each holds its submission."""

NICENESS = 5
_WAITING = Work("waiting")


class Failed(msgspec.Struct, frozen=True):
    """Nothing was published; ``status`` is what answers it."""

    status: int
    detail: str
    retryable: bool


Outcome = Missing | Ready | Failed


@dataclass(frozen=True, slots=True)
class Job:
    """A publish to do: see ``finish_release``."""

    library: Library
    site: str
    options: PublishOptions
    content: bytes

    @property
    def key(self) -> tuple[str, bytes]:
        """The same for the same publish."""
        return self.site, sha256(self.content).digest()


class Task:
    """A publish that goes on in the background: how far it is, and ``done``, its outcome."""

    def __init__(self) -> None:
        self.work = _WAITING
        self.done: Future[Outcome] = Future()


class Background:
    """The publishes of this process. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._pool = FilePool("assetserver-remote-publish", AT_ONCE)
        self._tasks: dict[tuple[str, bytes], Task] = {}
        self._children: set[BaseProcess] = set()
        self._lock = threading.Lock()
        self._closed = False

    def start(self, job: Job) -> Task:
        """Begin ``job``, or join the same one that goes on already. It ends whether anybody waits for it or not.

        Raises ``BusyError`` if too many wait already.
        """
        with self._lock:
            if (task := self._tasks.get(job.key)) is not None:
                return task
            if len(self._tasks) >= LIMIT_TASKS:
                raise BusyError("too many releases are being made; try again in a moment")
            task = self._tasks[job.key] = Task()
            task.done = self._pool.submit(self._run, job, task)
            return task

    def close(self) -> None:
        """End what goes on: children are killed, as they may be at any moment."""
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()
        self._pool.close()

    def _run(self, job: Job, task: Task) -> Outcome:
        try:
            return self._watch(job, task)
        except OSError as error:  # no memory, no processes, no descriptors
            logger.exception("publishing could not begin")
            return Failed(HTTPStatus.SERVICE_UNAVAILABLE, status_of(error)[1], retryable=True)
        finally:
            with self._lock:
                self._tasks.pop(job.key, None)

    def _watch(self, job: Job, task: Task) -> Outcome:
        """Start a child and follow what it says, until it says how it ended, or is gone."""
        receiver, sender = get_context("spawn").Pipe(duplex=False)
        child = get_context("spawn").Process(target=run_job, args=(job, sender), name="assetserver-publish")
        child.start()
        sender.close()
        said: Work | Outcome
        with self._lock:
            self._children.add(child)
            if self._closed:
                child.kill()
        try:
            while isinstance(said := receiver.recv(), Work):
                task.work = said
        except (EOFError, OSError):
            detail = "the process that publishes was killed, most likely for want of memory; publish again"
            said = Failed(HTTPStatus.SERVICE_UNAVAILABLE, detail, retryable=True)
        finally:
            receiver.close()
            child.join()
            with self._lock:
                self._children.discard(child)
            child.close()
        return said


def run_job(job: Job, sender: Connection) -> None:
    """Do ``job`` in this process, a child, and send what is done and how it ended."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    with suppress(BrokenPipeError):  # nobody waits any more
        sender.send(_finish(job, sender))


def _finish(job: Job, sender: Connection) -> Outcome:
    try:
        return finish_release(job.library, job.site, job.options, job.content, sender.send)
    except AssetServerError as error:
        return Failed(error.status, str(error), error.retryable)
    except OSError as error:
        logger.exception("publishing failed")
        status, detail = status_of(error)
        return Failed(status, detail, retryable=False)
