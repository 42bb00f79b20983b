"""What every question of the origin benchmark shares: options, a working folder, and one file of results for all.

A question keeps its own section of ``origin.json``; a run of some rows replaces those rows. So questions can be measured one by
one, and again, and ``report`` tells all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from load import Load
from machine import EX_INVALID, EX_UNAVAILABLE, BenchError, choose_cores, describe_machine, first_line, say
from pairs import Bench, Record
from peers import find, has_brotli
from tables import format_section

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
FILE = "origin.json"

Measure = Callable[[Bench, Sequence[str]], Iterator[Record]]
"""Measures the rows of these keys and yields what was measured."""


def read_arguments(about: str, keys: Sequence[str]) -> argparse.Namespace:
    """Return the command line's arguments; ``rows`` is a list of keys."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0], epilog=f"rows: {', '.join(keys)}")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds per row [%(default)s]")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a measurement [%(default)s]")
    parser.add_argument("--rows", default="", metavar="KEYS", help="only these, with commas between them")
    parser.add_argument("--results", default="", metavar="FOLDER", help="for origin.json [benchmarks/results]")
    parser.add_argument("--quick", action="store_true", help="see that it works: one short round; into results/quick")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not 0.1 <= arguments.seconds <= 600:
        parser.error("--rounds must be at least 1, and --seconds between 0.1 and 600")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.3
    arguments.results = arguments.results or (os.path.join(RESULTS, "quick") if arguments.quick else RESULTS)
    chosen = list(filter(None, arguments.rows.split(",")))
    if unknown := set(chosen) - set(keys):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
    arguments.rows = [key for key in keys if not chosen or key in chosen]
    return arguments


def run(name: str, about: str, keys: Sequence[str], measure: Measure, needs: Sequence[str] = ("wrk", "nginx")) -> int:
    """Measure a question as the command line says; return the exit code. ``needs`` names programs."""
    arguments = read_arguments(about, keys)
    for program in needs:
        if not first_line(program, "-v"):
            say(f"{program} is missing: run benchmarks/install.py")
            return EX_UNAVAILABLE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no server is left behind
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    cores = choose_cores()
    path = os.path.join(arguments.results, FILE)
    about_run = {
        "machine": {**describe_machine(), "servers": server_versions(), "brotli_static": has_brotli()},
        "settings": {"rounds": arguments.rounds, "seconds": arguments.seconds},
    }
    rows: list[Record] = []
    try:
        with tempfile.TemporaryDirectory(prefix=f"bench_{name}-") as folder:
            bench = Bench(Load(folder, cores.load, arguments.seconds), cores.server, arguments.rounds, not arguments.quick)
            for row in measure(bench, arguments.rows):
                rows.append({**row, "measured": {"date": about_run["machine"]["date"], **about_run["settings"]}})
                save(path, name, {**about_run, "rows": rows, "invalid": bench.invalid})  # a run may be interrupted
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BenchError as error:
        say(str(error))
        return EX_INVALID
    section = {**about_run, "rows": rows, "invalid": bench.invalid}
    print(*format_section(name, section), sep="\n")
    save(path, name, section, is_whole=arguments.rows == list(keys))
    say(f"numbers in {path}")
    return EX_INVALID if bench.invalid else 0


def server_versions() -> dict[str, str]:
    """Return what the servers say of themselves, "" where one is missing."""
    asked = {"nginx": "-v", "caddy": "version", "lighttpd": "-v", "gunicorn": "--version", "granian": "--version"}
    return {name: first_line(find(name), option).removeprefix("nginx version: ") for name, option in asked.items()}


def load_results(path: str) -> dict[str, Record]:
    """Return all sections that were kept."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        sections: dict[str, Record] = json.load(file)
        return sections


def save(path: str, name: str, section: Record, *, is_whole: bool = False) -> None:
    """Keep a section beside the others; unless it is whole, also what was kept of it before and is not measured anew."""
    sections = load_results(path)
    if not is_whole:
        new = {row["key"]: row for row in section["rows"]}
        kept = [new.pop(row["key"], row) for row in sections.get(name, {"rows": []})["rows"]]
        section = {**section, "rows": [*kept, *new.values()]}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    unfinished = f"{path}.new"
    with open(unfinished, "w", encoding="utf-8") as file:
        json.dump({**sections, name: section}, file, indent=1)
        file.write("\n")
    os.replace(unfinished, path)
