"""What do publishing, switching and keeping releases cost?

Publishes folders made here with the program as people run it, serves a release of 50,000 files, switches under a client that
asks for hot files all the time, and reads a worker's memory from ``/proc``. Every number stands beside its goal.

Prints Markdown on stdout, progress on stderr, and writes JSON. Needs Linux. Exit codes: 0 done, 1 something did not work.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from statistics import median, quantiles
from typing import cast

import values
from machine import (
    KIB,
    MIB,
    BenchError,
    choose_cores,
    clean_environment,
    free_port,
    pinned,
    read_private_bytes,
    say,
    stop,
)
from values import Row

START_LIMIT_S = 60.0
POLL_S = 0.002
MINIMAL_BYTES = 200
HOT_FILES = 20
PAGE_KIB = 64
CHANGED = 20
"""One file in so many is another in each version."""
KEEPS_NOTHING = {"ASSETSERVER_MEMORY__LIMIT_BYTES": "0", "ASSETSERVER_MEMORY__HOT_LIMIT_BYTES": "0"}
PROGRAM = (sys.executable, "-m", "assetserver")


@dataclass(frozen=True)
class Plan:
    """How much of everything; ``before``: releases that there are before it is measured what the next one takes."""

    files: int = 10_000
    release: int = 50_000
    text_kib: int = 8192
    hashed_mib: int = 2048
    rounds: int = 5
    before: int = 3
    watch_s: float = 3.0


QUICK = Plan(files=60, release=100, text_kib=256, hashed_mib=4, rounds=1, before=1, watch_s=1.5)


@dataclass(frozen=True)
class Spent:
    """Wall and processor time of a command, in seconds, children included."""

    wall_s: float
    cpu_s: float


# --- Files -------------------------------------------------------------------------------------------------------------------


def make_text(number: int, length: int) -> bytes:
    """Return a page that compresses about as well as those people write; another for each number. Its links lead to pages."""
    words = [hashlib.sha256(f"{number}/{one}".encode()).hexdigest()[:7] for one in range(40)]
    pick = random.Random(number)  # noqa: S311 - the same every time
    lines = []
    size = 0
    while size < length:
        page = pick.randrange(6) * 10 + pick.randrange(6)
        line = f'<li class="item {pick.choice(words)}"><a href="/0/{page}.html">{pick.choice(words)} and more</a></li>\n'
        lines.append(line)
        size += len(line)
    return "".join(lines).encode()[:length]


def write(folder: str, contents: Iterable[tuple[str, bytes]]) -> str:
    """Write files, 1,000 to a folder, and return ``folder``."""
    for number, (suffix, content) in enumerate(contents):
        if number % 1000 == 0:
            os.makedirs(os.path.join(folder, str(number // 1000)))
        with open(os.path.join(folder, str(number // 1000), f"{number}{suffix}"), "wb") as file:
            file.write(content)
    return folder


def site_files(total: int) -> Iterator[tuple[str, bytes]]:
    """A site: of ten files six are text of 1 to 8 KiB, four pictures of 4 to 32 KiB that nothing makes smaller."""
    for number in range(total):
        if number % 10 < 6:
            yield ".html", make_text(number, KIB * (1 + number % 8))
        else:
            yield ".webp", random.Random(number).randbytes(4 * KIB * (1 + number % 8))  # noqa: S311 - as above


def text_files(plan: Plan) -> Iterator[tuple[str, bytes]]:
    """Nothing but large pages."""
    for number in range(plan.text_kib // PAGE_KIB):
        yield ".html", make_text(number, PAGE_KIB * KIB)


def minimal_files(total: int, version: int = 1) -> Iterator[tuple[str, bytes]]:
    """Files too small to compress: all is overhead. One in ten is another in each version."""
    for number in range(total):
        mark = version if number % 10 == 0 else 0
        yield ".txt", (b"%d of %d\n" % (number, mark)).ljust(MINIMAL_BYTES, b".")


# --- The program -------------------------------------------------------------------------------------------------------------


def run(*arguments: str, changes: Mapping[str, str] | None = None) -> tuple[dict[str, object], Spent]:
    """Run the program with ``--json`` where it can; return what it says and what it took. Raises ``BenchError``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun_s = time.perf_counter()
    environment = {**clean_environment(), **(changes or {})}
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, env=environment)
    wall_s = time.perf_counter() - begun_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(arguments)}: {done.stderr}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout) if "--json" in arguments else {}, Spent(wall_s, cpu_s)


