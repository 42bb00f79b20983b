"""What do connections cost, against nginx: memory of idle ones, processor time with 10, 100 and 1,000 that ask?"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from load import ask, open_connections
from machine import KIB, read_private_bytes, say
from pairs import Bench, Record, measure_rows, value_record
from peers import Peer, assetserver, launched, nginx
from question import run
from rows import BROWSER, EQUAL, SMALL, Row, make_requests

ROWS = (
    *(
        Row(f"active-{count}", f"1 KiB, {count:,} connections ask", SMALL, fields=BROWSER, connections=count)
        for count in (10, 100, 1000)
    ),
    Row("active-beside-10000", "1 KiB, 20 connections ask, 10,000 are idle", EQUAL, fields=BROWSER, idle=10_000),
)
IDLE = {f"idle-{count}": count for count in (10, 100, 1000, 10_000)}
GOAL_BYTES = 16 * KIB
SETTLE_S = 0.5


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure the rows of these keys."""
    yield from measure_rows(bench, [row for row in ROWS if row.key in keys])
    for key, count in IDLE.items():
        if key in keys:
            with bench.refusing(key):
                yield measure_idle(bench, key, count)


def measure_idle(bench: Bench, key: str, count: int) -> Record:
    """Return how much private memory each of ``count`` connections takes that has asked once, in both servers."""
    samples = {peer.name: [measure_each(bench, peer, count)] for peer in (nginx(), assetserver())}
    title = f"private memory of each of {count:,} idle connections"
    say(f"{title}: {', '.join(f'{name} {values[0]:,.0f} bytes' for name, values in samples.items())}")
    return value_record(key, title, "bytes", samples, GOAL_BYTES)


def measure_each(bench: Bench, peer: Peer, count: int) -> float:
    """Return the bytes per connection of one server."""
    row = Row("", "", None, fields=BROWSER)
    with launched(peer, bench.site("main"), bench.cores(), bench.load.folder) as server, ExitStack() as stack:
        request = make_requests(row, server.port, "")[0]
        ask(server.port, [request] * 10)
        before = read_private_bytes(server.process.pid)
        open_connections(stack, server, request, count)
        time.sleep(SETTLE_S)
        return (read_private_bytes(server.process.pid) - before) / count


if __name__ == "__main__":
    sys.exit(run("connections", __doc__, [*(row.key for row in ROWS), *IDLE], measure))
