"""What is counted, as text that Prometheus reads: its exposition format 0.0.4.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/. Buckets are cumulative there, and end with ``+Inf``. A
series of a counter that never counted is left out, unless its metric has no labels: of three thousand, a server shows fifty.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

from .board import Board, Reading, Role, add_up
from .families import FAMILIES, Family, Kind, Labels
from .processes import look_at

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """One number that is not counted but looked at: the metric, its help, labels and value."""

    name: str
    kind: Kind
    text: str
    labels: Mapping[str, str]
    value: float


def render(board: Board, version: str, more: Iterable[Sample] = (), apart: Iterable[Reading] = ()) -> str:
    """Return all metrics of ``board``, its processes, this ``version`` of the program, and ``more``.

    ``apart``: blocks of processes that are not among those of the board; they are numbered behind these.
    """
    readings = [*board.read(), *(one._replace(place=board.places + one.place) for one in apart)]
    total = add_up(readings)
    lines: list[str] = []
    for one in FAMILIES.values():
        lines += _render_each(one, readings) if one.by_worker else _render(one, total)
    build = {"version": version, "python": platform.python_version()}
    samples = [Sample("assetserver_build_info", "gauge", "Which program this is.", build, 1), *more, *_processes(readings)]
    lines += _render_samples(samples)
    return "\n".join(lines) + "\n"


def _render(one: Family, slots: list[int]) -> Iterator[str]:
    rows = [line for labels, first in one.series() for line in _lines(one, labels, slots[first : first + one.width])]
    if rows:
        yield from _head(one.name, one.kind, one.text)
        yield from rows


def _lines(one: Family, labels: Labels, slots: list[int]) -> Iterator[str]:
    if labels and one.kind != "gauge" and not any(slots):
        return
    if one.kind != "histogram":
        yield f"{one.name}{_format_labels(labels)} {_format(slots[0] / one.per_unit)}"
        return
    *counts, total_ns = slots
    for bound, count in zip((*map(_format, one.bounds), "+Inf"), accumulate(counts), strict=True):
        yield f"{one.name}_bucket{_format_labels((*labels, ('le', bound)))} {count}"
    yield f"{one.name}_sum{_format_labels(labels)} {_format(total_ns / one.per_unit)}"
    yield f"{one.name}_count{_format_labels(labels)} {sum(counts)}"


def _render_each(one: Family, readings: list[Reading]) -> Iterator[str]:
    """Render a gauge for each process that serves."""
    living = [reading for reading in readings if reading.pid and reading.role is Role.SERVER]
    if living:
        yield from _head(one.name, one.kind, one.text)
    for reading in living:
        yield f'{one.name}{{process="{reading.place}"}} {_format(reading.slots[one.first] / one.per_unit)}'


def _processes(readings: list[Reading]) -> Iterator[Sample]:
    for reading in readings:
        if not reading.pid:
            continue
        figures = look_at(reading.pid)
        labels = {"process": str(reading.place), "role": reading.role.name.lower()}
        for name, kind, text in _FIGURES:
            if (value := getattr(figures, name, None)) is not None:
                yield Sample(f"process_{name}", kind, text, labels, value)
        yield Sample("process_start_time_seconds", "gauge", "When it began, since 1970.", labels, reading.started)


_FIGURES: tuple[tuple[str, Kind, str], ...] = (
    ("cpu_seconds_total", "counter", "Processor time."),
    ("resident_memory_bytes", "gauge", "Memory, shared pages included."),
    ("open_fds", "gauge", "Open descriptors."),
    ("max_fds", "gauge", "Most descriptors that it may have."),
)


def _render_samples(samples: Iterable[Sample]) -> Iterator[str]:
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    for name, found in by_name.items():
        yield from _head(name, found[0].kind, found[0].text)
        for sample in found:
            yield f"{name}{_format_labels(tuple(sample.labels.items()))} {_format(sample.value)}"


def _head(name: str, kind: Kind, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _format_labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}" if labels else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _format(value: float) -> str:
    """Return a number: whole ones as such, for people; all others exactly."""
    return str(int(value)) if value == int(value) else repr(value)
