"""Fifty activations under two workers and many clients: every answer is whole, and belongs to exactly one release.

Nothing here waits for luck: an activation follows when some client has seen the one before, and the slow reader takes its next
piece after the next activation.
"""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import brotli
import pytest
from click.testing import CliRunner

from assetserver.cli import main

ACTIVATIONS = 50
DEADLINE_S = 60.0
POLL_S = 0.02
PIECE_BYTES = 1 << 20
DECODERS: dict[str | None, Callable[[bytes], bytes]] = {None: bytes, "br": brotli.decompress, "gzip": gzip.decompress}
PATHS = ("index.html", "style.css", "picture.bin", "big.bin")
ACCEPTED = {None: None, "br": "br", "gzip": "gzip"}


def body_of(release: str, line: str, size: int) -> bytes:
    """Return ``size`` bytes, or up to 64 more, each line of which says whose they are."""
    whole = line.format(release=release).encode()
    return b"".join(whole % number for number in range(size // len(whole % 0) + 1))


def files_of(release: str) -> dict[str, bytes]:
    proved = f"export default '{release}'\n".encode()
    return {
        "index.html": body_of(release, "<p>release {release} line %d\n", 3_000),
        "style.css": body_of(release, ".of-{release}-%d {{ margin: 0 }}\n", 30_000),
        "picture.bin": body_of(release, "release {release} line %d\n", 100_000),
        "big.bin": body_of(release, "release {release} line %d\n", 8 << 20),
        f"assets/app.{sha256(proved).hexdigest()[:12]}.js": proved,
    }


class Traffic:
    """What all clients share: what each tag stands for, what they saw, and when to stop."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.known: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self.flips: Counter[str] = Counter()
        self.activations = 0
        self.is_over = False
        self.changed = threading.Condition()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=DEADLINE_S)

    def learn(self, release: str, files: dict[str, bytes]) -> None:
        """Note the tag and bytes of every form of the active release, once each is there."""
        deadline_s = time.monotonic() + DEADLINE_S
        for path, coding in [(path, coding) for path in files for coding in DECODERS]:
            while True:
                with closing(self.connect()) as connection:
                    answer, content = ask(connection, path, {"Accept-Encoding": coding or "identity"})
                used = answer.getheader("Content-Encoding")
                if answer.status == 200 and DECODERS[used](content) == files[path]:
                    break
                assert time.monotonic() < deadline_s, (release, path, coding, answer.status)
                time.sleep(POLL_S)
            owner, known = self.known.setdefault((path, str(answer.getheader("ETag"))), (release, content))
            assert (owner, known) == (release, content), f"{path}: one tag for two contents"

    def judge(self, path: str, answer: http.client.HTTPResponse, content: bytes) -> str:
        """Return the release that an answer belongs to, wholly."""
        release, expected = self.known[path, str(answer.getheader("ETag"))]
        self.statuses[answer.status] += 1
        if answer.status == 304:
            assert content == b""
            return release
        if answer.status == 206:
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", str(answer.getheader("Content-Range")))
            assert found is not None
            assert int(found[3]) == len(expected)
            expected = expected[int(found[1]) : int(found[2]) + 1]
        assert answer.status in {200, 206}, answer.status
        assert int(str(answer.getheader("Content-Length"))) == len(expected)
        assert content == expected, f"{path}: other bytes than its tag is for"
        return release

    def see_flip(self, release: str) -> None:
        with self.changed:
            self.flips[release] += 1
            self.changed.notify_all()

    def activated(self) -> None:
        with self.changed:
            self.activations += 1
            self.changed.notify_all()

    def finish(self) -> None:
        with self.changed:
            self.is_over = True
            self.changed.notify_all()

    def wait_flips(self, release: str, count: int) -> None:
        """Wait until ``count`` times a client was answered by ``release`` and by another, or by none, before."""
        with self.changed:
            done = self.changed.wait_for(lambda: self.flips[release] >= count or self.problems, DEADLINE_S)
        assert done, f"nobody saw {release} go live; {self.statuses}"

    def wait_activation(self, after: int) -> int:
        with self.changed:
            self.changed.wait_for(lambda: self.activations > after or self.is_over or self.problems, DEADLINE_S)
            return self.activations


def ask(connection: http.client.HTTPConnection, path: str, fields: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
    connection.putrequest("GET", "/" + path.removesuffix("index.html"), skip_accept_encoding=True)
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read()


def plain_questions(_: Traffic) -> Iterator[tuple[str, dict[str, str]]]:
    for coding in cycle(DECODERS):
        for path in PATHS[:3]:
            yield path, {"Accept-Encoding": coding or "identity"}


def conditional_questions(traffic: Traffic) -> Iterator[tuple[str, dict[str, str]]]:
    for path, tag in cycle([key for key, (_, content) in traffic.known.items() if key[0] != "big.bin"]):
        yield path, {"If-None-Match": tag, "Accept-Encoding": "br, gzip"}
        yield path, {"If-None-Match": tag, "Accept-Encoding": "identity"}


def range_questions(traffic: Traffic) -> Iterator[tuple[str, dict[str, str]]]:
    tags = [tag for path, tag in traffic.known if path == "big.bin"]
    for tag in cycle(tags):
        yield "big.bin", {"Range": "bytes=1000000-1200000"}
        yield "picture.bin", {"Range": "bytes=-1000"}
        yield "style.css", {"Range": "bytes=10-99", "Accept-Encoding": "br"}
        yield "big.bin", {"Range": "bytes=5000000-5000099", "If-Range": tag}


def hashed_questions(traffic: Traffic) -> Iterator[tuple[str, dict[str, str]]]:
    """Fingerprinted names of both releases: the union has them all the time."""
    for path in cycle(sorted({path for path, _ in traffic.known if path.startswith("assets/")})):
        yield path, {"Accept-Encoding": "identity"}


def run_client(traffic: Traffic, questions: Iterator[tuple[str, dict[str, str]]], *, keeps: bool) -> None:
    """Ask until it is over, over one connection or many."""
    last = ""
    connection = traffic.connect()
    for path, fields in questions:
        if traffic.is_over:
            break
        release = traffic.judge(path, *ask(connection, path, fields))
        is_union = path.startswith("assets/")
        if keeps and release != last and not is_union:
            traffic.see_flip(release)
        last = last if is_union else release
        if not keeps:
            connection.close()
    connection.close()


def read_slowly(traffic: Traffic, _: object, *, keeps: bool) -> None:
    """Download a large file, a piece per activation: what began as one release must end as it."""
    del keeps
    seen = 0
    while not traffic.is_over:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            peer.settimeout(DEADLINE_S)
            peer.connect((traffic.host, traffic.port))
            peer.sendall(b"GET /big.bin HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = http.client.HTTPResponse(peer)
            answer.begin()
            pieces = []
            while piece := answer.read(PIECE_BYTES):
                pieces.append(piece)
                seen = traffic.wait_activation(seen)
            traffic.judge("big.bin", answer, b"".join(pieces))
            answer.close()


CLIENTS: tuple[tuple[Callable[..., None], Callable[[Traffic], Iterator[tuple[str, dict[str, str]]]], bool], ...] = (
    (run_client, plain_questions, True),
    (run_client, plain_questions, True),
    (run_client, plain_questions, False),
    (run_client, conditional_questions, True),
    (run_client, range_questions, True),
    (run_client, hashed_questions, True),
    (read_slowly, plain_questions, False),
)


def run_safely(traffic: Traffic, client: Callable[..., None], questions: Iterator[object], *, keeps: bool) -> None:
    try:
        client(traffic, questions, keeps=keeps)
    except Exception as error:  # noqa: BLE001 - whatever a client meets is what the test is about
        with traffic.changed:
            traffic.problems.append(f"{client.__name__}: {error!r}")
            traffic.changed.notify_all()


def run_command(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def publish(folder: Path, data: Path, release: str) -> str:
    for path, content in files_of(release).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return json.loads(run_command("publish", folder, "--data", data, "--json"))["id"]


@pytest.mark.timeout(600)
def test_no_request_fails_and_no_file_is_a_mixture_across_fifty_activations(tmp_path, origin):
    data = tmp_path / "data"
    ids = {release: publish(tmp_path / release, data, release) for release in ("one", "two")}
    run_command("promote", ids["one"], "--data", data)
    address = urlsplit(origin(None, "--data", data, "--workers", 2, "--access-log", "off"))
    traffic = Traffic(str(address.hostname), address.port or 0)
    for release in ("one", "two"):
        run_command("promote", ids[release], "--data", data)
        traffic.learn(release, files_of(release))
    owners = Counter(owner for owner, _ in traffic.known.values())
    assert owners["one"] == owners["two"] >= len(files_of("one")) + 4  # html and css have compressed forms too

    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        try:
            running = [
                pool.submit(run_safely, traffic, client, questions(traffic), keeps=keeps)
                for client, questions, keeps in CLIENTS
            ]
            traffic.wait_flips("two", 1)  # a client whose next answers must change
            for release, _ in zip(cycle(("one", "two")), range(ACTIVATIONS), strict=False):
                flips = traffic.flips[release]
                run_command("promote", ids[release], "--data", data)
                traffic.activated()
                traffic.wait_flips(release, flips + 1)
                assert traffic.problems == []
        finally:
            traffic.finish()
    assert [one.exception() for one in running] == [None] * len(CLIENTS)
    assert traffic.problems == []
    assert set(traffic.statuses) == {200, 206, 304}
    assert sum(traffic.flips.values()) >= ACTIVATIONS
