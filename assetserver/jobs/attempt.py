"""One attempt of a job, as its handler sees it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from assetserver.errors import AssetServerError, JobFailedError, LeaseLostError

from .job import Failure, Job, Lease
from .retry import RetryPolicy

_LONGEST_REASON = 2000


class Attempt:
    """The work on ``lease.job``, begun at ``begun_s`` of the monotonic clock. Of one thread, but for ``lose``."""

    def __init__(self, lease: Lease, begun_s: float) -> None:
        self.lease = lease
        self.begun_s = begun_s
        self.share = 0.0
        self._is_lost = False

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        return self.lease.job

    @property
    def is_lost(self) -> bool:
        """Whether what comes of this does not count any more: cancelled, or another worker has it."""
        return self._is_lost

    def progress(self, share: float) -> None:
        """Say how much is done, from 0 to 1. Others see it a moment later. Raises ``LeaseLostError``."""
        self.share = min(max(share, 0.0), 1.0)
        self.raise_if_lost()

    def raise_if_lost(self) -> None:
        """Raise ``LeaseLostError`` if going on is of no use."""
        if self._is_lost:
            raise LeaseLostError(f"job {self.job.id} was cancelled, or another worker has it")

    def lose(self) -> None:
        """Have the handler stop when it looks next. From any thread."""
        self._is_lost = True


class Outcome(Enum):
    """What a handler returns that has no failure to raise."""

    DONE = "done"
    """The worker is to record that."""
    RECORDED = "recorded"
    """The handler did, in the transaction that recorded its results (``complete_within``)."""


Handler = Callable[[Attempt], Outcome]
"""Does the work of an attempt, on a thread of its own; blocks. The second run of a job must change nothing.

Raises ``JobRefusedError`` for what no other attempt would bring about, ``JobFailedError`` for what one may; any other error
that is not ``retryable`` is taken for the former, and whatever else is raised for the latter.
"""


@dataclass(frozen=True)
class Kind:
    """A kind of job: who does it, when it is tried again, how many one worker does at once, and how long one may take."""

    handle: Handler
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    at_once: int = 1
    limit_s: float = 300.0


def read_failure(error: Exception) -> Failure:
    """Return what an error means that a handler raised."""
    reason = (str(error) or type(error).__name__)[:_LONGEST_REASON]
    if isinstance(error, JobFailedError):
        return Failure(reason, is_permanent=not error.retryable, signal=error.signal)
    if isinstance(error, AssetServerError):
        return Failure(reason, is_permanent=not error.retryable)
    return Failure(f"{type(error).__name__}: {error}"[:_LONGEST_REASON])
