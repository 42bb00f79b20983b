"""The machine that measures: which cores, what processes use of it, and the facts that numbers depend on. Needs Linux."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

EX_INVALID = 1
EX_UNAVAILABLE = 69

KIB, MIB = 1024, 1024 * 1024
START_LIMIT_S = 30.0
STOP_LIMIT_S = 5.0
POLL_S = 0.002
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PACKAGES = ("assetserver", "starlette", "uvicorn", "uvloop", "httptools", "anyio", "brotli")


class BenchError(Exception):
    """The benchmark cannot go on: a server does not start, files cannot be made."""


class InvalidMeasurementError(Exception):
    """A number that would mean something else than it says: errors were answered, or something else than the question."""


class TooFewError(InvalidMeasurementError):
    """Next to nothing was answered: too short a time, or others keep the cores busy."""


@dataclass(frozen=True)
class Cores:
    """Where the server and the load run; the same core if there is only one."""

    server: int
    load: int


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, file=sys.stderr, flush=True)


# --- Cores -------------------------------------------------------------------------------------------------------------------


def choose_cores() -> Cores:
    """Return one core for the server and another for the load, if there are two."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) == 1:
        say("only one core: server and load share it, and times say little")
    return Cores(usable[0], usable[min(1, len(usable) - 1)])


@contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Let what is started in the block run on ``cores`` only: affinity is inherited, from the first instruction on."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- Processes ---------------------------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_port(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until something accepts connections at ``port``; False if the process ends before, or takes too long."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(POLL_S)
    return False


def stop(process: subprocess.Popen[bytes], by: int = signal.SIGTERM) -> None:
    """Ask a process to end, and make it if it does not."""
    process.send_signal(by)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def clean_environment() -> dict[str, str]:
    """Return the environment without settings of whoever runs this."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}


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


def read_private_bytes(pid: int, shared: str = "") -> int:
    """Return the private memory of a process and its children, without what they map from files below ``shared``.

    An index that all workers map counts as private while there is only one worker; it is not.
    """
    total, is_counted = 0, True
    for member in list_tree(pid):
        with open(f"/proc/{member}/smaps", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if "-" in name.partition(" ")[0]:
                    is_counted = not (shared and f" {shared}" in line)
                elif is_counted and name in {"Private_Dirty", "Private_Clean"}:
                    total += int(rest.split()[0]) * KIB
    return total


def read_peak_kb(pid: int) -> int:
    """Return the highest resident memory that a process and its children have had, each for itself (VmHWM), added up."""
    return sum(map(_read_peak_kb, list_tree(pid)))


def _read_peak_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))


def forget_peak(pid: int) -> None:
    """Have the peaks of a process and its children begin anew."""
    for member in list_tree(pid):
        with open(f"/proc/{member}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")


# --- Facts -------------------------------------------------------------------------------------------------------------------


def describe_machine() -> dict[str, object]:
    """Return what the numbers depend on."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory_kb = next(int(line.split()[1]) for line in file if line.startswith("MemTotal:"))
    cores = choose_cores()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kb / MIB, 1),
        "pinned": {"server": cores.server, "load": cores.load},
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "wrk": first_line("wrk", "-v").partition(" [")[0],
        "commit": first_line("git", "-C", os.path.dirname(os.path.abspath(__file__)), "describe", "--always", "--dirty"),
        "packages": {name: _version_of(name) for name in PACKAGES},
    }


def first_line(*command: str) -> str:
    """Return the first line that a program says of itself, or "" if there is none."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    if shutil.which(command[0], path=path) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
