"""What ``assetserver top`` shows: the screen for two snapshots of a server, as something that rich can draw.

Decides what is worth a line, and how numbers are written; asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .metrics.families import CODINGS
from .metrics.snapshot import Rates
from .wording import escape, in_units

_BARS = " ▁▂▃▄▅▆▇█"
_QUIET, _LOUD, _HEAD, _GOOD, _BAD = "dim", "bold", "bold cyan", "green", "bold red"
_THOUSAND = 1000
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400
_ERROR_CLASSES = (("4xx", "4", "yellow"), ("5xx", "5", _BAD))
_LAG_WORTH_A_LOOK_S = 0.1


class View(NamedTuple):
    """What there is to show: ``past`` are requests per second, the oldest first; ``popular`` as ``/-/popular`` tells it."""

    address: str
    rates: Rates
    ready: Mapping[str, Any]
    popular: Mapping[str, Sequence[Mapping[str, Any]]]
    past: Sequence[float]
    problem: str = ""


def draw(view: View, width: int, height: int) -> RenderableType:
    """Return the screen of ``width`` columns and ``height`` lines, or fewer."""
    rates = view.rates
    parts: list[RenderableType] = [_head(view, width), Text()]
    parts += [_traffic(view, width), Text()]
    parts += [_side_by_side(_codings(rates), _work(rates), width)]
    used = 15
    rows = max(3, height - used - 4)
    assets, missing = view.popular.get("assets", ()), view.popular.get("missing", ())
    share = rows if not missing else max(2, rows * 2 // 3)
    parts += [Text(), _paths("asked for most today", assets, share, width)]
    if missing:
        parts += [Text(), _paths("names of old releases that were missed today", missing, max(1, rows - share), width)]
    return Group(*parts)


def _head(view: View, width: int) -> Text:
    line = Text().append("assetserver ", style=_LOUD)
    builds = view.rates.now.series.get("assetserver_build_info", {})
    version = next((dict(labels).get("version", "") for labels in builds), "")
    line.append(f"{version}  ", style=_QUIET)
    line.append(view.address)
    roles = [dict(labels).get("role", "") for labels in view.rates.now.series.get("process_start_time_seconds", {})]
    workers, jobs = roles.count("server"), roles.count("jobs")
    line.append(f"  {workers} serving" + (f", {jobs} at jobs" if jobs else ""), style=_QUIET)
    state = _state(view)
    gap = max(2, width - line.cell_len - state.cell_len)
    return line.append(" " * gap).append(state)


def _state(view: View) -> Text:
    if view.problem:
        return Text(view.problem, style=_BAD)
    failed = [f"{name}: {what}" for name, what in view.ready.get("checks", {}).items() if what != "ok"]
    return Text("; ".join(failed), style=_BAD) if failed else Text("ready", style=_GOOD)


def _traffic(view: View, width: int) -> RenderableType:
    rates = view.rates
    label_width = 13
    columns = max(10, width - label_width - 14)
    line = Text().append("requests/s", style=_HEAD).append(" " * (label_width - 10))
    line.append(f"{_rate(count_requests(rates)):>8}", style=_LOUD)
    line.append("  ").append(sparkline(view.past, columns), style="cyan")
    bytes_line = Text().append("bytes/s", style=_HEAD).append(" " * (label_width - 7))
    sent = rates.total("http_response_bytes_total") - rates.total("http_response_bytes_total", handler="admin")
    bytes_line.append(f"{in_units(int(sent)):>8}", style=_LOUD)
    now = rates.now
    bytes_line.append(f"   {now.total('http_requests_in_flight'):.0f} in flight", style=_QUIET)
    bytes_line.append(f"   {now.total('http_connections'):.0f} connections", style=_QUIET)
    by_code = rates.by("http_requests_total", "code")
    for name, first, style in _ERROR_CLASSES:
        count = sum(value for code, value in by_code.items() if code.startswith(first))
        bytes_line.append(f"   {name} {_rate(count)}/s", style=style if count else _QUIET)
    return Group(line, bytes_line)


def _codings(rates: Rates) -> Table:
    """Return what files were sent as, and how many of them were repeated from memory."""
    table = _table("coding", "answers/s", "share", "hot")
    by_coding = rates.by("cache_requests_total", "coding")
    total = sum(by_coding.values())
    for coding in CODINGS:
        count = by_coding.get(coding, 0.0)
        if not count:
            continue
        hot = rates.total("cache_requests_total", coding=coding, result="hot")
        table.add_row(coding, _rate(count), _percent(count, total), _percent(hot, count))
    if not total:
        table.add_row(Text("none right now", style=_QUIET), "", "", "")
    return table


def _work(rates: Rates) -> Table:
    """Return what goes on beside requests."""
    now = rates.now
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style=_HEAD)
    table.add_column()
    jobs = now.by("jobs", "state")
    if jobs:
        oldest = now.total("jobs_oldest_seconds")
        waits = f", the first for {in_time(oldest)}" if jobs.get("queued") else ""
        table.add_row("queue", f"{jobs.get('queued', 0):.0f} waiting{waits}, {jobs.get('running', 0):.0f} running")
    if dead := jobs.get("dead"):
        table.add_row("", Text(f"{dead:.0f} failed for good", style="yellow"))
    attempts = now.by("job_attempts_total", "result")
    if attempts:
        table.add_row("jobs", ", ".join(f"{count:.0f} {result}" for result, count in attempts.items() if count))
    uploads = now.by("uploads_total", "result")
    if uploads:
        told = ", ".join(f"{count:.0f} {result}" for result, count in uploads.items())
        table.add_row("uploads", f"{told} ({in_units(int(now.total('upload_bytes_total')))})")
    table.add_row("deltas", f"{in_units(int(now.total('delta_saved_bytes_total')))} spared")
    lag = max(now.by("event_loop_latest_lag_seconds", "process").values(), default=0.0)
    table.add_row("loop", Text(f"{lag * 1000:.1f} ms late", style="yellow" if lag > _LAG_WORTH_A_LOOK_S else ""))
    table.add_row("cpu", f"{rates.total('process_cpu_seconds_total') * 100:.0f} % of a core")
    table.add_row("memory", in_units(int(now.total("process_resident_memory_bytes"))))
    return table


def _side_by_side(left: Table, right: Table, width: int) -> RenderableType:
    """Return two tables beside each other, or below where there is no room."""
    if width < 72:  # noqa: PLR2004 - columns that both need
        return Group(left, Text(), right)
    both = Table.grid(padding=(0, 4))
    both.add_row(left, right)
    return both


def _paths(title: str, rows: Sequence[Mapping[str, Any]], limit: int, width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_HEAD, expand=False)
    table.add_column(title, width=max(20, width - 14), no_wrap=True, overflow="ellipsis")
    table.add_column("requests", justify="right")
    for row in rows[:limit]:
        doubt = "≤ " if row["error"] else ""
        table.add_row(escape(str(row["path"])), f"{doubt}{row['requests']:,}")
    if not rows:
        table.add_row(Text("nothing yet", style=_QUIET), "")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style=_HEAD)
    table.add_column(first)
    for one in others:
        table.add_column(one, justify="right")
    return table


def count_requests(rates: Rates) -> float:
    """Return the requests per second, without those of who looks at the server."""
    return rates.total("http_requests_total") - rates.total("http_requests_total", handler="admin")


def sparkline(values: Iterable[float], columns: int) -> str:
    """Return the last of ``values`` as bars, one for a column, of up to the height of the largest."""
    last = list(values)[-columns:]
    largest = max(last, default=0.0)
    if largest <= 0:
        return ""
    return "".join(_BARS[round(value / largest * (len(_BARS) - 1))] for value in last)


def _rate(count: float) -> str:
    if count >= _THOUSAND:
        return f"{count:,.0f}"
    return f"{count:.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"  # noqa: PLR2004 - two digits


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}" if whole else ""


def in_time(duration_s: float) -> str:
    """Return a duration as people read it: ``12 s``, ``3 min``, ``2 h``, ``5 d``."""
    for unit_s, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if duration_s >= unit_s:
            return f"{duration_s / unit_s:.0f} {name}"
    return f"{duration_s:.0f} s"
