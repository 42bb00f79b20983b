"""A worker: claims jobs of the kinds that it knows, runs each on a thread, and records what came of it, until it is stopped.

Laws:
- It claims what it can begin at once, and nothing ahead: what waits, waits for whoever is free first.
- What came of an attempt is recorded sooner or later, unless the lease is lost: a database that is locked, full or away loses
  nothing.
- A handler cannot be ended from outside. One that takes longer than it may loses its lease, and the worker ends and says so, to
  be started anew; children that handlers start have limits of their own.
- Idle it waits at its bell, and looks by itself every two seconds: for jobs that are due, rings that were lost, workers that
  died.
"""

from __future__ import annotations

import logging
import os
import random
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from assetserver.errors import AssetServerError, JobFailedError, LeaseLostError
from assetserver.traces import enter_trace

from .attempt import Attempt, Kind, Outcome, read_failure
from .heart import Heart
from .job import Failure, Lease
from .queue import JobQueue, Listener

logger = logging.getLogger(__name__)

LEASE_S = 10.0
POLL_S = 2.0
_PRUNE_EVERY_S = 60.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


OnEnd = Callable[[str, str, float], None]
"""Is told the kind of a job, what came of an attempt at it (done, failed, dead or lost), and how long that took in seconds."""


def name_worker() -> str:
    """Return a name that no other worker ever has, and that tells people where it runs: host, process, and chance."""
    host = re.sub(r"[^A-Za-z0-9.]+", "-", socket.gethostname())[:64].strip("-.") or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