@contextmanager
def serving(data: str, core: int, changes: Mapping[str, str] | None = None) -> Iterator[tuple[int, int, float]]:
    """Serve ``data``; yield process, port, and the seconds from the start to the first answer."""
    port = free_port()
    command = [*PROGRAM, "serve", "--data", data, "--port", str(port), "--access-log", "off"]
    begun_s = time.perf_counter()
    with pinned({core}):
        process = subprocess.Popen(command, env={**clean_environment(), **(changes or {})}, stderr=subprocess.DEVNULL)
    try:
        wait_answer(port)
        yield process.pid, port, time.perf_counter() - begun_s
    finally:
        stop(process)


def wait_answer(port: int) -> None:
    """Ask until a file is answered."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT_S)) as connection:
            try:
                connection.request("GET", "/0/1.txt")
                if connection.getresponse().status == http.client.OK:
                    return
            except ConnectionError:
                pass
        time.sleep(POLL_S)
    raise BenchError("the server does not answer")


# --- What is measured --------------------------------------------------------------------------------------------------------


def measure_publishing(folder: str, plan: Plan) -> Iterator[Row]:
    """A first publish and one of the same files: a site, and the worst case."""
    for name, contents in (("site", site_files), ("minimal files", minimal_files)):
        root = write(os.path.join(folder, name), contents(plan.files))
        data = os.path.join(folder, f"{name}-data")
        say(f"publishing {plan.files:,} files, {name}")
        _, first = run("publish", root, "--data", data, "--json")
        again = min((run("publish", root, "--data", data, "--json")[1] for _ in range(plan.rounds)), key=lambda one: one.wall_s)
        share = 100 * again.wall_s / first.wall_s
        what = f"{plan.files:,} files, {name}"
        yield Row(f"{what}: first publish", first.wall_s, "s")
        yield Row(f"{what}: processor time of it", first.cpu_s, "s")
        yield Row(f"{what}: the same again", again.wall_s, "s")
        goal = ("≤ 5 %", share <= 5) if name == "site" else ("", None)  # files of 200 bytes: all is the program's start
        yield Row(f"{what}: again ÷ first", share, "%", *goal)


def edit(content: bytes, version: int) -> bytes:
    """Return a page in which one word was changed, another for each version; before the first, the page itself."""
    lines = content.split(b"\n")
    at = len(lines) // 2
    lines[at] = lines[at].replace(b" and more", b" and more of it, %d" % version) if version else lines[at]
    return b"\n".join(lines)


def change(root: str, pages: list[tuple[int, bytes]], version: int) -> None:
    """Make a folder of ``pages`` the next version: other ones than in the version before, one in twenty."""
    for number, content in pages[version % CHANGED :: CHANGED]:
        with open(os.path.join(root, str(number // 1000), f"{number}.html"), "wb") as file:
            file.write(edit(content, version))


def measure_deltas(folder: str, plan: Plan) -> Iterator[Row]:
    """Releases in which one page in twenty changed, with deltas against the three before and without, in pairs."""
    for name, contents in (("a site", list(site_files(plan.files))), (f"pages of {PAGE_KIB} KiB", list(text_files(plan)))):
        root = write(os.path.join(folder, f"{name} that changes"), contents)
        pages = [(number, content) for number, (suffix, content) in enumerate(contents) if suffix == ".html"]
        ratios, told = list[tuple[float, float]](), dict[str, int]()
        for version in range(plan.before + plan.rounds):
            say(f"version {version} of {name}, with deltas and without")
            change(root, pages, version)
            spent = {}
            for mode in sorted(("off", "publish"), reverse=version % 2 == 1):
                data = ("--data", os.path.join(folder, f"{name}-{mode}"))
                report, spent[mode] = run(
                    "publish", root, "--prod", *data, "--json", changes={"ASSETSERVER_DELTAS__MODE": mode}
                )
                told = cast("dict[str, int]", report["deltas"]) if mode == "publish" else told
            if version >= plan.before:
                made, plain = spent["publish"], spent["off"]
                ratios.append((made.wall_s / plain.wall_s, made.cpu_s / plain.cpu_s))
        yield from judge_deltas(f"{name}, {100 // CHANGED} % of the text changed", ratios, told)


def judge_deltas(what: str, ratios: list[tuple[float, float]], told: Mapping[str, int]) -> Iterator[Row]:
    """Return how much longer publishing took with deltas, and what the last of the releases told of them."""
    walls, cpus = zip(*ratios, strict=True)
    yield Row(f"{what}: publish with deltas ÷ without, median", median(walls), "", "≤ 1.5", median(walls) <= 1.5)
    yield Row(f"{what}: least", min(walls), "")
    yield Row(f"{what}: greatest", max(walls), "")
    yield Row(f"{what}: processor time with deltas ÷ without, median", median(cpus), "")
    share = 100 * told["delta_bytes"] / max(1, told["plain_bytes"])
    yield Row(f"{what}: deltas ÷ br of {told['files']} files", share, "%")


def measure_cores(folder: str, plan: Plan) -> Iterator[Row]:
    """The same text compressed on one core and on two."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    root = write(
        os.path.join(folder, "text"), ((".html", make_text(one, PAGE_KIB * KIB)) for one in range(plan.text_kib // PAGE_KIB))
    )
    walls = {}
    for count in range(1, len(cores) + 1):
        say(f"compressing {plan.text_kib / KIB:g} MiB on {count} core(s)")
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores[:count])
        try:
            walls[count] = run("publish", root, "--data", os.path.join(folder, f"text-{count}"), "--json")[1].wall_s
        finally:
            os.sched_setaffinity(0, before)
        yield Row(f"{plan.text_kib / KIB:g} MiB of text, published on {count} core(s)", walls[count], "s")
    if len(walls) == 2:
        share = walls[1] / walls[2] / 2
        yield Row("of the ideal on two cores", share, "", "≥ 0.9", share >= 0.9)


