"""What does it cost to make pictures small, how good are they, and how long do visitors wait meanwhile?

Makes the ladder of a large photograph in a studio's child, as a server does, in turn with a pyvips cascade of the same encoder
settings and with sharp at its defaults; reads processor time and the child's memory; judges resized pictures against LANCZOS in
floating point. Visitors ask a server for a small file, alone and beside pictures that are made on every core, niced as job
workers are.

Prints Markdown on stdout, progress on stderr, and writes JSON. Needs Linux; peers that are missing are left out. Exit codes: 0
done, 1 something did not work.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import rows
import values
from load import Load, prepare
from machine import MIB, BenchError, InvalidMeasurementError, choose_cores, clean_environment, pinned, say
from pairs import Bench, measure_patiently, warm_up
from peers import NODE, VENV, assetserver, launched
from photographs import PLAIN, TEXTURED, USUAL, make_photograph
from PIL import Image
from values import Row

from assetserver.images.geometry import choose_widths
from assetserver.images.plan import LADDER, Plan, split_plan
from assetserver.images.studio import Developed, Studio

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.path.join(VENV, "bin", "python")
LIMIT_S = 300


@dataclass(frozen=True)
class Extent:
    """How large the pictures are, in pixels, and how often everything is done."""

    large: tuple[int, int] = (6000, 4000)
    usual: tuple[int, int] = (4000, 3000)
    rounds: int = 3
    visit_s: float = 10.0


QUICK = Extent(large=(600, 400), usual=(400, 300), rounds=1, visit_s=1.0)
REFERENCE = {"format": "AVIF", "quality": 60, "speed": 8, "max_threads": 1}
REFERENCE_WIDTH = 1280
REFERENCE_S = 0.494
"""What that took of this photograph on the machine for which the goals were set; they are in units of it: machines differ."""

USUAL_KIND, FIRST_PHASE_S = "usual", 0.9
VISITORS = {"fields": rows.BROWSER, "connections": 200, "delay_ms": 100, "kind": "p99"}
ALONE = rows.Row("alone", "alone", None, **VISITORS)
BESIDE = rows.Row("resize", "beside pictures that are made on every core", None, beside="resize", **VISITORS)


def develop(studio: Studio, source: str, plan: Plan) -> Developed:
    """Make ``plan`` of a picture, and throw it away."""
    with tempfile.TemporaryDirectory() as folder:
        return studio.make(source, plan, folder)


def measure_pace(source: str) -> float:
    """Return how many times as long as there an encoder takes here, right now."""
    image = Image.open(source)
    image = image.resize((REFERENCE_WIDTH, round(image.height * REFERENCE_WIDTH / image.width)), Image.Resampling.LANCZOS)
    begun_s = time.process_time()
    image.save(io.BytesIO(), **REFERENCE)
    return (time.process_time() - begun_s) / REFERENCE_S


def judge(what: str, times_s: list[float], paces: list[float], goal_s: float) -> Row:
    """Return the row of a processor time whose goal is that of another machine; each ratio is of one round."""
    ratio = median(one / pace for one, pace in zip(times_s, paces, strict=True))
    taken_s = median(times_s)
    goal = f"≤ {goal_s * taken_s / ratio:.2f} ({goal_s} × {taken_s / ratio:.2f})"  # noqa: RUF001 - as people write it
    return Row(what, taken_s, "s", goal, ratio <= goal_s)


def run_peer(command: Sequence[str], widths: Sequence[int]) -> float | None:
    """Return the processor seconds that a peer says it took for ``widths``; None if it cannot be run."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            told = _ask(*command, folder, *map(str, widths))
        except BenchError as error:
            say(f"left out: {error}")
            return None
    return float(told["cpu_s"])


