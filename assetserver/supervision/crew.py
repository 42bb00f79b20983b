"""The workers of a master: those that it keeps, those of before a reload, and those that were told to end."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from .handover import Handover
from .words import DRAIN, READY, say
from .worker import NEVER, Closable, Worker

MARGIN_S = 5.0
"""How much longer than its own deadline a worker may take to end."""

START_S = 60.0
"""How long a worker may take until it is ready."""

ABORT_S = 5.0
"""How long a worker that is stuck may take to tell where."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
TURN_S = 1.0


class Crew:
    """All workers. ``kept``: places that are to be filled. ``old``: who serves until those do. ``leaving``: who is to end.

    They get ``grace_s`` to end, and are stuck if nothing is heard of them for ``stuck_s``; 0 for never.
    """

    def __init__(self, kept: Sequence[Worker], grace_s: float, stuck_s: float) -> None:
        self.kept = list(kept)
        self.old: list[Worker] = []
        self.leaving: list[Worker] = []
        self.selector = selectors.DefaultSelector()
        self._patience_s = grace_s + MARGIN_S
        self._stuck_s = stuck_s
        self._looked_s = time.monotonic()

    def __iter__(self) -> Iterator[Worker]:
        """Yield all of them."""
        return iter([*self.kept, *self.old, *self.leaving])

    def take_over(self, handover: Handover, like: Callable[[bool], Worker]) -> None:
        """Take over the workers that there are; what comes after one is ``like`` those that serve, or do not."""
        self.old = handover.take_workers(like)
        self.leaving = handover.take_leaving(like)

    @property
    def is_served(self) -> bool:
        """Tell whether anybody serves."""
        return any(worker.pid and worker.is_ready and worker.serves for worker in self)

    @property
    def is_complete(self) -> bool:
        """Tell whether all serve that are to."""
        return all(worker.is_ready for worker in self.kept if worker.serves)

    def describe(self) -> str:
        """Say how many serve."""
        count = sum(worker.serves for worker in self.kept)
        return f"{count} worker{'s' * (count != 1)} serve{'s' * (count == 1)}"

    # Beginnings

    def startable(self) -> list[Worker]:
        """Return the places that are to be filled; those of jobs when somebody serves, and it is decided who."""
        may_work = self.is_served and not self.old
        return [one for one in self.kept if not one.pid and one.run and (one.serves or may_work)]

    def start_due(self, now_s: float, not_theirs: Sequence[Closable]) -> None:
        """Fill the places that are due. The processes in them have nothing of what is ``not_theirs``, nor of each other."""
        for worker in self.startable():
            if worker.due_s <= now_s:
                channels = [one.channel for one in self if one.channel is not None]
                try:
                    worker.start(now_s, [*not_theirs, *channels, self.selector])
                except OSError as error:
                    say(f"cannot start a {worker.title}: {(error.strerror or str(error)).lower()}")
                    postpone(worker, now_s)
                else:
                    self.hear(worker)

    # What they say

    def hear(self, worker: Worker) -> None:
        """Listen to what a worker says."""
        if worker.channel is not None:
            worker.channel.settimeout(0)
            self.selector.register(worker.channel, selectors.EVENT_READ, lambda: self._on_word(worker))

    def _on_word(self, worker: Worker) -> None:
        """Take what a worker says; whatever that is, it lives."""
        assert worker.channel is not None  # noqa: S101 - or nobody would listen to it
        try:
            word = worker.channel.recv(1024)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        worker.silent_s = 0.0
        worker.is_ready = worker.is_ready or READY in word
        if not word:
            self._hang_up(worker)

    def _hang_up(self, worker: Worker) -> None:
        if worker.channel is not None:
            self.selector.unregister(worker.channel)
            worker.channel.close()
            worker.channel = None

    def look_after(self, now_s: float) -> None:
        """Have those aborted that are stuck, so that they tell where, and those killed that do not end in time.

        Silence counts while somebody listens, a second a turn at the most: who was stopped together with us, by a debugger or
        with the whole machine, is not stuck.
        """
        listened_s, self._looked_s = min(now_s - self._looked_s, TURN_S), now_s
        for worker in self:
            if worker.deadline_s <= now_s:
                say(f"{worker.title} {worker.pid} does not end; it is killed")
                worker.deadline_s = now_s + ABORT_S
                worker.send(signal.SIGKILL)
            elif worker.pid and worker.deadline_s == NEVER:
                worker.silent_s += listened_s
                limit_s = self._stuck_s if worker.is_ready else max(START_S, self._stuck_s)
                if self._stuck_s and worker.silent_s > limit_s:
                    say(f"{worker.title} {worker.pid} is stuck: nothing was heard of it for {limit_s:g} s; it is ended")
                    worker.deadline_s = now_s + ABORT_S
                    worker.send(signal.SIGABRT)

    # Ends

    def reap(self) -> list[tuple[Worker, int, int]]:
        """Return the places whose workers have ended, with their process ids and exit codes. Never waits."""
        ended = []
        for worker in self:
            pid = worker.pid
            if pid and (code := worker.reap()) is not None:
                if worker.channel is not None:  # what it said last may not have been heard
                    self._on_word(worker)
                self._hang_up(worker)
                ended.append((worker, pid, code))
        self.leaving = [worker for worker in self.leaving if worker.pid]
        return ended

    def replace_old(self) -> None:
        """Let those go who serve so far: the new ones do."""
        old, self.old = self.old, []
        self._dismiss(old)

    def return_to_old(self) -> None:
        """Let the new ones go, and keep those who serve so far."""
        new, self.kept, self.old = self.kept, self.old, []
        self._dismiss(new)

    def _dismiss(self, workers: Sequence[Worker]) -> None:
        """Have them finish what they do, and end."""
        for worker in workers:
            if not worker.pid:
                continue
            worker.deadline_s = time.monotonic() + self._patience_s
            self.leaving.append(worker)
            if worker.serves and worker.is_ready and worker.channel is not None:
                with suppress(OSError):
                    worker.channel.send(DRAIN)
            else:
                worker.send(signal.SIGTERM)

    def stop(self) -> None:
        """Have all of them end."""
        deadline_s = time.monotonic() + self._patience_s
        for worker in self:
            if worker.pid:
                worker.deadline_s = min(worker.deadline_s, deadline_s)
                worker.send(signal.SIGTERM)

    def kill(self) -> None:
        """End all of them at once, and wait for it."""
        for worker in self:
            worker.send(signal.SIGKILL)
        for worker in self:
            if worker.pid:
                with suppress(ChildProcessError):
                    os.waitpid(worker.pid, 0)
                self._hang_up(worker)
                worker.pid, worker.deadline_s = 0, NEVER


def postpone(worker: Worker, now_s: float) -> float:
    """Let the next start wait the longer the more went wrong in a row; return how long."""
    worker.short_lives = max(1, worker.short_lives)
    pause_s = min(FIRST_PAUSE_S * (1 << min(worker.short_lives - 1, 10)), LONGEST_PAUSE_S)
    worker.due_s = now_s + pause_s
    return pause_s
