"""What does a request cost, and a worker hold, when a release has 10, 1,000, 100,000 or 1,000,000 files?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from load import ask
from machine import read_private_bytes, say
from pairs import Bench, Record, measure_rows, value_record
from peers import assetserver, launched
from question import run
from rows import BROWSER, EQUAL, FEW, SMALL, Row, format_request
from sites import all_paths, hot_paths

COUNTS = (10, 1000, 100_000, 1_000_000)
MILLION = COUNTS[-1]
FLAT = 1.1
MEMORY_GOAL_BYTES = 200


def list_rows() -> list[Row]:
    """Return the rows about processor time: against nginx, and against a release of ten files."""
    rows = [
        Row(f"files-{count}", f"10 hot files of {count:,}", SMALL, hot_paths(count), BROWSER, site=f"files-{count}")
        for count in COUNTS
    ]
    rows += [
        Row(
            f"flat-{count}",
            f"10 hot files of {count:,}, against a release of 10",
            FLAT,
            hot_paths(10),
            BROWSER,
            site=f"files-{count}",
            base_site="files-10",
            base=assetserver(),
        )
        for count in COUNTS[1:]
    ]
    rows += [
        Row(f"all-{count}", f"50,000 of {count:,} files in turn", EQUAL, all_paths(count), BROWSER, site=f"files-{count}")
        for count in COUNTS[2:]
    ]
    return rows


MEMORY_KEYS = ("memory-100000", "memory-100000-asked", "memory-1000000")


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure the rows of these keys; those of a million files only in the full benchmark."""
    if left_out := [key for key in keys if str(MILLION) in key and not bench.is_full]:
        say(f"only in the full benchmark: {', '.join(left_out)}")
    kept = [key for key in keys if str(MILLION) not in key or bench.is_full]
    yield from measure_rows(bench, [row for row in list_rows() if row.key in kept])
    for key in (one for one in MEMORY_KEYS if one in kept):
        with bench.refusing(key):
            yield measure_memory(bench, key, int(key.split("-")[1]), is_asked=key.endswith("-asked"))


def measure_memory(bench: Bench, key: str, count: int, *, is_asked: bool) -> Record:
    """Return the private memory of a worker per file, beyond that of a worker with ten files; what it maps is not private.

    ``is_asked``: after each of up to 50,000 files was asked for once, by a worker that keeps no content.
    """
    asked = all_paths(count) if is_asked else hot_paths(count)
    peer = assetserver(holds=not is_asked)
    sizes = []
    for name, paths in (("files-10", hot_paths(10)), (f"files-{count}", asked)):
        site = bench.site(name)
        with launched(peer, site, bench.cores(), bench.load.folder) as server:
            ask(server.port, [format_request(path, server.port, FEW) for path in paths])
            sizes.append(read_private_bytes(server.process.pid, site.data))
    each = (sizes[1] - sizes[0]) / count
    what = f"{len(asked):,} asked for, content not held" if is_asked else "10 asked for"
    title = f"private memory of a worker per file, of {count:,}; {what}"
    say(f"{title}: {each:.0f} bytes")
    return value_record(key, title, "bytes", {"assetserver": [each]}, MEMORY_GOAL_BYTES)


if __name__ == "__main__":
    sys.exit(run("files", __doc__, [*(row.key for row in list_rows()), *MEMORY_KEYS], measure))
