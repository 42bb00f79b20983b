"""What is asked for most, of any number of names, in memory for a few of them.

Space-Saving (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005), with
two later ideas: many are evicted at once, so that a count costs a look into a dict (Anderson et al.: A High-Performance
Algorithm for Identifying Frequent Items in Data Streams, 2017), and two sketches make one (Agarwal et al.: Mergeable
Summaries, 2012). What it tells is never too low, and too high by ``error`` at most: no more than all that was counted,
divided by the capacity.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from typing import NamedTuple


class Frequent(NamedTuple):
    """A name, how often it was counted at most, and by how much that may be too high."""

    name: str
    times: int
    error: int


class Sketch:
    """Counts names; those that are counted most are kept, ``capacity`` of them for certain, twice as many between evictions.

    ``floor`` is the most that any other name was counted.
    """

    def __init__(self, capacity: int, floor: int = 0, kept: Iterable[Frequent] = ()) -> None:
        self.floor = floor
        self._capacity = capacity
        self._counts = {one.name: one.times for one in kept}
        self._errors = {one.name: one.error for one in kept}

    def __len__(self) -> int:
        """Return how many names are kept."""
        return len(self._counts)

    def add(self, name: str, count: int = 1) -> None:
        """Count a name ``count`` times more."""
        known = self._counts.get(name)
        if known is not None:
            self._counts[name] = known + count
            return
        self._counts[name], self._errors[name] = self.floor + count, self.floor
        if len(self._counts) > 2 * self._capacity:
            self._evict()

    def top(self, limit: int) -> list[Frequent]:
        """Return the names that were counted most, the first first."""
        found = nlargest(limit, self._counts.items(), key=lambda pair: (pair[1], pair[0]))
        return [Frequent(name, count, self._errors[name]) for name, count in found]

    def bounded(self) -> Sketch:
        """Return the same with no more than ``capacity`` names."""
        copy = Sketch(self._capacity, self.floor, self.top(len(self)))
        if len(copy) > self._capacity:
            copy._evict()
        return copy

    def merged(self, other: Sketch) -> Sketch:
        """Return what was counted here and there; what one of them does not know was counted ``floor`` times there at most."""
        rows = [
            Frequent(name, self._most(name) + other._most(name), self._doubt(name) + other._doubt(name))
            for name in self._counts.keys() | other._counts.keys()
        ]
        merged = Sketch(self._capacity, self.floor + other.floor, rows)
        if len(merged) > 2 * self._capacity:
            merged._evict()
        return merged

    def _most(self, name: str) -> int:
        return self._counts.get(name, self.floor)

    def _doubt(self, name: str) -> int:
        return self._errors.get(name, self.floor)

    def _evict(self) -> None:
        """Keep what was counted most; whoever comes again may have been counted as often as the first that goes."""
        kept = self.top(self._capacity + 1)
        self.floor = max(self.floor, kept.pop().times)
        self._counts = {one.name: one.times for one in kept}
        self._errors = {one.name: one.error for one in kept}
