"""When a job is tried again: ever later, and not all at the same moment. Pure; the chance is passed in.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of its kinds *equal jitter*, which waits for half of the
time at least.
"""

from __future__ import annotations

from dataclasses import dataclass

_MOST_DOUBLINGS = 64


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a job is begun at most, and how long it waits: ``first_s``, then each time ``factor`` as long."""

    attempts: int = 5
    first_s: float = 5.0
    factor: float = 4.0
    longest_s: float = 3600.0

    def delay_s(self, attempts: int, chance: float) -> float:
        """Return how long a job waits that failed for the time number ``attempts``; ``chance`` is from 0 to 1."""
        exponent = min(max(attempts, 1) - 1, _MOST_DOUBLINGS)
        return min(self.first_s * self.factor**exponent, self.longest_s) * (0.5 + chance / 2)

    def delay_after_death_s(self, attempts: int, chance: float) -> float:
        """Return how long a job waits whose worker died: not at all for the first time, since most often it is not to blame."""
        return self.delay_s(attempts - 1, chance) if attempts > 1 else 0.0
