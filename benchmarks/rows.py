"""What a row of the origin benchmark asks: which requests, to which files, of which two servers, and what the goal is.

Decides only; ``load`` asks, ``peers`` answers, ``sites`` has the files. Requests are prepared as the bytes that go over the
connection.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from machine import KIB
from peers import Peer, assetserver, nginx

SMALL, EQUAL = 0.85, 1.0
"""Goals: at most so many times what nginx takes in the same round."""

DIFFERING = 20_000
"""Requests of which no two are alike; a multiple of what caches of whole requests hold."""

Fields = Mapping[str, str]

FEW: Fields = {"Accept": "*/*"}
"""With ``Host`` two fields."""

BROWSER: Fields = {
    "Connection": "keep-alive",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "DNT": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "no-cors",
    "Sec-Fetch-Dest": "image",
    "Referer": "https://www.example.com/products/list?page=2",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cookie": "session=2f1c9a7e5b3d4860; theme=dark; consent=necessary",
}
"""With ``Host`` the 15 fields of a browser."""


@dataclass(frozen=True)
class Row:
    """A question. ``paths`` are asked for in turn, with the same fields or ``differing`` ones.

    ``goal``: at most so many times what ``base`` takes, which serves ``base_site``, or the same site; None where there is none.
    ``kind`` is what is compared: "cpu" per request, "p99" latency. ``length`` is that of the content where all answers have the
    same. ``seek_bytes``: every request asks for another range of that length, of a file of ``size``. ``by_bytes`` counts
    unfinished answers by their bytes. ``delay_ms``: every connection waits so long between its requests, on average.
    ``beside``: what else goes on meanwhile, see ``disturb``. ``longer``: so many times as long as other rows. ``idle``: so many
    connections are open and ask nothing.
    """

    key: str
    title: str
    goal: float | None
    paths: tuple[str, ...] = ("1k.bin",)
    fields: Fields = field(default_factory=lambda: FEW)
    status: int = 200
    length: int | None = KIB
    coding: str = ""
    site: str = "main"
    base_site: str = ""
    base: Peer = field(default_factory=nginx)
    ours: Peer = field(default_factory=assetserver)
    connections: int = 20
    differing: bool = False
    seek_bytes: int = 0
    size: int = 0
    by_bytes: bool = False
    delay_ms: int = 0
    kind: str = "cpu"
    beside: str = ""
    longer: int = 1
    idle: int = 0


def make_requests(row: Row, port: int, etag: str, prefix: str = "") -> list[bytes]:
    """Return the requests of a row, in the order in which they are sent, again and again."""
    paths = [prefix + path for path in row.paths]
    fields = {**row.fields, **({"If-None-Match": etag} if row.status == 304 else {})}
    fields = {name: value.replace("ETAG", etag) for name, value in fields.items()}
    if row.seek_bytes:
        return [format_request(paths[0], port, {**fields, "Range": one}) for one in _seek(row)]
    if not row.differing:
        return [format_request(path, port, fields) for path in paths]
    count = max(DIFFERING, len(paths))
    return [format_request(paths[one % len(paths)], port, vary(fields, one)) for one in range(count)]


def _seek(row: Row) -> list[str]:
    pick = random.Random(4)  # noqa: S311 - the same every time
    starts = [pick.randrange(row.size - row.seek_bytes) for _ in range(DIFFERING)]
    return [f"bytes={start}-{start + row.seek_bytes - 1}" for start in starts]


def vary(fields: Fields, number: int) -> dict[str, str]:
    """Return fields as the visitor ``number`` would send them: with another session, program and page before."""
    session = hashlib.sha256(str(number).encode()).hexdigest()[:16]
    return {
        **fields,
        "Cookie": f"session={session}; theme=dark; consent=necessary",
        "User-Agent": BROWSER["User-Agent"].replace("140.0.0.0", f"140.0.{number % 7919}.{number % 97}"),
        "Referer": f"https://www.example.com/products/list?page={number}",
    }


def format_request(path: str, port: int, fields: Fields) -> bytes:
    """Return a request as it goes over the connection."""
    lines = [f"GET /{path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()
