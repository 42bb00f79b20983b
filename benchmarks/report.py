"""Tell what was measured: the tables, the charts, and the marked blocks of the README. Reads results, measures nothing.

Numbers in the README are never typed: ``--readme`` writes what stands between its markers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from chart import Bar, Chart, Group
from machine import EX_UNAVAILABLE, say
from question import FILE, RESULTS, load_results
from rows import EQUAL, SMALL
from tables import TITLES, Row, Section, format_deltas, format_section, format_table

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")
COMPARED = ("1k-15", "1m")
"""What the chart of servers shows."""
CUT = 8.0


def list_rows(sections: Mapping[str, Section]) -> Iterator[Row]:
    """Yield the rows of all questions."""
    for name in TITLES:
        yield from sections.get(name, {"rows": ()})["rows"]


def draw_pairs(sections: Mapping[str, Section]) -> str:
    """Return the chart of all ratios between assetserver and what it is compared with."""
    groups = []
    for name in ("requests", "latency", "files", "connections"):
        rows = [row for row in sections.get(name, {"rows": ()})["rows"] if row["kind"] != "value"]
        flat = [row for row in rows if row["servers"][0].startswith("assetserver")]
        groups.append(
            Group(TITLES[name] + (", p99" if name == "latency" else ""), [to_bar(row) for row in rows if row not in flat])
        )
        groups.append(Group("A release of 10 files = 1", [to_bar(row) for row in flat]))
    return Chart("assetserver, with nginx = 1 (less is better)", groups, (SMALL, EQUAL)).draw()


def to_bar(row: Row) -> Bar:
    """Return the bar of a row."""
    ratio = row["ratio"]
    return Bar(row["title"], ratio["median"], ratio["min"], ratio["max"], row["is_met"])


def draw_servers(sections: Mapping[str, Section]) -> str:
    """Return the chart of what two kinds of request cost every server."""
    groups = []
    for key in COMPARED:
        ours = [row for row in sections.get("requests", {"rows": ()})["rows"] if row["key"] == key]
        others = [row for row in sections.get("peers", {"rows": ()})["rows"] if row["key"].endswith(f": {key}")]
        bars = [to_bar(row)._replace(label="assetserver") for row in ours]
        bars += [
            Bar(row["peer"], row["to_nginx"]["median"], row["to_nginx"]["min"], row["to_nginx"]["max"], None)
            for row in sorted(others, key=lambda one: float(one["to_nginx"]["median"]))
        ]
        groups.append(Group((ours or others or [{"title": key}])[0]["title"], bars))
    return Chart("CPU time of a request, with nginx = 1 (less is better)", groups, (EQUAL,), CUT).draw()


def tell(sections: Mapping[str, Section]) -> Iterator[str]:
    """Yield the lines about requests: where, how many goals are met, which are not, the charts, and all tables."""
    judged = [row for row in list_rows(sections) if row["is_met"] is not None]
    if not judged:
        yield "Not measured yet."
        return
    missed = [row for row in judged if not row["is_met"]]
    yield describe_run(next(iter(sections.values())))
    rest = "; the others are marked in the tables." if missed else "."
    yield f"{len(judged) - len(missed)} of {len(judged)} rows are at their goals{rest}"
    yield ""
    yield "![What a request costs every server](benchmarks/results/servers.svg)"
    yield ""
    yield "![What a request costs assetserver, with nginx = 1](benchmarks/results/origin.svg)"
    for name, title in TITLES.items():
        if name in sections:
            yield from ("", f"<details><summary>{title}</summary>", "")
            yield from format_section(name, sections[name])
            yield from ("", "</details>")


def describe_run(section: Section) -> str:
    """Return a line about the machine and its runs: rows that were measured again may be of a later one, with other rounds."""
    machine, settings = section["machine"], section["settings"]
    cpu = re.sub(r" Processor$|\(R\)|\(TM\)", "", str(machine["cpu"]))
    servers = ", ".join(filter(None, [machine["servers"]["nginx"], f"Python {machine['python']}"]))
    counts = [len(row["rounds"]) for row in section["rows"] if "rounds" in row] or [settings["rounds"]]
    lengths = [round(one["duration_s"]) for row in section["rows"] for pair in row.get("rounds", ()) for one in pair]
    rounds = f"{_tell_range(counts)} rounds of {_tell_range(lengths or [settings['seconds']])} s"
    where = f"{cpu}, {machine['cores']} cores, Linux {machine['kernel']}, {servers}"
    return f"Measured until {machine['date'][:10]} on {where}; {rounds} ([all of it](benchmarks/results/{FILE}))."


def _tell_range(numbers: Sequence[float]) -> str:
    return " to ".join(f"{one:g}" for one in sorted({min(numbers), max(numbers)}))


def tell_values(path: str, title: str) -> Iterator[str]:
    """Yield the lines about what was measured and is in the file at ``path``."""
    if not os.path.exists(path):
        yield "Not measured yet."
        return
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    judged = [row["is_met"] for row in results["rows"] if row["is_met"] is not None]
    when, name = f"Measured {results['machine']['date'][:10]}", os.path.basename(path)
    yield f"{when}: {sum(judged)} of {len(judged)} rows are at their goals ([all of it](benchmarks/results/{name}))."
    yield from ("", f"<details><summary>{title}</summary>", "")
    yield from format_table(results)
    yield from ("", "</details>")


def tell_deltas(path: str) -> Iterator[str]:
    """Yield the lines about what returning visitors download, which is in the file at ``path``."""
    if not os.path.exists(path):
        yield "Not measured yet."
        return
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    files, name = results["files"], os.path.basename(path)
    before, after = (sum(row["bytes"][coding] for row in files) for coding in ("br-11", "dcz-19"))
    median = 100 * results["median_spared"]
    yield (
        f"Measured {results['machine']['date'][:10]}: {len(files)} files come to {before:,} bytes with br, and to {after:,} as "
        f"deltas; in the median {median:.0f} % less ([all of it](benchmarks/results/{name}))."
    )
    yield ""
    yield from format_deltas(results)


def rewrite(text: str, name: str, lines: list[str]) -> str:
    """Return ``text`` with other lines between the markers called ``name``. Raises ``ValueError`` if they are not there."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no {start} … {end}")
    return "\n".join([before + start, *lines, end + after])