class Worker:
    """A worker on ``queue`` of these ``kinds``, by name. Jobs that ended are forgotten after a while.

    ``grace_s``: how long a stop waits for what runs; then it is given back, as an attempt that counts. ``on_turn`` is called
    every two seconds or more often, as long as the worker is not stuck; ``on_end`` is told how attempts ended.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        queue: JobQueue,
        kinds: Mapping[str, Kind],
        *,
        lease_s: float = LEASE_S,
        grace_s: float = 30.0,
        keep_done_s: float = 86_400.0,
        keep_dead_s: float = 30 * 86_400.0,
        on_end: OnEnd = lambda _kind, _result, _duration_s: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name_worker()
        self._queue = queue
        self._kinds = kinds
        self._on_turn = on_turn
        self._lease_s = lease_s
        self._grace_s = grace_s
        self._keep_s = (keep_done_s, keep_dead_s)
        self._heart = Heart(queue, lease_s, self._give_up)
        self._running: set[Attempt] = set()
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._on_end = on_end
        self._is_stopping = False
        self._is_stuck = False
        self._pause_s = _FIRST_PAUSE_S
        self._swept_s = self._pruned_s = float("-inf")

    def run(self) -> bool:
        """Work until ``stop``; blocks. Return False if a handler did not end in time: the process is to end."""
        self._listener = self._queue.listen(self.name)
        self._heart.start()
        try:
            while not self._is_stopping:
                self._listener.wait(self._turn())
            self._finish()
        finally:
            self._heart.stop()
            self._listener.close()
        return not self._is_stuck

    def stop(self) -> None:
        """End soon: claim nothing more, and finish what runs. From any thread, and from a signal handler."""
        self._is_stopping = True
        if self._listener is not None:
            self._listener.ring()

    # The loop

    def _turn(self) -> float:
        """Do what is due; return how long to wait. What the records refuse is tried again after a pause."""
        self._on_turn()
        try:
            wait_s = self._look()
        except AssetServerError as error:
            if not error.retryable:
                raise
            logger.warning("jobs are not looked for: %s", error)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return self._pause_s
        self._pause_s = _FIRST_PAUSE_S
        return wait_s

    def _look(self) -> float:
        now_s = time.monotonic()
        if now_s - self._swept_s >= POLL_S:
            self._swept_s = now_s
            if taken := self._queue.sweep():
                logger.warning("%d jobs were taken from workers that died or stalled", taken)
        free = self._count_free()
        due_s = self._queue.next_due_s(free) if free else None
        if due_s is not None and due_s <= 0:
            leases = self._queue.claim(self.name, free, self._lease_s)
            for lease in leases:
                self._begin(lease)
            return 0.0 if leases else POLL_S  # another worker was quicker
        self._prune(now_s)
        return POLL_S if due_s is None else min(due_s, POLL_S)

    def _count_free(self) -> dict[str, int]:
        """Return how many more jobs of each kind may run."""
        with self._lock:
            kinds = [attempt.job.kind for attempt in self._running]
        free = {name: kind.at_once - kinds.count(name) for name, kind in self._kinds.items()}
        return {name: count for name, count in free.items() if count > 0}

    def _prune(self, now_s: float) -> None:
        if now_s - self._pruned_s >= _PRUNE_EVERY_S and self._queue.prune(*self._keep_s) == 0:
            self._pruned_s = now_s

    # An attempt

    def _begin(self, lease: Lease) -> None:
        """Start a thread for an attempt; once we are stopping, give it back."""
        if self._is_stopping:
            self._record(Attempt(lease, 0.0), lambda: self._queue.release(lease, was_begun=False))
            return
        attempt = Attempt(lease, time.monotonic())
        with self._lock:
            self._running.add(attempt)
        self._heart.watch(attempt, self._kinds[lease.job.kind].limit_s)
        threading.Thread(target=self._work, args=(attempt,), name=f"assetserver-job-{lease.job.id}", daemon=True).start()

    def _work(self, attempt: Attempt) -> None:
        kind, begun_s, result = self._kinds[attempt.job.kind], time.monotonic(), "done"
        enter_trace(attempt.job.trace)  # the thread's own context: what this job causes is of the same trace
        try:
            outcome = kind.handle(attempt)
        except LeaseLostError:
            result = "lost"
            logger.info("job %d (%s) was given up: it is another worker's, or cancelled", attempt.job.id, attempt.job.kind)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is what came of the attempt
            result = self._fail(kind, attempt, error)
        else:
            if outcome is Outcome.DONE:
                self._record(attempt, lambda: self._queue.complete(attempt.lease))
        finally:
            self._on_end(attempt.job.kind, result, time.monotonic() - begun_s)
            self._heart.forget(attempt)
            with self._lock:
                self._running.discard(attempt)
            if self._listener is not None:
                self._listener.ring()

    def _fail(self, kind: Kind, attempt: Attempt, error: Exception) -> str:
        """Record that an attempt failed; return what came of it."""
        job, failure = attempt.job, read_failure(error)
        delay_s = kind.retry.delay_s(job.attempts, random.random())  # noqa: S311 - it spreads load, and protects nothing
        if isinstance(error, JobFailedError):
            delay_s = max(delay_s, error.retry_after_s)
        is_dead = failure.is_permanent or job.attempts >= job.max_attempts
        if not isinstance(error, AssetServerError):
            logger.error("job %d (%s) met an error of this program", job.id, job.kind, exc_info=error)
        self._tell(attempt, failure, f"again in {delay_s:.0f} s" if not is_dead else "and is not tried again")
        self._record(attempt, lambda: self._queue.fail(attempt.lease, failure, delay_s))
        return "dead" if is_dead else "failed"

    def _tell(self, attempt: Attempt, failure: Failure, then: str) -> None:
        job = attempt.job
        logger.warning("job %d (%s) failed, attempt %d of %d, %s: %s", job.id, job.kind, job.attempts, job.max_attempts, then,
                       failure.reason)  # fmt: skip

    def _record(self, attempt: Attempt, record: Callable[[], bool]) -> None:
        """Record what came of an attempt, however long that takes, unless its lease is lost."""
        pause_s = _FIRST_PAUSE_S
        while not attempt.is_lost:
            try:
                if not record():
                    attempt.lose()
            except AssetServerError as error:
                if not error.retryable:
                    logger.error("what came of job %d was not recorded: %s", attempt.job.id, error)  # noqa: TRY400
                    return
                logger.warning("what came of job %d is not recorded yet: %s", attempt.job.id, error)
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                return

    # The end

    def _give_up(self, attempt: Attempt) -> None:
        """A handler takes too long: the attempt has failed, whatever it does, and its thread cannot be had back."""
        logger.error("job %d (%s) takes too long; the worker ends", attempt.job.id, attempt.job.kind)
        attempt.lose()
        limit_s = self._kinds[attempt.job.kind].limit_s
        failure = Failure(f"it took longer than {limit_s:.0f} s")
        delay_s = self._kinds[attempt.job.kind].retry.delay_s(attempt.job.attempts, random.random())  # noqa: S311 - as above
        with suppress(AssetServerError):  # else the lease ends by itself
            self._queue.fail(attempt.lease, failure, delay_s)
        with self._lock:
            self._running.discard(attempt)
        self._is_stuck = True
        self.stop()

    def _finish(self) -> None:
        """Wait for what runs; give back what does not end in time."""
        assert self._listener is not None  # noqa: S101 - called by ``run``
        deadline_s = time.monotonic() + self._grace_s
        while self._list_running() and (left_s := deadline_s - time.monotonic()) > 0:
            self._on_turn()
            self._listener.wait(min(left_s, POLL_S))
        for attempt in self._list_running():
            self._heart.forget(attempt)
            attempt.lose()
            with suppress(AssetServerError):  # else the lease ends by itself
                self._queue.release(attempt.lease, was_begun=True)

    def _list_running(self) -> list[Attempt]:
        with self._lock:
            return list(self._running)