def measure_hashing(folder: str, plan: Plan) -> Iterator[Row]:
    """A large file hashed on one core, start of the program included."""
    root = os.path.join(folder, "large")
    os.mkdir(root)
    with open(os.path.join(root, "large.bin"), "wb") as file:
        file.truncate(plan.hashed_mib * MIB)
    say(f"hashing {plan.hashed_mib} MiB")
    with pinned({choose_cores().server}):
        spent = min((run("publish", root, "--dry-run", "--data", folder)[1] for _ in range(3)), key=lambda one: one.wall_s)
    speed = plan.hashed_mib * MIB / spent.wall_s / 1e9
    yield Row(f"hashing {plan.hashed_mib} MiB on one core, with the program's start", speed, "GB/s", "≥ 1", speed >= 1)


class Watcher(threading.Thread):
    """Asks for hot files over one connection; notes when each answer came, in seconds, and how long it took."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, float, bytes]] = []
        self.is_over = False
        self._port = port

    def run(self) -> None:
        """Ask until it is over."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_LIMIT_S)) as connection:
            while not self.is_over:
                number = len(self.answers) % HOT_FILES
                begun_s = time.perf_counter()
                connection.request("GET", f"/0/{number * 10}.txt")
                content = connection.getresponse().read()
                now_s = time.perf_counter()
                self.answers.append((now_s, now_s - begun_s, content))
                time.sleep(POLL_S)

    def select_ms(self, start_s: float, stop_s: float) -> list[float]:
        """Return how many milliseconds the answers between two moments took."""
        return [took_s * 1000 for at_s, took_s, _ in self.answers if start_s <= at_s < stop_s] or [float("nan")]


def measure_release(folder: str, plan: Plan) -> Iterator[Row]:
    """A large release: start, activation, and what both cost others."""
    data = os.path.join(folder, "release-data")
    ids = []
    for version in (1, 2):
        root = write(os.path.join(folder, f"release-{version}"), minimal_files(plan.release, version))
        say(f"publishing version {version} of {plan.release:,} files")
        ids.append(str(run("publish", root, "--data", data, "--json")[0]["id"]))
    run("promote", ids[0], "--data", data)
    core = choose_cores().server
    starts = []
    for _ in range(plan.rounds):
        with serving(data, core) as (_, _, start_s):
            starts.append(start_s)
    what = f"{plan.release:,} files"
    yield Row(f"{what}: start to first answer", median(starts), "s", "≤ 1", median(starts) <= 1)
    with serving(data, core) as (_, port, _):
        yield from measure_switches(what, data, ids, port, plan)
    for is_kept, memory in ((True, {}), (False, KEEPS_NOTHING)):
        yield from measure_memory(f"{what}, content {'kept' if is_kept else 'not kept'} in memory", folder, data, plan, memory)