def write(path: str, text: str) -> None:
    """Write a file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main() -> int:
    """Tell what was measured; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", default=RESULTS, metavar="FOLDER", help="where they are [benchmarks/results]")
    parser.add_argument("--readme", nargs="?", const=README, default="", metavar="FILE", help="rewrite its marked blocks")
    arguments = parser.parse_args()
    sections = load_results(os.path.join(arguments.results, FILE))
    if sections:
        write(os.path.join(arguments.results, "origin.svg"), draw_pairs(sections))
        write(os.path.join(arguments.results, "servers.svg"), draw_servers(sections))
    lines = list(tell(sections))
    publishing = list(tell_values(os.path.join(arguments.results, "publish.json"), "Publishing, switching, keeping releases"))
    uploads = list(tell_values(os.path.join(arguments.results, "uploads.json"), "Uploads"))
    jobs = list(tell_values(os.path.join(arguments.results, "jobs.json"), "Background jobs"))
    images = list(tell_values(os.path.join(arguments.results, "images.json"), "Images"))
    deltas = list(tell_deltas(os.path.join(arguments.results, "deltas.json")))
    blocks = (
        ("bench", lines),
        ("deltas", deltas),
        ("publish", publishing),
        ("uploads", uploads),
        ("jobs", jobs),
        ("images", images),
    )
    print(*(line for _, block in blocks for line in (*block, "")), sep="\n")
    if arguments.readme:
        with open(arguments.readme, encoding="utf-8") as file:
            text = file.read()
        try:
            for name, block in blocks:
                text = rewrite(text, name, block)
            write(arguments.readme, text)
        except ValueError as error:
            say(f"{arguments.readme}: {error}")
            return EX_UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main())
