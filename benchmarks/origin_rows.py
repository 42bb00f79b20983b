"""The questions of the origin benchmark: which requests, to which files, and what the goal is.

Decides only; ``load`` asks and ``peers`` answers. Requests are prepared as the bytes that go over the connection.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import brotli
from bench_static import BROWSER_FIELDS, KIB, MIB, BenchError, make_css
from peers import Peer, Site, assetserver, has_brotli, nginx

SMALL, EQUAL = 0.85, 1.0
"""Goals: at most so many times the processor time that nginx takes in the same round."""

DIFFERING = 20_000
"""Requests of which no two are alike; a multiple of what caches of whole requests hold."""

TRACE_FILES, TRACE = 10_000, 50_000
HOT_FILES = 10
FEW: Mapping[str, str] = {"Accept": "*/*"}
RANGE: Mapping[str, str] = {**FEW, "Range": f"bytes={8 * MIB}-{9 * MIB - 1}"}
MAIN_SIZES = {"1k.bin": KIB, "16k.bin": 16 * KIB, "100k.bin": 100 * KIB, "1m.bin": MIB, "32m.bin": 32 * MIB}


@dataclass(frozen=True)
class Row:
    """A question. ``paths`` are asked for in turn, with the same fields or ``differing`` ones.

    ``length`` is that of the content where all answers have the same; ``by_bytes`` counts unfinished answers by their bytes.
    ``delay_ms``: every connection waits so long between its requests, on average. ``kind`` is what is compared: "cpu" per
    request, "p99" latency.
    """

    key: str
    title: str
    goal: float
    paths: tuple[str, ...] = ("1k.bin",)
    fields: Mapping[str, str] = field(default_factory=lambda: FEW)
    status: int = 200
    length: int | None = KIB
    coding: str = ""
    site: str = "main"
    nginx: Peer = field(default_factory=nginx)
    ours: Peer = field(default_factory=assetserver)
    connections: int = 20
    differing: bool = False
    by_bytes: bool = False
    delay_ms: int = 0
    kind: str = "cpu"


@dataclass(frozen=True)
class Idle:
    """How much memory ``connections`` take that ask once and then wait."""

    key: str
    connections: int
    goal_bytes: int = 16 * KIB


def list_rows(trace: tuple[str, ...]) -> list[Row]:
    """Return all questions about processor time; ``trace`` are the paths of the Zipf-shaped one."""
    coding = "br" if has_brotli() else "gzip"
    coded = {**BROWSER_FIELDS, "Accept-Encoding": coding}
    browser = {"fields": BROWSER_FIELDS}
    wide = {**browser, "length": 16 * KIB}
    logging = {"nginx": nginx(log=True), "ours": assetserver(log=True)}
    couple = {"nginx": nginx(workers=2), "ours": assetserver(workers=2), "connections": 40}
    return [
        Row("1k-2", "1 KiB, 2 request fields", SMALL),
        Row("1k-15", "1 KiB, 15 request fields", SMALL, **browser),
        Row("1k-differing", "1 KiB, 15 fields, no two requests alike", SMALL, differing=True, **browser),
        Row("1k-bare", "1 KiB, 15 fields; nginx sends no added fields", EQUAL, nginx=nginx(fields=False), **browser),
        Row("1k-read", "1 KiB, 15 fields; nginx without sendfile", EQUAL, nginx=nginx(sendfile=False), **browser),
        Row("1k-live", "1 KiB, 15 fields; live folder, no release", SMALL, ours=assetserver(live=True), **browser),
        Row("304", "1 KiB, 304", SMALL, status=304, length=0, **browser),
        Row("404", "404", SMALL, ("none.bin",), status=404, length=None, **browser),
        Row("1k-log", "1 KiB, 15 fields, access log", SMALL, **browser, **logging),
        Row("1k-log-differing", "1 KiB, no two alike, access log", SMALL, differing=True, **browser, **logging),
        Row("16k", "16 KiB, 15 fields", SMALL, ("16k.bin",), **wide),
        Row("16k-read", "16 KiB, 15 fields; nginx without sendfile", EQUAL, ("16k.bin",), nginx=nginx(sendfile=False), **wide),
        Row("16k-coded", f"16 KiB css as {coding}", SMALL, ("text/16k.css",), coded, length=None, coding=coding),
        Row("100k", "100 KiB", EQUAL, ("100k.bin",), length=100 * KIB),
        Row("1m", "1 MiB", EQUAL, ("1m.bin",), length=MIB),
        Row("32m", "32 MiB", EQUAL, ("32m.bin",), length=32 * MIB, connections=4, by_bytes=True),
        Row("range", "1 MiB range of 32 MiB", EQUAL, ("32m.bin",), RANGE, 206, MIB),
        Row(
            "zipf", "Zipf trace, 10,000 files, no two alike", EQUAL, trace, length=None, site="zipf", differing=True, **browser
        ),
        Row("2-workers", "1 KiB, 15 fields, 2 workers", SMALL, **browser, **couple),
        Row("latency", "1 KiB, 2,000 requests/s: p99", EQUAL, **browser, delay_ms=10, kind="p99"),
        Row("latency-full", "1 KiB, as fast as can be: p99", EQUAL, **browser, kind="p99"),
        *(
            Row(
                f"files-{count}",
                f"{HOT_FILES} hot files of {count:,}",
                SMALL,
                hot_paths(count),
                site=f"files-{count}",
                **browser,
            )
            for count in (10, 1000, 100_000)
        ),
        Row("files-all", "1 KiB, each of 100,000 files in turn", EQUAL, all_paths(100_000), site="files-100000"),
    ]


IDLE = (Idle("idle-1000", 1000), Idle("idle-10000", 10_000))


def hot_paths(count: int) -> tuple[str, ...]:
    """Return the paths of a few files among ``count``, far apart."""
    return tuple(path_of(number * count // HOT_FILES) for number in range(HOT_FILES))


def all_paths(count: int) -> tuple[str, ...]:
    """Return some of the paths of ``count`` files, in an order that holds no pattern."""
    numbers = random.Random(1).sample(range(count), min(count, TRACE))  # noqa: S311 - the same every time
    return tuple(map(path_of, numbers))


def path_of(number: int) -> str:
    """Return the path of one of many files."""
    return f"{number // 1000}/{number}.bin"


def make_trace() -> tuple[str, ...]:
    """Return paths as people ask for them: the n-th most liked file with a probability of about n to the power of -0.9."""
    pick = random.Random(2)  # noqa: S311 - the same every time
    weights = [*accumulate((rank + 1) ** -0.9 for rank in range(TRACE_FILES))]
    order = pick.sample(range(TRACE_FILES), TRACE_FILES)
    return tuple(path_of(number) for number in pick.choices(order, cum_weights=weights, k=TRACE))


# --- Requests ----------------------------------------------------------------------------------------------------------------


def make_requests(row: Row, port: int, etag: str, prefix: str = "") -> list[bytes]:
    """Return the requests of a row, in the order in which they are sent, again and again."""
    paths = [prefix + path for path in row.paths]
    fields = {**row.fields, **({"If-None-Match": etag} if row.status == 304 else {})}
    if not row.differing:
        return [format_request(path, port, fields) for path in paths]
    count = max(DIFFERING, len(paths))
    return [format_request(paths[one % len(paths)], port, vary(fields, one)) for one in range(count)]


def vary(fields: Mapping[str, str], number: int) -> dict[str, str]:
    """Return fields as the visitor ``number`` would send them: with another session, program and page before."""
    session = hashlib.sha256(str(number).encode()).hexdigest()[:16]
    return {
        **fields,
        "Cookie": f"session={session}; theme=dark; consent=necessary",
        "User-Agent": fields["User-Agent"].replace("140.0.0.0", f"140.0.{number % 7919}.{number % 97}"),
        "Referer": f"https://www.example.com/products/list?page={number}",
    }


def format_request(path: str, port: int, fields: Mapping[str, str]) -> bytes:
    """Return a request as it goes over the connection."""
    lines = [f"GET /{path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# --- Files -------------------------------------------------------------------------------------------------------------------


def make_site(name: str, folder: str) -> Site:
    """Write the files of a site and publish them. Raises ``BenchError`` if that does not work."""
    site = Site(os.path.join(folder, name), os.path.join(folder, f"{name}-data"))
    os.mkdir(site.root)
    if name == "main":
        _write_main(site.root)
    elif name == "zipf":
        pick = random.Random(3)  # noqa: S311 - the same every time
        _write_many(site.root, [min(2 * MIB, int(pick.lognormvariate(9, 1.3)) + 1) for _ in range(TRACE_FILES)])
    else:
        _write_many(site.root, [KIB] * int(name.rpartition("-")[2]))
    command = [sys.executable, "-m", "assetserver", "publish", site.root, "--prod", "--data", site.data]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise BenchError(f"{name} cannot be published: {done.stderr}")
    return site


def _write_main(root: str) -> None:
    for name, size in MAIN_SIZES.items():
        _write(os.path.join(root, name), os.urandom(size))
    os.mkdir(os.path.join(root, "text"))
    _write(os.path.join(root, "text", "16k.css"), make_css(16 * KIB))


def _write_many(root: str, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        if number % 1000 == 0:
            os.mkdir(os.path.join(root, str(number // 1000)))
        _write(os.path.join(root, path_of(number)), os.urandom(size))


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def write_sidecars(site: Site) -> None:
    """Compress the style sheet for nginx, after the release was made: as well as assetserver does, for the same bytes."""
    path = os.path.join(site.root, "text", "16k.css")
    with open(path, "rb") as file:
        content = file.read()
    _write(f"{path}.gz", gzip.compress(content, 9))
    _write(f"{path}.br", brotli.compress(content))
