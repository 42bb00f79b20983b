"""How long is it from the start of a server to its first answer?"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Sequence

from machine import POLL_S, START_LIMIT_S, BenchError, say
from pairs import Bench, Record, value_record
from peers import Peer, Site, assetserver, list_rivals, nginx, started
from question import run
from rows import FEW, format_request
from sites import path_of

SITES = {"start-main": "main", "start-100000": "files-100000", "start-1000000": "files-1000000"}
GOAL_S = 1.0


def measure(bench: Bench, keys: Sequence[str]) -> Iterator[Record]:
    """Measure the rows of these keys; the million files only in the full benchmark, other peers with few files only."""
    for key in keys:
        name = SITES[key]
        if name == "files-1000000" and not bench.is_full:
            say(f"only in the full benchmark: {key}")
            continue
        peers = [nginx(), assetserver(), *([assetserver(workers=2)] if name == "main" else [])]
        peers += [rival.peer for rival in list_rivals()] if name == "main" else []
        samples: dict[str, list[float]] = {}
        for peer in peers:
            if missing := peer.what_is_missing():
                say(missing)
                continue
            with bench.refusing(f"{key}, {peer.name}"):
                path = "1k.bin" if name == "main" else path_of(7)
                samples[peer.name] = [time_start(bench, peer, bench.site(name), path) for _ in range(bench.rounds)]
                say(f"{key}, {peer.name}: {samples[peer.name][-1]:.3f} s")
        files = "7 files" if name == "main" else f"{int(name.rpartition('-')[2]):,} files"
        if "assetserver" in samples:
            yield value_record(key, f"from the start to the first answer, {files}", "s", samples, GOAL_S)


def time_start(bench: Bench, peer: Peer, site: Site, path: str) -> float:
    """Return the seconds from the start of a server to the end of its first good answer."""
    begun_s = time.perf_counter()
    with started(peer, site, bench.cores(peer.workers), bench.load.folder) as server:
        request = format_request(peer.prefix + path, server.port, {**FEW, "Connection": "close"})
        while time.perf_counter() - begun_s < START_LIMIT_S and server.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", server.port), 5.0) as connection:
                    connection.sendall(request)
                    answer = b""
                    while piece := connection.recv(65536):
                        answer += piece
                if answer.startswith(b"HTTP/1.1 200"):
                    return time.perf_counter() - begun_s
            except OSError:
                pass
            time.sleep(POLL_S)
    raise BenchError(f"{peer.name} does not answer")


if __name__ == "__main__":
    sys.exit(run("start", __doc__, list(SITES), measure, needs=("nginx",)))
