"""What does a request cost in your own app: AssetFiles in place of stock StaticFiles, on the same Uvicorn?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from load import ask
from machine import KIB, MIB, read_peak_kb, say
from pairs import Bench, Record, measure_rows, value_record
from peers import Peer, asset_files, launched, stock
from question import run
from rows import BROWSER, FEW, Row, format_request
from sites import CSS

DOWNLOADS = 4
BOTH = {"base": stock(), "ours": asset_files()}
CODED = {"base": stock(coded=True), "ours": asset_files()}
ROWS = (
    Row("1k-2", "1 KiB, 2 fields", None, **BOTH),
    Row("1k-15", "1 KiB, 15 fields", None, fields=BROWSER, **BOTH),
    Row("304", "1 KiB, 304", None, status=304, length=0, **BOTH),
    Row("16k-coded", "16 KiB css as gzip", None, (CSS,), {"Accept-Encoding": "gzip"}, length=None, coding="gzip", **CODED),
    Row("1m", "1 MiB", None, ("1m.bin",), length=MIB, **BOTH),
    Row("64m", "64 MiB", None, ("64m.bin",), length=64 * MIB, connections=4, by_bytes=True, **BOTH),
)
MEMORY = "growth-64m"


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure the rows of these keys."""
    yield from measure_rows(bench, [row for row in ROWS if row.key in keys])
    if MEMORY in keys:
        with bench.refusing(MEMORY):
            samples = {peer.name: [measure_growth(bench, peer)] for peer in (stock(), asset_files())}
            yield value_record(MEMORY, f"growth of the peak of memory by {DOWNLOADS} downloads of 64 MiB", "KiB", samples)


def measure_growth(bench: Bench, peer: Peer) -> float:
    """Return by how many KiB the peak memory of a fresh server grows while clients download a large file at the same time."""
    with launched(peer, bench.site("main"), bench.cores(), bench.load.folder) as server, ThreadPoolExecutor(DOWNLOADS) as pool:
        small, large = (format_request(path, server.port, FEW) for path in ("1k.bin", "64m.bin"))
        ask(server.port, [small])
        before_kb = read_peak_kb(server.process.pid)
        list(pool.map(lambda _: ask(server.port, [large]), range(DOWNLOADS)))
        growth_kb = read_peak_kb(server.process.pid) - before_kb
        say(f"{peer.name}: {growth_kb:,} KiB beyond {before_kb / KIB:.0f} MiB")
        return float(growth_kb)


if __name__ == "__main__":
    sys.exit(run("static", __doc__, [*(row.key for row in ROWS), MEMORY], measure, needs=("wrk",)))
