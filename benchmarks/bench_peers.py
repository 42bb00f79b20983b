"""What does a request cost other servers: Caddy, lighttpd, stock StaticFiles, WhiteNoise, granian?

In every round nginx, assetserver and one of them are measured, one right after the other. Who is not installed is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

from bench_requests import list_rows
from machine import say
from pairs import Bench, Contestant, Record, describe, measure_row, spread
from peers import Rival, has_brotli, list_rivals, nginx
from question import run
from rows import Row

KEYS = ("1k-2", "1k-15", "16k-15", "16k-coded-15", "304-15", "404-2", "404-hashed-2", "1m", "32m", "range-middle")


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure every installed rival."""
    rows = [row for row in list_rows() if row.key in keys]
    for rival in list_rivals():
        if missing := rival.peer.what_is_missing():
            say(missing)
            continue
        for row in rows:
            if row.key in rival.lacks or (row.coding and rival.coded is None):
                say(f"{rival.peer.name} as installed here does not answer so: {row.title} is left out")
                continue
            with bench.refusing(f"{rival.peer.name}, {row.title}"):
                yield measure_rival(bench, rival, row)


def measure_rival(bench: Bench, rival: Rival, row: Row) -> Record:
    """Measure a row with nginx, assetserver and one other."""
    peer = rival.peer
    if row.coding and rival.coded is not None:
        peer = rival.coded
        coding = rival.coding if has_brotli() else "gzip"
        row = replace(row, coding=coding, title=f"16 KiB css as {coding}", fields={**row.fields, "Accept-Encoding": coding})
    site = bench.site(row.site)
    outcome = measure_row(bench, row, [Contestant(one, site) for one in (nginx(), row.ours, peer)])
    ratios = outcome.ratios(2, 1)
    is_met = None if rival.goal is None else median(ratios) >= rival.goal
    return {
        **describe(outcome),
        "key": f"{rival.peer.name}: {row.key}",
        "peer": rival.peer.name,
        "ratio": spread(ratios),
        "to_nginx": spread(outcome.ratios(2, 0)),
        "goal": rival.goal,
        "is_met": is_met,
    }


if __name__ == "__main__":
    sys.exit(run("peers", __doc__, KEYS, measure))
