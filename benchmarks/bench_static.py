"""What does a request cost, against stock Starlette StaticFiles on the same Uvicorn?

For each question (a small file, a 304, a large file, ...) every server is measured in pairs: stock, then ours, one right after
the other, and the ratio is taken within the pair, so that whatever slows the machine for a while slows both. The cost is the
processor time of the server per request, from ``/proc``, which does not depend on how fast the load generator is.

Prints Markdown on stdout, progress on stderr, and writes JSON. Needs Linux and wrk. Exit codes: 0 done, 1 a measurement was
invalid, 69 something is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import math
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from statistics import median
from typing import NamedTuple

EX_INVALID = 1
EX_UNAVAILABLE = 69

KIB, MIB = 1024, 1024 * 1024
CONNECTIONS = 20
DOWNLOADS = 4
START_LIMIT_S = 20.0
STOP_LIMIT_S = 5.0
READY_LIMIT_S = 10.0
WRK_LIMIT_S = 60.0
WRK_TIMEOUT = "60s"  # its 2 s would call a 64 MiB answer an error
WARM_UP_S = 0.5
POLL_S = 0.02
SETTLE_S = 0.2
LOG_SETTLE_S = 0.8  # the log's thread writes every 0.5 s; what it does for these requests belongs to them
HEAD_LIMIT_BYTES = 1000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PACKAGES = ("assetserver", "starlette", "uvicorn", "uvloop", "httptools", "anyio", "aiofiles", "brotli")

Fields = Mapping[str, str]

BROWSER_FIELDS: Fields = {
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

WRK_REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"duration_us":%.0f,"requests":%.0f,"bytes":%.0f,"status":%.0f,"connect":%.0f,"read":%.0f,"write":%.0f,"timeout":%.0f}\\n',
    summary.duration, summary.requests, summary.bytes, e.status, e.connect, e.read, e.write, e.timeout))
end
"""
"""wrk's own summary as exact numbers. ``status`` counts what its text calls "Non-2xx or 3xx responses": 400 and above."""

STOCK_APP = """
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

app = Starlette(routes=[Mount("/static", StaticFiles(directory="files"))])
"""
GZIP_APP = (
    STOCK_APP
    + """
from starlette.middleware.gzip import GZipMiddleware

app.add_middleware(GZipMiddleware)
"""
)
ASSETFILES_APP = STOCK_APP.replace("starlette.staticfiles", "assetserver").replace("StaticFiles", "AssetFiles")
CONFIG = """
[[mounts]]
prefix = "/static"
directory = "files"
"""


class BenchError(Exception):
    """The benchmark cannot go on: a server does not start."""


class InvalidMeasurementError(Exception):
    """A number that would mean something else than it says: errors were answered, or something else than the question."""


class TooFewError(InvalidMeasurementError):
    """Next to nothing was answered: too short a time, or others keep the cores busy."""


@dataclass(frozen=True)
class Question:
    """One kind of request. ``by_bytes``: answers are so long that the unfinished ones count too, by their bytes."""

    title: str
    file: str
    fields: Fields
    status: int = 200
    coded: bool = False
    by_bytes: bool = False


@dataclass(frozen=True)
class Contender:
    """A server to be: its command line; ``{port}`` stands for a free port, and ``log`` tells that it writes an access log."""

    name: str
    command: tuple[str, ...]
    log: bool = False


@dataclass(frozen=True)
class Server:
    """A running server."""

    contender: Contender
    process: subprocess.Popen[bytes]
    port: int

    @property
    def settle_s(self) -> float:
        """How long after the last answer it may still work for it."""
        return LOG_SETTLE_S if self.contender.log else SETTLE_S


@dataclass(frozen=True)
class Measurement:
    """What one run of wrk cost; ``requests`` is a fraction where unfinished answers count."""

    requests: float
    duration_s: float
    cpu_s: float

    @property
    def requests_per_s(self) -> float:
        """Requests per second of wall time."""
        return self.requests / self.duration_s

    @property
    def cpu_us(self) -> float:
        """Processor time of the server per request, in microseconds."""
        return self.cpu_s * 1e6 / self.requests


