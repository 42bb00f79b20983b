"""What benchmarks share that measure single values: rows beside their goals, options, and a file of results for each."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from machine import EX_INVALID, BenchError, describe_machine, say
from question import RESULTS
from tables import format_table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PlanT = TypeVar("PlanT", bound="DataclassInstance")


@dataclass(frozen=True)
class Row:
    """A measurement: ``goal`` in words, ``is_met`` where that can be told."""

    what: str
    value: float
    unit: str
    goal: str = ""
    is_met: bool | None = None


def run(name: str, about: str, whole: PlanT, quick: PlanT, measure: Callable[[str, PlanT], Iterable[Row]]) -> int:
    """Measure as the command line says, in a folder of its own; return the exit code.

    ``measure`` takes the folder and one of the plans, which are dataclasses.
    """
    arguments = read_arguments(name, about)
    plan = quick if arguments.quick else whole
    try:
        with tempfile.TemporaryDirectory(prefix=f"bench_{name}-", dir=arguments.folder) as folder:
            rows = list(measure(folder, plan))
    except BenchError as error:
        say(str(error))
        return EX_INVALID
    machine = {key: value for key, value in describe_machine().items() if key != "wrk"}
    results = {"machine": machine, "settings": asdict(plan), "rows": [asdict(row) for row in rows]}
    print(*format_table(results), sep="\n")
    os.makedirs(os.path.dirname(os.path.abspath(arguments.json)), exist_ok=True)
    with open(arguments.json, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=2)
        file.write("\n")
    say(f"numbers in {arguments.json}")
    return 0


def read_arguments(name: str, about: str) -> argparse.Namespace:
    """Return the command line's arguments; ``json`` is where the numbers of ``name`` go."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("--json", default="", metavar="PATH", help=f"where the numbers go [benchmarks/results/{name}.json]")
    parser.add_argument("--quick", action="store_true", help="see that it works: a little of everything; into results/quick")
    parser.add_argument("--folder", default=None, metavar="DIR", help="where to work, on the disk in question")
    arguments = parser.parse_args()
    arguments.json = arguments.json or os.path.join(RESULTS, "quick" * arguments.quick, f"{name}.json")
    return arguments
