"""Does a server stay well? Minutes of mixed traffic, uploads, publishes, reloads, and workers that are killed at random.

At the end: every upload that was acknowledged is there, byte for byte; no request was lost but those that a killed worker had
in its hands; memory and descriptors are where they were. Prints a table; exits with 1 if any of that is not so.

usage: soak.py [--minutes N] [--workers N] [--seed N]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

CONFIG = """
[server]
port = 0
workers = {workers}
graceful_shutdown_s = 10
access_log = "off"
[data]
path = "data"
[[sites]]
[images]
widths = [64]
formats = ["webp"]
[uploads]
reserve_bytes = 0
"""
LIMIT_S = 60.0
SETTLE_S = 3.0
"""How long after a kill a request may fail that the killed worker had."""

SAMPLE_S = 2.0
GROWTH = 1.15
SLACK_BYTES = 8 << 20
SLACK_DESCRIPTORS = 16


@dataclass
class Soak:
    """What goes on, and what came of it."""

    folder: Path
    minutes: float
    randomly: random.Random
    port: int = 0
    master: int = 0
    token: str = ""
    is_over: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    uploads: dict[str, str] = field(default_factory=dict)
    killed_s: float = float("-inf")
    samples: list[tuple[int, int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str) -> None:
        """Count something."""
        with self.lock:
            self.counts[what] += 1

    def run_command(self, *words: object) -> str:
        """Run a command of the program, which must succeed."""
        result = subprocess.run(
            [sys.executable, "-m", "assetserver", *map(str, words)],
            cwd=self.folder, capture_output=True, text=True, timeout=LIMIT_S * 3, check=False,
        )  # fmt: skip
        if result.returncode:
            raise RuntimeError(f"assetserver {' '.join(map(str, words))}: {result.stderr.strip()[-300:]}")
        return result.stdout

    # Traffic

    def read(self, seed: int) -> None:
        """Ask for files, ranges, revalidations and misses; every second client opens a connection for each."""
        randomly, keeps = random.Random(seed), seed % 2 == 0  # noqa: S311 - a load, not a secret
        connection = self._connect()
        while not self.is_over.is_set():
            path, fields, expected = randomly.choice(REQUESTS)
            begun_s = time.monotonic()
            try:
                connection.request("GET", path, headers=fields)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._note_lost(begun_s, f"GET {path}: {error!r}")
                connection.close()
                continue
            if answer.status != expected:
                self._note_lost(begun_s, f"GET {path}: {answer.status}", forgives=False)
            self.note("requests")
            if not keeps:
                connection.close()
            self.is_over.wait(0.002)

    def upload(self, seed: int) -> None:
        """Put files, and remember those that were acknowledged."""
        randomly = random.Random(seed)  # noqa: S311 - as above
        number = 0
        while not self.is_over.wait(0.05):
            number += 1
            name, content = f"{seed}-{number}.bin", randomly.randbytes(randomly.choice((100, 5000, 300_000)))
            begun_s = time.monotonic()
            connection = self._connect()
            try:
                fields = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/octet-stream"}
                connection.request("PUT", f"/uploads/by-name/{name}", content, fields)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._note_lost(begun_s, f"PUT {name}: {error!r}")
                continue
            finally:
                connection.close()
            if answer.status in (200, 201):
                self.uploads[name] = hashlib.sha256(content).hexdigest()
                self.note("uploads")
            else:
                self._note_lost(begun_s, f"PUT {name}: {answer.status}")

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)

    def _note_lost(self, begun_s: float, text: str, *, forgives: bool = True) -> None:
        """Note what failed: if a worker was killed while it went on, it was that one's."""
        if forgives and begun_s - SETTLE_S < self.killed_s:
            self.note("cut by a kill")
        else:
            with self.lock:
                self.lost.append(text)

    # Disturbances

    def publish(self) -> None:
        """Publish another version, and see it served."""
        version = str(self.counts["publishes"] + 1)
        (self.folder / "site" / "version.txt").write_text(version)
        self.run_command("publish", "site", "--prod")
        deadline_s = time.monotonic() + 10
        while self._ask("/version.txt") != version.encode():
            if time.monotonic() > deadline_s:
                self.lost.append(f"version {version} was not served within 10 s")
                break
            time.sleep(0.05)
        self.note("publishes")

    def reload(self) -> None:
        """Have all workers replaced."""
        self.run_command("reload")
        self.note("reloads")

    def kill(self) -> None:
        """Kill a worker, any one; those that do jobs as well."""
        children = [pid for pid in list_children(self.master) if is_worker(pid)]
        if children:
            self.killed_s = time.monotonic() + SETTLE_S
            with suppress(ProcessLookupError):
                os.kill(self.randomly.choice(children), signal.SIGKILL)
            self.note("kills")

    def disturb(self, deed: Callable[[], None], every_s: float) -> None:
        """Do something again and again."""
        while not self.is_over.wait(every_s * self.randomly.uniform(0.5, 1.5)):
            try:
                deed()
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                with self.lock:
                    self.lost.append(str(error))

    def watch(self) -> None:
        """Look at memory and descriptors now and then."""
        while not self.is_over.wait(SAMPLE_S):
            everybody = [self.master, *list_children(self.master)]
            memory = [count_memory(pid) for pid in everybody]
            self.samples.append((sum(memory), memory[0], max(map(count_descriptors, everybody))))

    # The end

    def check_uploads(self) -> int:
        """Return how many uploads that were acknowledged are not there as they were."""
        return sum(hashlib.sha256(self._ask(f"/media/by-name/{name}")).hexdigest() != digest
                   for name, digest in self.uploads.items())  # fmt: skip

    def _ask(self, path: str) -> bytes:
        for _ in range(3):
            connection = self._connect()
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status in (301, 302, 307, 308):
                    path = str(answer.headers["Location"])
                    continue
            except (OSError, http.client.HTTPException):
                continue
            finally:
                connection.close()
            return content
        return b""


