"""How long does a visitor wait, against nginx: alone, and beside slow downloads, reads from disk, a running publish?

200 connections ask about 2,000 times a second in all, each waiting 0 to 200 ms between its requests: a server that stalls for
less than that is asked nearly as often meanwhile, so that stalls are counted by those who would have met them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from pairs import Bench, Record, measure_rows
from peers import nginx
from question import run
from rows import BROWSER, EQUAL, Row

CALM = {"fields": BROWSER, "connections": 200, "delay_ms": 100, "kind": "p99", "longer": 2}
ROWS = (
    Row("alone", "alone", EQUAL, **CALM),
    Row("full", "as fast as can be, 20 connections", EQUAL, fields=BROWSER, kind="p99"),
    Row("slow", "beside 50 slow downloads", EQUAL, beside="slow", **CALM),
    Row("cold", "beside reads from disk", EQUAL, beside="cold", site="cold", base=nginx(threads=True), **CALM),
    Row("publish", "beside a running publish", EQUAL, beside="publish", site="changing", **CALM),
)


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure the rows of these keys."""
    return measure_rows(bench, [row for row in ROWS if row.key in keys])


if __name__ == "__main__":
    sys.exit(run("latency", __doc__, [row.key for row in ROWS], measure))
