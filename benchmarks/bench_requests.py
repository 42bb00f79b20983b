"""What does a request cost, against nginx? Small and large files, errors, ranges, a trace, one worker and two."""

from __future__ import annotations

import hashlib
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import replace

from machine import KIB, MIB
from pairs import Bench, Record, measure_rows
from peers import assetserver, has_brotli, nginx
from question import run
from rows import BROWSER, EQUAL, FEW, SMALL, Row
from sites import CSS, NEW_STYLE, OLD_STYLE, make_trace, name_style

COUNTED, LOGGED = 1.03, 1.10
"""Goals of what is told of requests: at most so many times what the same server takes that does not tell it."""

HASHED_404 = "assets/app.0123abcd.js"
PLAIN_404 = "none.bin"


def list_small() -> Iterator[Row]:
    """Yield the rows of hot small files: each kind of answer with few fields, with a browser's, and with an access log."""
    coding = "br" if has_brotli() else "gzip"
    kinds = (
        Row("1k", "1 KiB", SMALL),
        Row("16k", "16 KiB", SMALL, ("16k.bin",), length=16 * KIB),
        Row("16k-coded", f"16 KiB css as {coding}", SMALL, (CSS,), {"Accept-Encoding": coding}, length=None, coding=coding),
        Row("304", "1 KiB, 304", SMALL, status=304, length=0),
        Row("404", "404 of a plain name", SMALL, (PLAIN_404,), status=404, length=None),
        Row("404-hashed", "404 of a hashed name", SMALL, (HASHED_404,), status=404, length=None),
    )
    logging = {"base": nginx(log=True), "ours": assetserver(log="combined")}
    for row in kinds:
        few = {**FEW, **row.fields}
        browser = {**BROWSER, "Accept-Encoding": coding} if row.coding else BROWSER
        count = 1 + len(few) + (row.status == 304)
        full = f"{16 if row.status == 304 else 15} fields"
        yield replace(row, key=f"{row.key}-2", title=f"{row.title}, {count} fields", fields=few)
        yield replace(row, key=f"{row.key}-15", title=f"{row.title}, {full}", fields=browser)
        yield replace(row, key=f"{row.key}-log", title=f"{row.title}, {full}, access log", fields=browser, **logging)


def list_telling() -> Iterator[Row]:
    """Yield what metrics and an access log cost: the same request and 20,000 that differ, against itself without."""
    for key, title, differing in (("same", "the same request", False), ("differing", "no two alike", True)):
        common = {"fields": BROWSER, "differing": differing}
        counted = {"base": assetserver(counts=False), "ours": assetserver()}
        yield Row(f"metrics-{key}", f"1 KiB, {title}: metrics", COUNTED, **common, **counted)
        for form in ("combined", "json"):
            logging = {"base": assetserver(), "ours": assetserver(log=form)}
            yield Row(f"{form}-{key}", f"1 KiB, {title}: {form} log", LOGGED, **common, **logging)


def list_rows() -> list[Row]:
    """Return all rows."""
    browser = {"fields": BROWSER}
    read = {"base": nginx(sendfile=False), **browser}
    couple = {"base": nginx(workers=2), "ours": assetserver(workers=2), "connections": 40}
    large = {"length": 32 * MIB, "connections": 4, "by_bytes": True}
    missing = tuple(f"wp-content/plugins/{number}/readme.txt" for number in range(20_000))
    seeking = {"status": 206, "seek_bytes": 64 * KIB, "size": 32 * MIB, "length": 64 * KIB}
    style = hashlib.sha256(OLD_STYLE).digest()
    offered = {"Accept-Encoding": "gzip, deflate, br, dcb, dcz", "Available-Dictionary": f":{b64encode(style).decode()}:"}
    deltas = {
        "goal": EQUAL,
        "paths": (name_style(NEW_STYLE),),
        "fields": {**BROWSER, **offered},
        "length": None,
        "coding": "br",
        "site": "deltas",
        "base": assetserver(deltas=False),
        "ours": replace(assetserver(), coding="dcz"),
    }
    return [
        *list_small(),
        Row("delta", "16 KiB css, dcz against br", **deltas),
        Row("delta-differing", "16 KiB css, dcz against br, no two alike", differing=True, **deltas),
        Row("1k-differing", "1 KiB, 15 fields, no two requests alike", SMALL, differing=True, **browser),
        Row(
            "1k-log-differing",
            "1 KiB, no two alike, access log",
            SMALL,
            differing=True,
            base=nginx(log=True),
            ours=assetserver(log="combined"),
            **browser,
        ),
        *list_telling(),
        Row("404-differing", "404 of 20,000 names in turn", EQUAL, missing, BROWSER, 404, None),
        Row("1k-bare", "1 KiB, 15 fields; nginx sends no added fields", EQUAL, base=nginx(fields=False), **browser),
        Row("1k-read", "1 KiB, 15 fields; nginx without sendfile", EQUAL, **read),
        Row("16k-read", "16 KiB, 15 fields; nginx without sendfile", EQUAL, ("16k.bin",), length=16 * KIB, **read),
        Row("1k-live", "1 KiB, 15 fields; live folder, no release", SMALL, ours=assetserver(live=True), **browser),
        Row("100k", "100 KiB", EQUAL, ("100k.bin",), length=100 * KIB),
        Row("1m", "1 MiB", EQUAL, ("1m.bin",), length=MIB),
        Row("32m", "32 MiB", EQUAL, ("32m.bin",), **large),
        Row("range-first", "first 1 KiB of 1 MiB", EQUAL, ("1m.bin",), {**FEW, "Range": "bytes=0-1023"}, 206, KIB),
        Row("range-last", "last 64 KiB of 32 MiB", EQUAL, ("32m.bin",), {**FEW, "Range": "bytes=-65536"}, 206, 64 * KIB),
        Row("range-middle", "1 MiB range of 32 MiB", EQUAL, ("32m.bin",), range_of(8 * MIB, MIB), 206, MIB),
        Row("range-open", "1 MiB as bytes=0-", EQUAL, ("1m.bin",), {**FEW, "Range": "bytes=0-"}, 206, MIB),
        Row("range-resume", "1 MiB range, If-Range", EQUAL, ("32m.bin",), {**range_of(MIB, MIB), "If-Range": "ETAG"}, 206, MIB),
        Row("range-seek", "64 KiB of 32 MiB, another range each time", EQUAL, ("32m.bin",), **seeking),
        Row("range-two", "two ranges of 1 KiB", EQUAL, ("1m.bin",), {**FEW, "Range": "bytes=0-1023,9000-10023"}, 206, None),
        Row(
            "zipf",
            "Zipf trace, 10,000 files, no two alike",
            EQUAL,
            make_trace(),
            BROWSER,
            length=None,
            site="zipf",
            differing=True,
        ),
        Row("2-workers", "1 KiB, 15 fields, 2 workers", SMALL, **browser, **couple),
        Row("2-workers-differing", "1 KiB, no two alike, 2 workers", SMALL, differing=True, **browser, **couple),
    ]


def range_of(start: int, length: int) -> dict[str, str]:
    """Return few fields and a range."""
    return {**FEW, "Range": f"bytes={start}-{start + length - 1}"}


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure the rows of these keys."""
    return measure_rows(bench, [row for row in list_rows() if row.key in keys])


if __name__ == "__main__":
    sys.exit(run("requests", __doc__, [row.key for row in list_rows()], measure))