class Answer(NamedTuple):
    """What of an answer tells whether it is the one in question; ``length`` is that of its content, in bytes."""

    status: int
    coding: str
    etag: str
    length: int

    def is_for(self, question: Question, size: int) -> bool:
        """Tell whether this answers the question about a file of ``size`` bytes."""
        if self.status != question.status or bool(self.coding) != question.coded:
            return False
        if question.status == http.client.NOT_MODIFIED:
            return self.length == 0
        return 0 < self.length < size if question.coded else self.length == size


class Pair(NamedTuple):
    """Two measurements, one right after the other."""

    stock: Measurement
    ours: Measurement

    @property
    def ratio(self) -> float:
        """How many times as much the request costs with stock."""
        return self.stock.cpu_us / self.ours.cpu_us


class Growth(NamedTuple):
    """Peak of the resident memory of a server, in kB, before and after the downloads."""

    before_kb: int
    after_kb: int


@dataclass(frozen=True)
class Cores:
    """Where the server and the load run; the same core if there is only one."""

    server: int
    load: int


@dataclass(frozen=True)
class Bench:
    """What every measurement needs to know."""

    folder: str
    cores: Cores
    seconds: float

    def path(self, *parts: str) -> str:
        """Return a path in the working folder."""
        return os.path.join(self.folder, *parts)


QUESTIONS = (
    Question("1 KiB, 2 request fields", "1k.bin", {"Accept": "*/*"}),
    Question("1 KiB, 15 request fields", "1k.bin", BROWSER_FIELDS),
    Question("1 KiB, 304", "1k.bin", {"Accept": "*/*"}, status=304),
    Question("16 KiB css, compressed", "16k.css", {"Accept-Encoding": "gzip, br"}, coded=True),
    Question("1 MiB", "1m.bin", {"Accept": "*/*"}),
    Question("64 MiB", "64m.bin", {"Accept": "*/*"}, by_bytes=True),
)
MEMORY_FILE = "256m.bin"
SIZES = {"1k.bin": KIB, "1m.bin": MIB, "64m.bin": 64 * MIB, MEMORY_FILE: 256 * MIB}


def _under_uvicorn(module: str) -> tuple[str, ...]:
    options = "--http httptools --loop uvloop --no-access-log --log-level error --host 127.0.0.1 --port {port}"
    return (sys.executable, "-m", "uvicorn", f"{module}:app", *options.split())


def _under_assetserver(access_log: str) -> tuple[str, ...]:
    return (sys.executable, *f"-m assetserver serve --config generated.toml --port 0 --access-log {access_log}".split())


STOCK = Contender("stock", _under_uvicorn("stock_app"))
STOCK_GZIP = Contender("stock + GZipMiddleware", _under_uvicorn("gzip_app"))
OURS = (
    Contender("AssetFiles", _under_uvicorn("assetfiles_app")),
    Contender("assetserver serve", _under_assetserver("off")),
    Contender("assetserver serve, access log", _under_assetserver("combined"), log=True),
)


# --- Files and servers -------------------------------------------------------------------------------------------------------


def write_files(folder: str, names: set[str]) -> None:
    """Write the files to serve, the apps and the settings."""
    os.mkdir(os.path.join(folder, "files"))
    for name in names:
        with open(os.path.join(folder, "files", name), "wb") as file:
            if name.endswith(".css"):
                file.write(make_css(16 * KIB))
                continue
            file.writelines(os.urandom(min(MIB, SIZES[name] - start)) for start in range(0, SIZES[name], MIB))
    texts = {
        "stock_app.py": STOCK_APP,
        "gzip_app.py": GZIP_APP,
        "assetfiles_app.py": ASSETFILES_APP,
        "generated.toml": CONFIG,
        "report.lua": WRK_REPORT,
    }
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