def measure_switches(what: str, data: str, ids: list[str], port: int, plan: Plan) -> Iterator[Row]:
    """Activate one, then the other, while hot files are asked for; before, the same time without."""
    watcher = Watcher(port)
    watcher.start()
    quiet, busy, seen, commands = [], [], [], []
    for number in range(plan.rounds):
        say(f"activation {number + 1} of {plan.rounds}")
        at_s = time.perf_counter()
        time.sleep(plan.watch_s)
        quiet += watcher.select_ms(at_s, time.perf_counter())
        at_s = time.perf_counter()
        with pinned({choose_cores().load}):
            commands.append(run("promote", ids[1 - number % 2], "--data", data)[1].wall_s)
        switched_s = os.stat(os.path.join(data, "sites/default/state.json")).st_mtime - time.time() + time.perf_counter()
        wanted = b" of %d\n" % (2 - number % 2)
        time.sleep(plan.watch_s)
        fresh = next(moment_s for moment_s, _, content in watcher.answers if moment_s > at_s and wanted in content)
        seen.append(fresh - switched_s)
        busy += watcher.select_ms(at_s, time.perf_counter())
    watcher.is_over = True
    watcher.join()
    yield Row(f"{what}: promote, the command", median(commands), "s")
    yield Row(f"{what}: from the switch to the first new answer, longest", max(seen), "s", "≤ 1", max(seen) <= 1)
    for name, took in (("undisturbed", quiet), ("across activations", busy)):
        yield Row(f"hot files {name}: median", median(took), "ms")
        yield Row(f"hot files {name}: 99.9 %", quantiles(took, n=1000)[-1], "ms")
        goal = ("≤ 50", max(took) <= 50) if took is busy else ("", None)
        yield Row(f"hot files {name}: slowest of {len(took):,}", max(took), "ms", *goal)


def measure_memory(what: str, folder: str, data: str, plan: Plan, changes: Mapping[str, str]) -> Iterator[Row]:
    """Private memory of a worker: with a release of 2 files, with the large one, and when all of it was asked for."""
    small = write(os.path.join(folder, f"small-{len(changes)}"), minimal_files(2))
    large = str(run("releases", "--data", data, "--json")[0][-1]["id"])
    run("publish", small, "--prod", "--data", data)
    with serving(data, choose_cores().server, changes) as (pid, port, _):
        sizes = [read_private_bytes(pid, data)]
        run("promote", large, "--data", data)
        ask_all(port, [plan.release - 1], until=True)
        sizes.append(read_private_bytes(pid, data))
        say(f"asking for {what}")
        ask_all(port, range(plan.release))
        sizes.append(read_private_bytes(pid, data))
    for name, size in zip(("none asked for", "all asked for"), sizes[1:], strict=True):
        each = (size - sizes[0]) / plan.release
        is_index_alone = changes or name == "none asked for"  # else content is held, too
        goal = ("≤ 300", each <= 300) if is_index_alone else ("", None)
        yield Row(f"{what}: private memory, {name}", each, "B/file", *goal)


def ask_all(port: int, numbers: Iterable[int], *, until: bool = False) -> None:
    """Ask for files once; ``until``: again until they are there. Raises ``BenchError`` if one is not."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_LIMIT_S)) as connection:
        for number in numbers:
            deadline_s = time.monotonic() + START_LIMIT_S
            while True:
                connection.request("GET", f"/{number // 1000}/{number}.txt")
                response = connection.getresponse()
                response.read()
                if response.status == http.client.OK:
                    break
                if not until or time.monotonic() > deadline_s:
                    raise BenchError(f"file {number} is answered {response.status}")
                time.sleep(POLL_S)


def measure(folder: str, plan: Plan) -> Iterator[Row]:
    """Measure everything, one after the other."""
    for part in (measure_publishing, measure_deltas, measure_cores, measure_hashing, measure_release):
        yield from part(folder, plan)


if __name__ == "__main__":
    sys.exit(values.run("publish", __doc__, Plan(), QUICK, measure))