def _ask(*command: str) -> dict[str, float]:
    environment = {**clean_environment(), "VIPS_CONCURRENCY": "1", "NODE_PATH": os.path.join(NODE, "node_modules")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{command[0]}: {error}; run benchmarks/install.py") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BenchError(f"{' '.join(command[:2])}: {said[-1] if said else done.returncode}; run benchmarks/install.py")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def measure_ladder(studio: Studio, source: str, extent: Extent) -> Iterator[Row]:
    """All of the ladder, in turn with the peers: each ratio is of one round."""
    vips = (PYTHON, os.path.join(HERE, "images", "vips_cascade.py"), source)
    sharp = ("node", os.path.join(NODE, "sharp_defaults.mjs"), source)
    widths = choose_widths(extent.large[0], LADDER)[::-1]
    ours, peaks, paces = [], [], []
    against: dict[str, list[float]] = {"pyvips, cascade": [], "sharp, defaults": []}
    taken: dict[str, list[float]] = {name: [] for name in against}
    for number in range(extent.rounds):
        say(f"the ladder, round {number + 1} of {extent.rounds}")
        made = develop(studio, source, Plan())
        ours.append(made.cpu_s)
        paces.append(measure_pace(source))
        peaks.append(made.peak_bytes / MIB)
        for name, command in zip(against, (vips, sharp), strict=True):
            if (cpu_s := run_peer(command, widths)) is not None:
                taken[name].append(cpu_s)
                against[name].append(made.cpu_s / cpu_s)
    what = f"{extent.large[0]} × {extent.large[1]} → {len(widths)} widths × 3 formats"  # noqa: RUF001 - as people write it
    where = f"AVIF of {REFERENCE_WIDTH:,} pixels, quality 60, speed 8"
    yield Row(f"the pace of this machine: {where}, {REFERENCE_S} s where the goals were set", median(paces), "times as long")
    yield judge(f"{what}: processor time of the child", ours, paces, 3.3)
    yield Row(f"{what}: most memory of the child", max(peaks), "MiB", "≤ 130", max(peaks) <= 130)
    for name, goal in (("pyvips, cascade", 1.05), ("sharp, defaults", 0.5)):
        if against[name]:
            ratio = median(against[name])
            yield Row(f"{what}: {name}", median(taken[name]), "s")
            spread = f"{min(against[name]):.2f} to {max(against[name]):.2f}"
            yield Row(f"{what}: assetserver ÷ {name} ({spread})", ratio, "", f"≤ {goal:g}", ratio <= goal)


def measure_phases(studio: Studio, source: str, kind: str, pace_of: str, extent: Extent) -> Iterator[Row]:
    """What makes a picture ready, and what comes later; the pace is that of encoding another one.

    The goal is one for the photograph with which it was set.
    """
    first, later = split_plan(Plan())
    what = f"{extent.usual[0]} × {extent.usual[1]}, {kind}"  # noqa: RUF001 - as above
    goal_s = FIRST_PHASE_S if kind == USUAL_KIND else None
    for name, plan, goal in (("first phase", first, goal_s), ("second phase, AVIF", later, None)):
        say(name)
        if plan is not None:
            rounds = [(develop(studio, source, plan).cpu_s, measure_pace(pace_of)) for _ in range(extent.rounds)]
            times_s, paces = map(list, zip(*rounds, strict=True))
            yield judge(f"{what}: {name}", times_s, paces, goal) if goal else Row(f"{what}: {name}", median(times_s), "s")


def measure_quality(studio: Studio, source: str) -> Iterator[Row]:
    """Resizing alone: PNG of every width against an exact one."""
    say("quality")
    with tempfile.TemporaryDirectory() as folder:
        studio.make(source, Plan(formats=("png",), has_placeholder=False), folder)
        try:
            scores = _ask(PYTHON, os.path.join(HERE, "images", "quality.py"), source, folder)
        except BenchError as error:
            say(f"left out: {error}")
            return
    for width, score in sorted(scores.items(), key=lambda item: -int(item[0])):
        yield Row(f"SSIMULACRA2 at {width} pixels of width", score, "", "≥ 95", score >= 95)


def measure_visitors(folder: str, extent: Extent) -> Iterator[Row]:
    """How long visitors wait while pictures are made, and while none are: each ratio is of one round."""
    cores = choose_cores()
    load = Load(folder, cores.load, extent.visit_s)
    alone, beside = [], []
    try:
        site = Bench(load, cores.server, extent.rounds).site("main")
        with launched(assetserver(), site, {cores.server}, folder) as server:
            prepare(server, ALONE, folder)
            warm_up(server, ALONE, load)
            for number in range(extent.rounds):
                say(f"visitors, round {number + 1} of {extent.rounds}")
                alone.append(measure_patiently(server, ALONE, load, extent.visit_s).p99_us)
                beside.append(measure_patiently(server, BESIDE, load, extent.visit_s).p99_us)
    except (BenchError, InvalidMeasurementError, OSError) as error:
        say(f"left out: visitors: {error}")
        return
    ratios = [one / other for one, other in zip(beside, alone, strict=True)]
    yield Row("p99 of a hot GET of 1 KiB, 200 connections", median(alone) / 1000, "ms")
    yield Row("the same beside pictures made on every core", median(beside) / 1000, "ms")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    yield Row(f"p99 beside pictures ÷ alone ({spread})", median(ratios), "", "≤ 3", median(ratios) <= 3)


def measure(folder: str, extent: Extent) -> Iterator[Row]:
    """Measure everything of two photographs, on one core; visitors on all."""
    with Studio() as studio, pinned({choose_cores().server}):
        made = {USUAL_KIND: USUAL, "all texture": TEXTURED, "mostly plain": PLAIN}
        large = make_photograph(os.path.join(folder, "large.jpg"), extent.large)
        yield from measure_ladder(studio, large, extent)
        for number, (kind, source) in enumerate(made.items()):
            photograph = make_photograph(os.path.join(folder, f"{number}.jpg"), extent.usual, source)
            yield from measure_phases(studio, photograph, kind, large, extent)
        yield from measure_quality(studio, large)
    yield from measure_visitors(folder, extent)


if __name__ == "__main__":
    sys.exit(values.run("images", __doc__, Extent(), QUICK, measure))