def make_css(length: int) -> bytes:
    """Return a style sheet that compresses about as well as those people write, the same every time."""
    rules = []
    for number in range(length // 64):
        code = hashlib.sha256(str(number).encode()).hexdigest()
        rules.append(
            f".block-{code[:6]} > a {{\n  color: #{code[6:12]};\n  margin: {number % 9}px auto;\n  display: flex;\n}}\n"
        )
    return "".join(rules).encode()[:length]


def choose_cores() -> Cores:
    """Return one core for the server and another for the load, if there are two."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        say("only one core: server and wrk share it, and requests/s say little")
    return Cores(usable[0], usable[min(1, len(usable) - 1)])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Let what is started in the block run on ``core`` only: affinity is inherited, from the first instruction on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(contender: Contender, bench: Bench) -> Iterator[Server]:
    """Run a server until the block ends. Raises ``BenchError`` if it does not start."""
    port = free_port()
    command = [word.format(port=port) for word in contender.command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    with tempfile.TemporaryFile(dir=bench.folder) as log, pinned(bench.cores.server):
        process = subprocess.Popen(
            command, cwd=bench.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
        )
        try:
            with pinned(bench.cores.load):
                yield Server(contender, process, wait_port(contender, process, port, log.fileno()))
        finally:
            stop(process)


def wait_port(contender: Contender, process: subprocess.Popen[bytes], port: int, log: int) -> int:
    """Wait until the server accepts connections; return its port, which the command line may have left to the server."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        said = os.pread(log, 64 * KIB, 0).decode(errors="replace")
        if "{port}" not in contender.command:
            port = int(said.partition("on http://127.0.0.1:")[2].partition(" ")[0] or 0)
        with socket.socket() as probe:
            if port and probe.connect_ex(("127.0.0.1", port)) == 0:
                return port
        time.sleep(POLL_S)
    raise BenchError(f"{contender.name} does not start:\n{os.pread(log, 64 * KIB, 0).decode(errors='replace')}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and make it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- What a server uses ------------------------------------------------------------------------------------------------------


def read_stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the third on, the state; the second, a name, may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def list_tree(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            parents[int(name)] = int(read_stat(int(name))[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    tree = [pid]
    for parent in tree:
        tree += [child for child, its_parent in parents.items() if its_parent == parent]
    return tree


def read_cpu_s(pid: int) -> float:
    """Return the processor time, user and system, of a process, its children and those that have ended."""
    return sum(sum(map(int, read_stat(member)[11:15])) for member in list_tree(pid)) / TICKS_PER_S


def read_peak_kb(pid: int) -> int:
    """Return the highest resident memory that a process has had (VmHWM)."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


# --- Asking and measuring ----------------------------------------------------------------------------------------------------


def ask(server: Server, question: Question, fields: Fields) -> Answer:
    """Return the answer to a question asked with these fields."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=READY_LIMIT_S)
    try:
        connection.putrequest("GET", f"/static/{question.file}", skip_accept_encoding=True)
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        length = 0
        while piece := response.read(MIB):
            length += len(piece)
        return Answer(response.status, response.getheader("Content-Encoding", ""), response.getheader("ETag", ""), length)
    finally:
        connection.close()


def prepare(server: Server, question: Question, bench: Bench) -> tuple[Fields, int]:
    """Return the fields to ask with and the length of the content, once the server gives the answer in question.

    Raises ``InvalidMeasurementError`` if it never does: the cost of some other answer would be compared.
    """
    size = os.path.getsize(bench.path("files", question.file))
    deadline_s = time.monotonic() + READY_LIMIT_S
    while True:
        fields = dict(question.fields)
        if question.status == http.client.NOT_MODIFIED:
            fields["If-None-Match"] = ask(server, question, fields).etag
        answer = ask(server, question, fields)
        if answer.is_for(question, size):
            return fields, answer.length
        if time.monotonic() > deadline_s:
            raise InvalidMeasurementError(f"{answer} is not the answer in question")
        time.sleep(POLL_S)


def run_wrk(server: Server, question: Question, fields: Fields, seconds: float, bench: Bench) -> dict[str, int]:
    """Run wrk for some seconds; return its summary. Raises ``InvalidMeasurementError`` for errors of any kind.

    wrk takes whole seconds only, but ends early and well on SIGINT, and tells for how long it really ran.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{math.ceil(seconds)}s", "--timeout", WRK_TIMEOUT, "-s", "report.lua"]
    headers = [word for name, value in fields.items() for word in ("-H", f"{name}: {value}")]
    url = f"http://127.0.0.1:{server.port}/static/{question.file}"
    with pinned(bench.cores.load):
        process = subprocess.Popen([*command, *headers, url], cwd=bench.folder, stdout=subprocess.PIPE, text=True)
    try:
        if not seconds.is_integer():
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=seconds + WRK_LIMIT_S)[0]
    finally:
        process.kill()
        process.wait()
    if process.returncode == -signal.SIGINT:
        raise TooFewError("wrk was told to end before it had begun")
    if process.returncode:
        raise InvalidMeasurementError(f"wrk ended with {process.returncode}: {output.strip()}")
    summary: dict[str, int] = json.loads(output.rstrip().rpartition("\n")[2])
    errors = [f"{summary[name]} {name}" for name in ("status", "connect", "read", "write", "timeout") if summary[name]]
    if errors:
        raise InvalidMeasurementError(f"wrk reports errors: {', '.join(errors)}")
    return summary


def measure(server: Server, question: Question, bench: Bench) -> Measurement:
    """Return what the question costs this server, measured for longer if next to nothing is answered.

    Raises ``InvalidMeasurementError`` if the numbers would not say that.
    """
    for factor in (1, 2, 4, 8):
        try:
            return measure_once(server, question, bench.seconds * factor, bench)
        except TooFewError as error:
            say(f"{error}; once more, for longer")
    raise InvalidMeasurementError("next to nothing is answered: the server hangs, or others keep the cores busy")


def measure_once(server: Server, question: Question, seconds: float, bench: Bench) -> Measurement:
    """Return what the question costs this server, as ``measure``; raises ``TooFewError`` too."""
    fields, length = prepare(server, question, bench)
    run_wrk(server, question, fields, min(bench.seconds, WARM_UP_S), bench)
    time.sleep(server.settle_s)
    before_s = read_cpu_s(server.process.pid)
    summary = run_wrk(server, question, fields, seconds, bench)
    time.sleep(server.settle_s)
    if server.process.poll() is not None:
        raise InvalidMeasurementError(f"the server ended with {server.process.returncode}")
    cpu_s = read_cpu_s(server.process.pid) - before_s
    completed, received = summary["requests"], summary["bytes"]
    if not question.by_bytes and not completed * length <= received <= (completed + CONNECTIONS) * (length + HEAD_LIMIT_BYTES):
        raise InvalidMeasurementError(f"{received} bytes are not {completed} answers of {length}")
    requests = received / length if question.by_bytes else completed
    if requests < 1 or cpu_s <= 0:
        spent = f"{requests:.1f} requests in {summary['duration_us'] / 1e6:.2f} s, {cpu_s:.2f} s of processor time"
        raise TooFewError(f"{spent}, are too few to tell")
    return Measurement(requests, summary["duration_us"] / 1e6, cpu_s)


def measure_pair(stock: Server, ours: Server, question: Question, bench: Bench) -> Pair:
    """Return what the question costs two servers. Raises ``InvalidMeasurementError`` that names the one at fault."""
    measured = []
    for server in (stock, ours):
        try:
            measured.append(measure(server, question, bench))
        except InvalidMeasurementError as error:
            raise InvalidMeasurementError(f"{server.contender.name}: {error}") from error
    return Pair(*measured)


def measure_growth(contender: Contender, bench: Bench) -> Growth:
    """Return the peak memory of a fresh server before and after a few clients download a large file at the same time."""
    small, large = Question("", "1k.bin", {}), Question("", MEMORY_FILE, {})
    with running(contender, bench) as server, ThreadPoolExecutor(DOWNLOADS) as pool:
        prepare(server, small, bench)
        before_kb = read_peak_kb(server.process.pid)
        lengths = list(pool.map(lambda _: ask(server, large, {}).length, range(DOWNLOADS)))
        if lengths != [SIZES[MEMORY_FILE]] * DOWNLOADS:
            raise InvalidMeasurementError(f"downloads of {lengths} bytes are not the file's {SIZES[MEMORY_FILE]}")
        return Growth(before_kb, read_peak_kb(server.process.pid))


# --- The runs ----------------------------------------------------------------------------------------------------------------


@dataclass
class Results:
    """What was measured, and what could not be."""

    pairs: dict[tuple[str, str], list[Pair]]
    growth: dict[str, Growth]
    invalid: list[str]

    @contextmanager
    def refusing(self, what: str) -> Iterator[None]:
        """Take down an invalid measurement and go on."""
        try:
            yield
        except (InvalidMeasurementError, OSError, http.client.HTTPException, subprocess.TimeoutExpired) as error:
            self.invalid.append(f"{what}: {error}")
            say(f"invalid: {what}: {error}")


def measure_all(questions: Sequence[Question], rounds: int, bench: Bench) -> Results:
    """Ask every question of every server, in pairs, round after round."""
    results = Results({(question.title, ours.name): [] for question in questions for ours in OURS}, {}, [])
    with ExitStack() as stack:
        needed = [*dict.fromkeys(baseline(question) for question in questions), *OURS]
        servers = {contender: stack.enter_context(running(contender, bench)) for contender in needed}
        for number, question, ours in product(range(1, rounds + 1), questions, OURS):
            what = f"round {number} of {rounds}, {question.title}, {ours.name}"
            with results.refusing(what):
                pair = measure_pair(servers[baseline(question)], servers[ours], question, bench)
                results.pairs[question.title, ours.name].append(pair)
                say(f"{what}: {pair.stock.cpu_us:.1f} µs with stock, {pair.ours.cpu_us:.1f} µs, {pair.ratio:.1f} times less")
    return results


def measure_memory(results: Results, bench: Bench) -> None:
    """Add the growth of memory to the results."""
    for contender in (STOCK, *OURS[:2]):
        what = f"memory, {contender.name}"
        with results.refusing(what):
            growth = results.growth[contender.name] = measure_growth(contender, bench)
            say(f"{what}: {growth.before_kb} kB, then {growth.after_kb} kB")


def baseline(question: Question) -> Contender:
    """Return the stock server that can answer the question: compressing is the work of a middleware there."""
    return STOCK_GZIP if question.coded else STOCK


# --- Telling -----------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


def format_costs(questions: Sequence[Question], results: Results) -> Iterator[str]:
    """Yield the lines of the table of costs."""
    yield "| question | server | req/s | CPU µs/request | stock ÷ this: median (min–max) |"  # noqa: RUF001 - a range
    yield "|---|---|--:|--:|--:|"
    for question in questions:
        stock = [pair.stock for ours in OURS for pair in results.pairs[question.title, ours.name]]
        yield format_row(question, baseline(question), stock, "1")
        for ours in OURS:
            pairs = results.pairs[question.title, ours.name]
            yield format_row(question, ours, [pair.ours for pair in pairs], format_spread([pair.ratio for pair in pairs]))


def format_row(question: Question, contender: Contender, measured: Sequence[Measurement], ratio: str) -> str:
    """Return a line of the table: medians over the rounds."""
    if not measured:
        return f"| {question.title} | {contender.name} | invalid | invalid | invalid |"
    rate, cost = median(one.requests_per_s for one in measured), median(one.cpu_us for one in measured)
    digits = 0 if cost >= 1000 else 1
    return f"| {question.title} | {contender.name} | {rate:,.{0 if rate >= 100 else 1}f} | {cost:,.{digits}f} | {ratio} |"


def format_spread(ratios: Sequence[float]) -> str:
    """Return median, least and greatest."""
    return f"{median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})" if ratios else ""  # noqa: RUF001 - a range


def format_memory(growth: Mapping[str, Growth]) -> Iterator[str]:
    """Yield the lines of the table of memory."""
    yield f"| {DOWNLOADS} downloads of 256 MiB at the same time | peak RSS before, kB | after, kB | growth, kB |"
    yield "|---|--:|--:|--:|"
    for name, (before_kb, after_kb) in growth.items():
        yield f"| {name} | {before_kb:,} | {after_kb:,} | {after_kb - before_kb:,} |"


def describe_machine(cores: Cores) -> dict[str, object]:
    """Return what the numbers depend on."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "pinned": {"server": cores.server, "wrk": cores.load},
        "kernel": platform.release(),
        "python": platform.python_version(),
        "wrk": (wrk.stdout + wrk.stderr).partition(" [")[0],
        "packages": {name: version(name) for name in PACKAGES},
    }


def to_json(results: Results, machine: Mapping[str, object], rounds: int, seconds: float) -> dict[str, object]:
    """Return everything that was measured, ready for ``json.dump``."""
    costs = [
        {
            "question": question,
            "server": server,
            "ratio_median": median(pair.ratio for pair in pairs) if pairs else None,
            "rounds": [{**to_numbers(pair), "ratio": pair.ratio} for pair in pairs],
        }
        for (question, server), pairs in results.pairs.items()
    ]
    memory = {name: growth._asdict() for name, growth in results.growth.items()}
    settings = {"rounds": rounds, "seconds": seconds, "connections": CONNECTIONS}
    return {"machine": machine, "settings": settings, "costs": costs, "memory": memory, "invalid": results.invalid}


def to_numbers(pair: Pair) -> dict[str, dict[str, float]]:
    """Return a pair as what was read and what follows from it."""
    return {
        side: {**asdict(one), "requests_per_s": one.requests_per_s, "cpu_us_per_request": one.cpu_us}
        for side, one in pair._asdict().items()
    }


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    default = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results", "static.json")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="pairs per question and server [%(default)s]")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="length of a measurement [%(default)s]")
    parser.add_argument("--json", default=default, metavar="PATH", help="where the numbers go [benchmarks/results/static.json]")
    parser.add_argument("--quick", action="store_true", help="see that it works: the first question once, 0.3 s, no memory")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or not 0.1 <= arguments.seconds <= 600:
        parser.error("--rounds must be at least 1, and --seconds between 0.1 and 600")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.3
    return arguments


def main() -> int:
    """Run the benchmark; return the exit code."""
    arguments = read_arguments()
    if shutil.which("wrk") is None:
        say("wrk is missing: apt-get install wrk")
        return EX_UNAVAILABLE
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no server is left behind
    cores = choose_cores()
    questions = QUESTIONS[:1] if arguments.quick else QUESTIONS
    with tempfile.TemporaryDirectory(prefix="bench_static-") as folder:
        bench = Bench(folder, cores, arguments.seconds)
        write_files(folder, {"1k.bin"} if arguments.quick else {*SIZES, "16k.css"})
        results = measure_all(questions, arguments.rounds, bench)
        if not arguments.quick:
            measure_memory(results, bench)
    machine = describe_machine(cores)
    print(*format_costs(questions, results), sep="\n")
    if results.growth:
        print("", *format_memory(results.growth), sep="\n")
    os.makedirs(os.path.dirname(os.path.abspath(arguments.json)), exist_ok=True)
    with open(arguments.json, "w", encoding="utf-8") as file:
        json.dump(to_json(results, machine, arguments.rounds, arguments.seconds), file, indent=2)
        file.write("\n")
    say(f"numbers in {arguments.json}")
    return EX_INVALID if results.invalid else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        say(str(error))
        sys.exit(EX_INVALID)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
