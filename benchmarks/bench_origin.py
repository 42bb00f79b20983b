"""What does a request cost assetserver, against nginx and other servers?

Every round measures nginx and assetserver one right after the other, in changing order, and takes the ratio within the round,
so that whatever slows the machine for a while slows both. The cost is the processor time of all the server's processes per
request, from ``/proc``. Every row stands beside its goal, and a missed one is said to be missed.

Prints Markdown on stdout, progress on stderr, and writes JSON and an SVG chart. Needs Linux, wrk and nginx. Exit codes: 0 done,
1 a measurement was invalid, 69 something is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import NamedTuple

from bench_static import (
    EX_INVALID,
    EX_UNAVAILABLE,
    KIB,
    BenchError,
    InvalidMeasurementError,
    TooFewError,
    choose_cores,
    describe_machine,
    list_tree,
    say,
)
from chart import Bar, draw
from load import Answer, Cost, Load, ask, measure, prepare
from origin_rows import EQUAL, IDLE, SMALL, Idle, Row, list_rows, make_requests, make_site, make_trace, write_sidecars
from peers import OTHERS, Running, Site, assetserver, find, has_brotli, launched, nginx

WARM_UP_S = 0.7
WARM_UP_LIMIT_S = 20
PEER_ROWS = ("1k-2", "1k-15", "16k", "304", "1m")
RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")


class Pair(NamedTuple):
    """Two costs of the same round."""

    nginx: Cost
    ours: Cost


@dataclass(frozen=True)
class Outcome:
    """What was measured for a row: its rounds, and the answers of both."""

    row: Row
    answers: tuple[Answer, Answer]
    pairs: list[Pair]

    @property
    def ratios(self) -> list[float]:
        """What ours took, as a multiple of what nginx took, per round."""
        name = "cpu_us" if self.row.kind == "cpu" else "p99_us"
        return [getattr(pair.ours, name) / max(getattr(pair.nginx, name), 1e-9) for pair in self.pairs]

    @property
    def is_met(self) -> bool:
        """Whether the median is at the goal."""
        return median(self.ratios) <= self.row.goal


@dataclass(frozen=True)
class IdleOutcome:
    """Bytes of private memory per idle connection."""

    idle: Idle
    nginx_bytes: float
    ours_bytes: float

    @property
    def is_met(self) -> bool:
        """Whether ours is at the goal."""
        return self.ours_bytes <= self.idle.goal_bytes


@dataclass
class Bench:
    """Where and how to measure, and what came of it."""

    load: Load
    core: int
    rounds: int
    sites: dict[str, Site] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    peers: list[Outcome] = field(default_factory=list)
    idle: list[IdleOutcome] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    def site(self, name: str) -> Site:
        """Return a site; it is made when it is first asked for."""
        if name not in self.sites:
            say(f"making and publishing the files of {name}")
            self.sites[name] = make_site(name, self.load.folder)
            if name == "main":
                write_sidecars(self.sites[name])
        return self.sites[name]

    def cores(self, workers: int) -> set[int]:
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


# --- Measuring ---------------------------------------------------------------------------------------------------------------


def measure_row(bench: Bench, row: Row) -> Outcome:
    """Measure a row, round after round, nginx and ours in changing order."""
    site = bench.site(row.site)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(launched(peer, site, bench.cores(peer.workers), bench.load.folder))
            for peer in (row.nginx, row.ours)
        ]
        answers = [prepare(server, row, bench.load.folder) for server in servers]
        for server in servers:
            warm_up(server, row, bench.load)
        outcome = Outcome(row, (answers[0], answers[1]), [])
        for number in range(bench.rounds):
            order = servers if number % 2 == 0 else servers[::-1]
            costs = {server.peer: measure_patiently(server, row, bench.load, bench.load.seconds) for server in order}
            outcome.pairs.append(Pair(costs[row.nginx], costs[row.ours]))
            last = outcome.pairs[-1]
            told = (
                f"nginx {last.nginx.cpu_us:.1f} µs, {row.ours.name} {last.ours.cpu_us:.1f} µs, ratio {outcome.ratios[-1]:.2f}"
            )
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
    for factor in (1, 2, 4):
        try:
            return measure(server, row, load, seconds * factor)
        except TooFewError as error:
            say(f"{server.peer.name}: {error}; once more, for longer")
    raise InvalidMeasurementError(f"{server.peer.name}: next to nothing is answered")


def measure_idle(bench: Bench, idle: Idle) -> IdleOutcome:
    """Return how much memory connections take that have asked once, in both servers."""
    row = Row(idle.key, "", 0)
    sizes = []
    for peer in (nginx(), assetserver()):
        with launched(peer, bench.site("main"), {bench.core}, bench.load.folder) as server:
            sizes.append(measure_connections(server, make_requests(row, server.port, "")[0], idle.connections))
    say(f"{idle.connections:,} idle connections: nginx {sizes[0]:,.0f} bytes each, assetserver {sizes[1]:,.0f}")
    return IdleOutcome(idle, *sizes)


def measure_connections(server: Running, request: bytes, count: int) -> float:
    """Return the bytes of private memory per connection: all of them open, each having got one answer."""
    ask(server.port, [request] * 10)
    before = read_private_bytes(server.process.pid)
    with ExitStack() as stack:
        for number in range(count):
            # 20,000 ports per address: other addresses of loopback have their own.
            source = (f"127.0.0.{2 + number // 5000}", 0)
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10.0, source))
            connection.sendall(request)
            if not connection.recv(64 * KIB).startswith(b"HTTP/1.1 200"):
                raise InvalidMeasurementError(f"{server.peer.name}: connection {number:,} is not answered")
        time.sleep(0.5)
        return (read_private_bytes(server.process.pid) - before) / count


def read_private_bytes(pid: int) -> int:
    """Return the private memory of a process and its children."""
    total = 0
    for member in list_tree(pid):
        with open(f"/proc/{member}/smaps_rollup", encoding="utf-8") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Private_"))
    return total * KIB


def measure_peers(bench: Bench, rows: Iterable[Row]) -> None:
    """Measure what else is installed, in pairs with nginx, too."""
    chosen = [row for row in rows if row.key in PEER_ROWS]
    for peer in OTHERS:
        if missing := peer.what_is_missing():
            say(missing)
            continue
        for row in chosen:
            with bench.refusing(f"{peer.name}, {row.title}"):
                bench.peers.append(measure_row(bench, replace(row, ours=peer)))


# --- Telling -----------------------------------------------------------------------------------------------------------------


def format_outcomes(bench: Bench) -> Iterator[str]:
    """Yield the lines of the tables."""
    yield "| question | nginx | assetserver | unit | ÷ nginx: median (min–max) | goal | | head bytes: nginx, ours |"  # noqa: RUF001 - a range
    yield "|---|--:|--:|---|--:|--:|---|--:|"
    for outcome in bench.outcomes:
        yield format_outcome(outcome)
    for one in bench.idle:
        ratio = f"{one.ours_bytes / one.nginx_bytes:.1f}" if one.nginx_bytes > 0 else ""
        numbers = f"{one.nginx_bytes:,.0f} | {one.ours_bytes:,.0f} | bytes | {ratio} | ≤ {one.idle.goal_bytes:,} bytes"
        yield f"| {one.idle.connections:,} idle connections: memory of each | {numbers} | {mark(is_met=one.is_met)} | |"
    latencies = [outcome for outcome in bench.outcomes if outcome.row.kind == "p99"]
    if latencies:
        yield from ("", "| latency, ms | server | p50 | p99 | p99.9 |", "|---|---|--:|--:|--:|")
        for outcome in latencies:
            yield from format_latency(outcome)
    if bench.peers:
        yield from ("", "| peer | question | CPU µs/request | ÷ nginx: median (min–max) |", "|---|---|--:|--:|")  # noqa: RUF001
        for one in bench.peers:
            cost = median(pair.ours.cpu_us for pair in one.pairs)
            yield f"| {one.row.ours.name} | {one.row.title} | {cost:,.1f} | {format_spread(one.ratios)} |"


def format_outcome(outcome: Outcome) -> str:
    """Return a line of the table."""
    name, unit = ("cpu_us", "CPU µs") if outcome.row.kind == "cpu" else ("p99_us", "µs")
    costs = [f"{median(getattr(pair[side], name) for pair in outcome.pairs):,.1f}" for side in (0, 1)]
    heads = f"{outcome.answers[0].head}, {outcome.answers[1].head}"
    ratio = f"{format_spread(outcome.ratios)} | ≤ {outcome.row.goal} | {mark(is_met=outcome.is_met)}"
    return f"| {outcome.row.title} | {costs[0]} | {costs[1]} | {unit} | {ratio} | {heads} |"


def format_latency(outcome: Outcome) -> Iterator[str]:
    """Yield the lines of a latency: both servers."""
    for side, name in enumerate((outcome.row.nginx.name, outcome.row.ours.name)):
        times = (median(getattr(pair[side], key) for pair in outcome.pairs) / 1000 for key in ("p50_us", "p99_us", "p999_us"))
        yield f"| {outcome.row.title} | {name} | {' | '.join(f'{one:.2f}' for one in times)} |"


def format_spread(ratios: list[float]) -> str:
    """Return median, least and greatest."""
    return f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"  # noqa: RUF001 - a range


def mark(*, is_met: bool) -> str:
    """Return how the table says whether a goal is met."""
    return "met" if is_met else "**missed**"


def to_json(bench: Bench) -> dict[str, object]:
    """Return everything that was measured, ready for ``json.dump``."""
    version = subprocess.run([find("nginx"), "-v"], capture_output=True, text=True, check=False).stderr.strip()
    machine: Mapping[str, object] = {**describe_machine(choose_cores()), "nginx": version, "brotli_static": has_brotli()}
    settings = {"rounds": bench.rounds, "seconds": bench.load.seconds}
    return {
        "machine": machine,
        "settings": settings,
        "rows": [outcome_to_json(one) for one in bench.outcomes],
        "peers": [outcome_to_json(one) for one in bench.peers],
        "idle": [{**asdict(one), "is_met": one.is_met} for one in bench.idle],
        "invalid": bench.invalid,
    }


def outcome_to_json(outcome: Outcome) -> dict[str, object]:
    """Return a row as what was read and what follows from it."""
    row = outcome.row
    return {
        "key": row.key,
        "title": row.title,
        "servers": [row.nginx.name, row.ours.name],
        "compared": row.kind,
        "connections": row.connections,
        "goal": row.goal,
        "ratio_median": median(outcome.ratios),
        "is_met": outcome.is_met,
        "head_bytes": [answer.head for answer in outcome.answers],
        "content_bytes": [answer.length for answer in outcome.answers],
        "rounds": [{**{side: asdict(cost) for side, cost in pair._asdict().items()}} for pair in outcome.pairs],
    }


def draw_outcomes(outcomes: Iterable[Outcome]) -> str:
    """Return the chart."""
    bars = [Bar(one.row.title, median(one.ratios), min(one.ratios), max(one.ratios), one.is_met) for one in outcomes]
    return draw("Cost of a request, nginx = 1 (less is better)", bars, (EQUAL, SMALL))


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs per row [%(default)s]")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a measurement [%(default)s]")
    parser.add_argument("--rows", default="", metavar="KEYS", help="only these, such as 1k-15,zipf,idle-1000; - for none")
    parser.add_argument("--peers", action="store_true", help="measure Caddy, lighttpd and others, too")
    parser.add_argument("--results", default=RESULTS, metavar="FOLDER", help="for origin.json, .svg [benchmarks/results]")
    parser.add_argument("--quick", action="store_true", help="see that it works: few rows once, 0.3 s")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not 0.1 <= arguments.seconds <= 600:
        parser.error("--rounds must be at least 1, and --seconds between 0.1 and 600")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.3
        arguments.rows = arguments.rows or "1k-15,1k-differing,16k-coded,range"
    known = {*(row.key for row in list_rows(())), *(idle.key for idle in IDLE), "-"}
    unknown = set(filter(None, arguments.rows.split(","))) - known
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return arguments


def run(bench: Bench, keys: set[str], *, peers: bool) -> None:
    """Measure what was asked for."""
    rows = list_rows(make_trace())
    for row in rows:
        if not keys or row.key in keys:
            with bench.refusing(row.title):
                bench.outcomes.append(measure_row(bench, row))
    for idle in IDLE:
        if not keys or idle.key in keys:
            with bench.refusing(idle.key):
                bench.idle.append(measure_idle(bench, idle))
    if peers:
        measure_peers(bench, rows)


def main() -> int:
    """Run the benchmark; return the exit code."""
    arguments = read_arguments()
    missing = nginx().what_is_missing() or ("" if shutil.which("wrk") else "wrk is missing: apt-get install wrk")
    if missing:
        say(missing)
        return EX_UNAVAILABLE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no server is left behind
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    cores = choose_cores()
    with tempfile.TemporaryDirectory(prefix="bench_origin-") as folder:
        bench = Bench(Load(folder, cores.load, arguments.seconds), cores.server, arguments.rounds)
        run(bench, set(filter(None, arguments.rows.split(","))), peers=arguments.peers)
    print(*format_outcomes(bench), sep="\n")
    os.makedirs(arguments.results, exist_ok=True)
    with open(os.path.join(arguments.results, "origin.json"), "w", encoding="utf-8") as file:
        json.dump(to_json(bench), file, indent=2)
        file.write("\n")
    with open(os.path.join(arguments.results, "origin.svg"), "w", encoding="utf-8") as file:
        file.write(draw_outcomes(bench.outcomes))
    say(f"numbers in {arguments.results}/origin.json")
    return EX_INVALID if bench.invalid else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        say(str(error))
        sys.exit(EX_INVALID)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
