"""Measure servers against each other, round after round, one right after the other in changing order.

The ratio is taken within the round, so that whatever slows the machine for a while slows all of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

from load import Answer, Cost, Load, measure, prepare
from machine import BenchError, InvalidMeasurementError, TooFewError, say
from peers import Peer, Running, Site, launched
from rows import Row
from sites import make_site

WARM_UP_S = 0.7
WARM_UP_LIMIT_S = 20

Record = dict[str, Any]
"""What is known of a row, ready for ``json.dump``."""


class Contestant(NamedTuple):
    """A server to be, and what it serves."""

    peer: Peer
    site: Site


@dataclass
class Bench:
    """Where and how to measure, and what could not be."""

    load: Load
    core: int
    rounds: int
    is_full: bool = True
    sites: dict[str, Site] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    failed: dict[str, BenchError] = field(default_factory=dict)

    def site(self, name: str) -> Site:
        """Return a site; it is made when it is first asked for, and once. Raises ``BenchError`` if it cannot be made."""
        if name in self.failed:
            raise self.failed[name]
        if name not in self.sites:
            try:
                self.sites[name] = make_site(name, self.load.folder)
            except BenchError as error:
                self.failed[name] = error
                raise
        return self.sites[name]

    def cores(self, workers: int = 1) -> set[int]:
        """Return the cores of a server: with more workers than one, all but the load's, if they suffice, else all."""
        if workers == 1:
            return {self.core}
        usable = os.sched_getaffinity(0)
        return usable - {self.load.core} if len(usable) > workers else usable

    @contextmanager
    def refusing(self, what: str) -> Iterator[None]:
        """Take down an invalid measurement and go on."""
        try:
            yield
        except (BenchError, InvalidMeasurementError, OSError, subprocess.TimeoutExpired) as error:
            self.invalid.append(f"{what}: {error}")
            say(f"invalid: {what}: {error}")


@dataclass(frozen=True)
class Outcome:
    """What was measured for a row: of each server the answer, and in each round the cost of each server."""

    row: Row
    names: tuple[str, ...]
    answers: tuple[Answer, ...]
    rounds: list[tuple[Cost, ...]]

    def ratios(self, one: int, other: int) -> list[float]:
        """Return what one server took, as a multiple of what the other took, per round."""
        name = "cpu_us" if self.row.kind == "cpu" else "p99_us"
        return [getattr(costs[one], name) / max(getattr(costs[other], name), 1e-9) for costs in self.rounds]


def measure_row(bench: Bench, row: Row, contestants: Sequence[Contestant]) -> Outcome:
    """Measure a row, round after round, all contestants in changing order."""
    with ExitStack() as stack:
        folder = bench.load.folder
        servers = [
            stack.enter_context(launched(one.peer, one.site, bench.cores(one.peer.workers), folder)) for one in contestants
        ]
        answers = tuple(prepare(server, row, folder) for server in servers)
        for server in servers:
            warm_up(server, row, bench.load)
        outcome = Outcome(row, tuple(one.peer.name for one in contestants), answers, [])
        numbers = range(len(servers))
        for number in range(bench.rounds):
            costs: dict[int, Cost] = {}
            for one in numbers if number % 2 == 0 else reversed(numbers):
                costs[one] = measure_patiently(servers[one], row, bench.load, bench.load.seconds)
            outcome.rounds.append(tuple(costs[one] for one in numbers))
            told = ", ".join(f"{name} {costs[one].cpu_us:.1f} µs" for one, name in enumerate(outcome.names))
            say(f"round {number + 1} of {bench.rounds}, {row.title}: {told}")
    return outcome


def warm_up(server: Running, row: Row, load: Load) -> None:
    """Ask for a while, or for about as long as it takes to ask for every path of the row."""
    first = measure_patiently(server, row, load, min(WARM_UP_S, load.seconds))
    if first.requests < len(row.paths):
        needed_s = len(row.paths) / first.requests * first.duration_s
        measure_patiently(server, row, load, float(min(WARM_UP_LIMIT_S, int(needed_s) + 1)))


def measure_patiently(server: Running, row: Row, load: Load, seconds: float) -> Cost:
    """Return what the row costs a server, measured for longer if next to nothing is answered."""
    for factor in (1, 2, 4, 8):
        try:
            return measure(server, row, load, seconds * factor)
        except TooFewError as error:
            say(f"{server.peer.name}: {error}; once more, for longer")
    raise InvalidMeasurementError(f"{server.peer.name}: next to nothing is answered")


def measure_rows(bench: Bench, rows: Sequence[Row]) -> Iterator[Record]:
    """Measure each row against what it is compared with, and yield what was measured."""
    for row in rows:
        with bench.refusing(row.title):
            base = Contestant(row.base, bench.site(row.base_site or row.site))
            outcome = measure_row(bench, row, (base, Contestant(row.ours, bench.site(row.site))))
            ratios = outcome.ratios(1, 0)
            is_met = None if row.goal is None else median(ratios) <= row.goal
            yield {**describe(outcome), "ratio": spread(ratios), "goal": row.goal, "is_met": is_met}


def describe(outcome: Outcome) -> Record:
    """Return what was read in the rounds of a row."""
    row = outcome.row
    return {
        "key": row.key,
        "title": row.title,
        "kind": row.kind,
        "servers": outcome.names,
        "connections": row.connections,
        "head_bytes": [answer.head for answer in outcome.answers],
        "content_bytes": [answer.length for answer in outcome.answers],
        "rounds": [[asdict(cost) for cost in costs] for costs in outcome.rounds],
    }


def spread(values: Sequence[float]) -> Record:
    """Return median, least and greatest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def value_record(
    key: str, title: str, unit: str, samples: dict[str, list[float]], goal: float | None = None, *, judged: str = "assetserver"
) -> Record:
    """Return a row that is a value of each server and not a ratio; the goal is at most so much, for the one ``judged``."""
    is_met = None if goal is None else median(samples[judged]) <= goal
    medians = {name: median(values) for name, values in samples.items()}
    rest = {"values": medians, "samples": samples, "goal": goal, "is_met": is_met}
    return {"key": key, "title": title, "kind": "value", "unit": unit, **rest}
