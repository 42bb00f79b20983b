"""The interfaces that the engine of jobs implements: for who makes work, for workers, and for people.

``database.jobs`` is the engine; ``tests/contracts`` holds what every database keeps. Narrow, so that one of the queues that
speak PostgreSQL only could stand behind it as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from .job import Failure, Job, Lease, NewJob, State


class Listener(Protocol):
    """What a worker waits at while it has nothing to do."""

    def wait(self, timeout_s: float) -> None:
        """Return when something was queued, somebody rang, or the time is over; too early does no harm."""
        ...

    def ring(self) -> None:
        """End the wait, or the next one. From any thread, and from a signal handler."""
        ...

    def close(self) -> None:
        """Be a worker no more: what it runs is free at once, where the engine can tell."""
        ...


class Beat(NamedTuple):
    """A sign of life: how far a job is, from 0 to 1."""

    lease: Lease
    progress: float


class JobQueue(Protocol):
    """Jobs, for any number of processes. All methods block, and may be called from any thread.

    Raises ``BusyError`` where somebody else holds the records for too long, ``StorageError`` where they cannot be reached: then
    nothing happened, and the call may be repeated.
    """

    def enqueue(self, new: Sequence[NewJob]) -> list[int]:
        """Queue jobs durably and wake who works; return their ids, of one that was known by its key that one's."""
        ...

    def listen(self, worker: str) -> Listener:
        """Begin to be a worker of this name, which no other one ever has."""
        ...

    def claim(self, worker: str, free: Mapping[str, int], lease_s: float) -> list[Lease]:
        """Take jobs that are due: of each kind as many as are ``free`` there. The attempt counts from now on."""
        ...

    def next_due_s(self, kinds: Collection[str]) -> float | None:
        """Return in how many seconds a job of these kinds is due, at most 0 if one is now, or None if none is queued."""
        ...

    def count_queued(self, kind: str) -> int:
        """Return how many jobs of a kind are queued, due or not."""
        ...

    def heartbeat(self, beats: Sequence[Beat], lease_s: float) -> list[Lease]:
        """Prolong leases; return those that are lost: cancelled, or another worker's."""
        ...

    def complete(self, lease: Lease) -> bool:
        """Record that the job is done; return False, and change nothing, if the lease is lost."""
        ...

    def fail(self, lease: Lease, failure: Failure, retry_in_s: float) -> bool:
        """Record that the attempt failed: the job waits, or is dead if it may not be tried again. As ``complete``."""
        ...

    def release(self, lease: Lease, *, was_begun: bool) -> bool:
        """Give a job back, to be claimed at once. An attempt that was not begun does not count. As ``complete``."""
        ...

    def sweep(self) -> int:
        """Take the jobs of workers that died or stalled from them; return how many. Any worker may, at any moment."""
        ...

    def prune(self, keep_done_s: float, keep_dead_s: float) -> int:
        """Forget jobs that ended longer ago, cancelled ones as dead ones; return how many. A few hundred in one call."""
        ...


class JobPage(NamedTuple):
    """Some jobs, the newest first, and the id to go on below, or None."""

    jobs: list[Job]
    next_id: int | None


class JobDesk(Protocol):
    """Jobs as people see them. As ``JobQueue``."""

    def find(self, job_id: int) -> Job:
        """Return a job. Raises ``JobMissingError``."""
        ...

    def list_jobs(
        self, states: Collection[State] = (), kind: str = "", below_id: int | None = None, limit: int = 100
    ) -> JobPage:
        """Return the newest jobs of these states, of all if none is named, and of this kind."""
        ...

    def count(self) -> dict[State, int]:
        """Return how many jobs there are of each state."""
        ...

    def oldest_s(self) -> float:
        """Return for how many seconds the job that waits for longest has been due, 0.0 if none is."""
        ...

    def retry(self, job_id: int) -> Job:
        """Queue a job that is dead or cancelled again, as if it were new; return it.

        Raises ``JobMissingError``, or ``JobStateError`` for one in another state, or whose work another job does.
        """
        ...

    def cancel(self, job_id: int) -> Job:
        """End a job that is queued or running: what its worker does is of no effect. Raises as ``retry``."""
        ...
