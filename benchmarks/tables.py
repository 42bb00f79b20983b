"""Results as Markdown: one table per question. Reads what was kept, measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

Section = Mapping[str, Any]
Row = Mapping[str, Any]

TITLES = {
    "requests": "Cost of a request",
    "latency": "Latency",
    "files": "Many files",
    "connections": "Many connections",
    "start": "Start",
    "peers": "Other servers",
    "static": "AssetFiles in your own app",
}
"""Every question, in the order in which it is told."""

MARKS = {None: "", True: "met", False: "**missed**"}


def format_section(name: str, section: Section) -> Iterator[str]:
    """Yield the lines of a question's tables."""
    rows = section["rows"]
    pairs = [row for row in rows if row["kind"] != "value" and "peer" not in row]
    if name == "static":
        yield from format_static(pairs)
    elif name == "latency":
        yield from format_latency(pairs)
    elif pairs:
        yield from format_pairs(pairs)
    if rivals := [row for row in rows if "peer" in row]:
        yield from format_rivals(rivals)
    if values := [row for row in rows if row["kind"] == "value"]:
        if pairs:
            yield ""
        yield from format_values(values)
    if section["invalid"]:
        yield from ("", f"Not valid, and left out: {len(section['invalid'])}.")
        yield from (f"- {one.splitlines()[0]}" for one in section["invalid"])


def format_pairs(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of processor time."""
    yield "| question | against | takes, µs | assetserver, µs | ratio: median (min–max) | goal | |"  # noqa: RUF001 - a range
    yield "|---|---|--:|--:|--:|--:|---|"
    for row in rows:
        base, ours = (cost_of(row, side, "cpu_us") for side in (0, 1))
        goal = "" if row["goal"] is None else f"≤ {row['goal']:g}"
        ratio = format_spread(row["ratio"])
        judged = f"{ratio} | {goal} | {MARKS[row['is_met']]}"
        yield f"| {row['title']} | {row['servers'][0]} | {base:,.1f} | {ours:,.1f} | {judged} |"


def format_latency(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of latency: three shares of each server, and the ratio of one of them."""
    yield "| 1 KiB, 15 fields | server | p50, ms | p99, ms | p99.9, ms | req/s | p99 ratio: median (min–max) | goal | |"  # noqa: RUF001
    yield "|---|---|--:|--:|--:|--:|--:|--:|---|"
    for row in rows:
        for side, name in enumerate(row["servers"]):
            times = " | ".join(f"{cost_of(row, side, key) / 1000:.2f}" for key in ("p50_us", "p99_us", "p999_us"))
            rate = median(costs[side]["requests"] / costs[side]["duration_s"] for costs in row["rounds"])
            judged = f"{format_spread(row['ratio'])} | ≤ {row['goal']:g} | {MARKS[row['is_met']]}" if side else " | |"
            yield f"| {row['title']} | {name} | {times} | {rate:,.0f} | {judged} |"


def format_rivals(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of other servers, each against assetserver and nginx in the same rounds."""
    yield "| server | question | CPU µs/request | ÷ nginx | ÷ assetserver: median (min–max) | goal | |"  # noqa: RUF001 - a range
    yield "|---|---|--:|--:|--:|--:|---|"
    for row in rows:
        goal = "" if row["goal"] is None else f"≥ {row['goal']:g}"
        numbers = f"{cost_of(row, 2, 'cpu_us'):,.1f} | {row['to_nginx']['median']:.2f} | {format_spread(row['ratio'])}"
        yield f"| {row['servers'][2]} | {row['title']} | {numbers} | {goal} | {MARKS[row['is_met']]} |"


def format_static(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of stock against ours, where the ratio is how many times as much stock takes."""
    yield "| question | stock, CPU µs | AssetFiles, CPU µs | stock ÷ AssetFiles: median (min–max) |"  # noqa: RUF001 - a range
    yield "|---|--:|--:|--:|"
    for row in rows:
        ratio = row["ratio"]
        turned = {"median": 1 / ratio["median"], "min": 1 / ratio["max"], "max": 1 / ratio["min"]}
        base, ours = (cost_of(row, side, "cpu_us") for side in (0, 1))
        yield f"| {row['title']} | {base:,.1f} | {ours:,.1f} | {format_spread(turned)} |"


def format_values(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of values that are no ratios."""
    yield "| what | server | measured | goal | |"
    yield "|---|---|--:|--:|---|"
    for row in rows:
        for name, value in row["values"].items():
            is_judged = name == "assetserver" and row["goal"] is not None
            judged = f"≤ {row['goal']:,g} {row['unit']} | {MARKS[row['is_met']]}" if is_judged else " | "
            digits = 3 if row["unit"] == "s" else 0
            yield f"| {row['title']} | {name} | {value:,.{digits}f} {row['unit']} | {judged} |"


def cost_of(row: Row, side: int, key: str) -> float:
    """Return the median over the rounds of what one server took."""
    return float(median(costs[side][key] for costs in row["rounds"]))


def format_spread(ratio: Mapping[str, float]) -> str:
    """Return median, least and greatest."""
    digits = 1 if ratio["median"] >= 10 else 2
    return f"{ratio['median']:.{digits}f} ({ratio['min']:.{digits}f}–{ratio['max']:.{digits}f})"  # noqa: RUF001 - a range


def format_table(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of what was measured, beside its goals."""
    yield "| what | measured | goal | |"
    yield "|---|--:|--:|---|"
    for row in results["rows"]:
        digits = 2 if row["value"] < 10 else 1 if row["value"] < 100 else 0
        yield f"| {row['what']} | {row['value']:,.{digits}f} {row['unit']} | {row['goal']} | {MARKS[row['is_met']]} |"


def format_deltas(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of files and what each comes to, by coding; in brackets processor time in ms."""
    yield "| file, old → new | raw | gzip-9 | zstd-19 | br-11 | on demand (dcz-9) | **at publish (dcz-19)** | spared |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    names = ("gzip-9", "zstd-19", "br-11", "dcz-9", "dcz-19")
    for row in results["files"]:
        sizes = {name: f"{row['bytes'][name]:,} ({row['cpu_ms'][name]:,.0f})" for name in names}
        cells = [f"{row['file']} {row['old']} → {row['new']}", f"{row['raw']:,}", *(sizes[name] for name in names[:-1])]
        spared = 1 - row["bytes"]["dcz-19"] / row["bytes"]["br-11"]
        cells += [f"**{row['bytes']['dcz-19']:,}** ({row['cpu_ms']['dcz-19']:,.0f})", f"{100 * spared:.1f} %"]
        yield f"| {' | '.join(cells)} |"
    totals = {name: sum(row["bytes"][name] for row in results["files"]) for name in names}
    raw = sum(row["raw"] for row in results["files"])
    shown = [f"{totals[name]:,}" for name in names[:-1]]
    spared = 1 - totals["dcz-19"] / totals["br-11"]
    cells = [f"**all {len(results['files'])}**", f"{raw:,}", *shown, f"**{totals['dcz-19']:,}**", f"{100 * spared:.1f} %"]
    yield f"| {' | '.join(cells)} |"
