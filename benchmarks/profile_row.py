"""Where does the time of a row go? Runs one row against assetserver while a profiler looks on.

    python benchmarks/profile_row.py range-middle
    python benchmarks/profile_row.py 1k-log-15 --with perf --nginx

``py-spy`` says which Python functions, ``perf`` which functions of the interpreter and the kernel, ``strace`` which system
calls and how many per request, ``cprofile`` how often each Python function is called; it alone is always there, and makes
calls dear. What they record costs time, too: shares are to be read, not sums. Exit codes: 0 done, 69 something is missing.
"""

from __future__ import annotations

import argparse
import os
import pstats
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import bench_connections
import bench_files
import bench_latency
import bench_requests
from load import Load, measure, prepare
from machine import EX_UNAVAILABLE, choose_cores, say
from pairs import warm_up
from peers import Running, find, launched
from rows import Row
from sites import make_site

TOOLS = ("py-spy", "perf", "strace", "cprofile")
PYTHON = sys.executable
STATS = "profile.stats"
LIMIT_S = 60.0


def list_rows() -> dict[str, Row]:
    """Return all rows that ask something, by key."""
    rows = (*bench_requests.list_rows(), *bench_latency.ROWS, *bench_files.list_rows(), *bench_connections.ROWS)
    return {row.key: row for row in rows}


def is_there(tool: str) -> bool:
    """Tell whether a profiler is installed."""
    return tool == "cprofile" or shutil.which(find(tool)) is not None


@contextmanager
def recording(tool: str, server: Running, folder: str, seconds: float) -> Iterator[None]:
    """Let a profiler look at a server until the block ends."""
    pid, out = str(server.process.pid), os.path.join(folder, "profile")
    commands = {
        "py-spy": f"{find('py-spy')} record --pid {pid} --duration {int(seconds) + 1} --rate 500 --format raw -o {out}".split(),
        "perf": ["perf", "record", "--quiet", "--call-graph", "fp", "--freq", "2000", "--pid", pid, "--output", out],
        "strace": ["strace", "-f", "-c", "--summary-sort-by=calls", "--output", out, "--attach", pid],
    }
    if tool == "cprofile":
        yield
        return
    process = subprocess.Popen(commands[tool], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield
        if tool != "py-spy":
            process.terminate()
        said = process.communicate(timeout=LIMIT_S)[1]
    finally:
        process.kill()
        process.wait()
    if not os.path.exists(out):
        say(f"{tool} recorded nothing: {said.strip()}")


def tell(tool: str, folder: str, lines: int) -> Iterator[str]:
    """Yield what a profiler recorded, the greatest shares first."""
    out = os.path.join(folder, "profile")
    if tool == "perf":
        command = [
            "perf",
            "report",
            "--input",
            out,
            "--stdio",
            "--no-children",
            "--call-graph",
            "none",
            "--percent-limit",
            "0.5",
        ]
        report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        yield from [line for line in report.splitlines() if line.strip() and not line.startswith("#")][:lines]
    elif tool == "strace":
        with open(out, encoding="utf-8") as file:
            yield from file.read().splitlines()[: lines + 2]
    elif tool == "py-spy":
        with open(out, encoding="utf-8") as file:
            yield from _count(file.read().splitlines(), lines)


def _count(stacks: Sequence[str], lines: int) -> Iterator[str]:
    """Yield the functions of py-spy's collapsed stacks: the share of each itself, and with all that it calls."""
    own, total = Counter[str](), Counter[str]()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith("_worker (concurrent/futures/thread.py"):
            continue  # a thread that waits for work
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    samples = sum(own.values()) or 1
    yield "   own   all  function"
    for frame, count in own.most_common(lines):
        yield f"{100 * count / samples:5.1f}% {100 * total[frame] / samples:4.0f}%  {frame}"


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("row", choices=sorted(list_rows()), metavar="ROW", help="a key, such as range-middle")
    parser.add_argument("--with", dest="tool", choices=TOOLS, help="the profiler [the first installed of these]")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="how long [%(default)s]")
    parser.add_argument("--lines", type=int, default=30, metavar="N", help="how much to tell [%(default)s]")
    parser.add_argument("--nginx", action="store_true", help="what the row is compared with instead; perf or strace only")
    return parser.parse_args()


def main() -> int:
    """Profile a row; return the exit code."""
    arguments = read_arguments()
    tools = [tool for tool in (TOOLS[1:3] if arguments.nginx else TOOLS) if is_there(tool)]
    tool = arguments.tool or next(iter(tools), "")
    if tool not in tools:
        say(f"{tool or 'perf'} is missing or of no use here; there are {', '.join(tools) or 'none'}")
        return EX_UNAVAILABLE
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    row, cores = list_rows()[arguments.row], choose_cores()
    peer = row.base if arguments.nginx else row.ours
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        load = Load(folder, cores.load, arguments.seconds)
        stats = os.path.join(folder, STATS)
        wrapper = (PYTHON, "-m", "cProfile", "-o", stats) if tool == "cprofile" else ()
        site = make_site((row.base_site if arguments.nginx else "") or row.site, folder)
        with launched(peer, site, {cores.server}, folder, wrapper) as server:
            prepare(server, row, folder)
            warm_up(server, row, load)
            with recording(tool, server, folder, arguments.seconds):
                cost = measure(server, row, load, arguments.seconds)
        print(f"{row.title}, {peer.name}: {cost.requests:,.0f} requests, {cost.cpu_us:.1f} µs each under {tool}")
        if tool == "cprofile":
            pstats.Stats(stats).sort_stats("tottime").print_stats(arguments.lines)
        else:
            print(*tell(tool, folder, arguments.lines), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