REQUESTS: list[tuple[str, dict[str, str], int]] = [
    ("/index.html", {}, 200),
    ("/style.css", {"Accept-Encoding": "br, gzip"}, 200),
    ("/big.bin", {}, 200),
    ("/big.bin", {"Range": "bytes=1000-200000"}, 206),
    ("/nothing", {}, 404),
    ("/-/healthy", {}, 200),
]


def list_children(pid: int) -> list[int]:
    """Return the processes that ``pid`` has started."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_worker(pid: int) -> bool:
    """Tell whether a process is a worker, and not a look at the settings."""
    try:
        return b"--check" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def count_memory(pid: int) -> int:
    """Return the bytes of memory that a process takes, what it shares divided among all."""
    with suppress(OSError, AttributeError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) << 10 if found else 0
    return 0


def count_descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def make_site(folder: Path) -> None:
    """Write a small site."""
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>soak</title>")
    (folder / "style.css").write_text("body { margin: 0 }\n" * 500)
    (folder / "big.bin").write_bytes(random.Random(1).randbytes(2 << 20))  # noqa: S311 - any bytes
    (folder / "version.txt").write_text("0")


def compare(samples: list[tuple[int, int, int]], place: int) -> tuple[float, float]:
    """Return the medians of the first and of the last third."""
    third = max(1, len(samples) // 3)
    early, late = samples[:third], samples[-third:]
    return statistics.median(one[place] for one in early), statistics.median(one[place] for one in late)


def report(soak: Soak, missing: int) -> bool:
    """Print the table; return whether all is well."""
    rows: list[tuple[str, str, bool]] = [(name, f"{count:,}", True) for name, count in sorted(soak.counts.items())]
    rows.append(("lost requests", f"{len(soak.lost):,}", not soak.lost))
    rows.append(("uploads that are missing or differ", f"{missing:,} of {len(soak.uploads):,}", missing == 0))
    for place, (name, unit, slack) in enumerate(
        (("memory of all (PSS)", 1 << 20, SLACK_BYTES), ("memory of the master (PSS)", 1 << 20, SLACK_BYTES),
         ("most descriptors of a process", 1, SLACK_DESCRIPTORS))
    ):  # fmt: skip
        early, late = compare(soak.samples, place)
        told = f"{early / unit:.1f} → {late / unit:.1f}" + (" MiB" if unit > 1 else "")
        rows.append((name, told, late <= early * GROWTH + slack))
    print(f"\n| {soak.minutes:g} minutes | | |\n|---|--:|---|")
    for name, told, is_well in rows:
        print(f"| {name} | {told} | {'' if is_well else '**no**'} |")
    for text in soak.lost[:20]:
        print(f"lost: {text}")
    return all(is_well for _, _, is_well in rows)


def run(soak: Soak, workers: int) -> bool:
    """Run all of it; return whether all is well."""
    make_site(soak.folder / "site")
    (soak.folder / "assetserver.toml").write_text(CONFIG.format(workers=workers))
    soak.run_command("publish", "site", "--prod")
    soak.token = soak.run_command("token", "create", "--scope", "upload").split()[0]
    log = soak.folder / "log"
    with log.open("wb") as sink:
        server = subprocess.Popen([sys.executable, "-m", "assetserver", "serve"], cwd=soak.folder, stdout=sink, stderr=sink)
    try:
        soak.master = server.pid
        soak.port = wait_port(log, server)
        soak.run_command("reload")  # all workers are there now
        threads = [threading.Thread(target=soak.read, args=(seed,)) for seed in range(6)]
        threads += [threading.Thread(target=soak.upload, args=(seed,)) for seed in (100, 101)]
        deeds = ((soak.publish, 8.0), (soak.reload, 12.0), (soak.kill, 7.0))
        threads += [threading.Thread(target=soak.disturb, args=deed) for deed in deeds]
        threads.append(threading.Thread(target=soak.watch))
        for one in threads:
            one.start()
        soak.is_over.wait(soak.minutes * 60)
        soak.is_over.set()
        for one in threads:
            one.join(LIMIT_S * 3)
        missing = soak.check_uploads()
    finally:
        server.terminate()
        try:
            server.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
    if "Traceback" in log.read_text():
        soak.lost.append("the server wrote a traceback: " + log.read_text()[-2000:])
    return report(soak, missing)


def wait_port(log: Path, server: subprocess.Popen[bytes]) -> int:
    """Return where the server listens, once it says so."""
    deadline_s = time.monotonic() + LIMIT_S
    while server.poll() is None and time.monotonic() < deadline_s:
        if found := re.search(r"on http://127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise SystemExit(f"the server does not start: {log.read_text()[-500:]}")


def main() -> None:
    """Read the arguments, run, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="assetserver-soak-"))
    try:
        soak = Soak(folder, arguments.minutes, random.Random(arguments.seed))  # noqa: S311 - a load, not a secret
        is_well = run(soak, arguments.workers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
