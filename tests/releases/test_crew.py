"""Work on all cores: every result comes, a process that is killed is told as such, and who stops stops all of it."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from assetserver.errors import PublishError
from assetserver.releases.crew import run_all

LIMIT_S = 60
STOP_LIMIT_S = 30
HOUR_S = 3600


@pytest.mark.parametrize("is_little", [True, False])
def test_each_task_gives_its_result(is_little):
    assert sorted(run_all(math.isqrt, range(20), is_little=is_little)) == sorted(map(math.isqrt, range(20)))
    assert list(run_all(math.isqrt, [], is_little=is_little)) == []


@pytest.mark.parametrize("is_little", [True, False])
def test_an_error_of_the_work_comes_through(is_little):
    with pytest.raises(ValueError, match="nonnegative"):
        list(run_all(math.isqrt, [1, -1], is_little=is_little))


def test_a_killed_process_is_told():
    with pytest.raises(PublishError, match="killed"):
        list(run_all(signal.raise_signal, [signal.SIGKILL], is_little=False))


def children_of(process: int) -> set[int]:
    """The processes that ``process`` started, at any depth and by ``/proc``."""
    found = {int(child) for child in read(f"/proc/{process}/task/{process}/children").split()}
    return found.union(*map(children_of, found))


def read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def is_worker(process: int) -> bool:
    return "spawn_main" in read(f"/proc/{process}/cmdline")


def wait_until(what: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end_s, "it never happened"
        time.sleep(0.01)


def workers_here() -> set[int]:
    return set(filter(is_worker, children_of(os.getpid())))


def test_closing_drops_what_has_not_begun_and_kills_what_runs():
    before = workers_here()
    with closing(run_all(time.sleep, [0, *[HOUR_S] * 10], is_little=False)) as results:
        assert next(results) is None
    assert workers_here() <= before


def test_an_error_kills_what_runs():
    before = workers_here()
    with pytest.raises(ValueError, match="non-negative"):
        list(run_all(time.sleep, [HOUR_S, -1], is_little=False))
    assert workers_here() <= before


class Program:
    """The real program in a session of its own, as a terminal starts it: Ctrl+C goes to all of its processes."""

    def __init__(self, root: Path, folder: Path, *options: str) -> None:
        self._log = root / "stderr"
        command = [sys.executable, "-m", "assetserver", "publish", folder, "--data", root / "data", *options]
        with self._log.open("wb") as stderr:
            self.process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)

    @property
    def members(self) -> set[int]:
        """All processes of the session that still live."""
        return {int(one) for one in os.listdir("/proc") if one.isdigit() and self._is_member(one)}

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _is_member(self, process: str) -> bool:
        fields = stat_of(process)
        return len(fields) > 3 and fields[0] != "Z" and fields[3] == str(self.process.pid)

    def wait_until(self, what: Callable[[], bool]) -> None:
        wait_until(lambda: self.process.poll() is not None or what())
        assert self.process.poll() is None, self.log

    @property
    def workers(self) -> set[int]:
        return set(filter(is_worker, self.members))

    def is_at_work(self, besides: Container[int] = ()) -> bool:
        """Tell whether a child has used half a second of its core: it has started, and is at work."""
        used = (stat_of(one) for one in self.workers if one not in besides)
        return any(len(fields) > 12 and int(fields[11]) > os.sysconf("SC_CLK_TCK") // 2 for fields in used)

    def interrupt(self, times: int) -> None:
        """Press Ctrl+C, again as soon as the program has had the time to see it."""
        for number in range(times):
            time.sleep(0.1 * number)  # two signals at once are one
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGINT)

    def check_stopped(self) -> None:
        assert self.process.wait(STOP_LIMIT_S) != 0
        wait_until(lambda: not self.members)
        assert "spawn_main" not in self.log
        assert "Process SpawnProcess" not in self.log


def stat_of(process: object) -> list[str]:
    """The fields of ``/proc/…/stat`` from the third on."""
    return read(f"/proc/{process}/stat").rpartition(")")[2].split()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def start_program(*arguments: object) -> Program:
        programs.append(Program(tmp_path, *arguments))
        return programs[-1]

    yield start_program
    for one in programs:
        with suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """64 MB of text: most of a minute of br 11 on two cores, longer than ``STOP_LIMIT_S``."""
    words = [f"{word}{number}" for number in range(300) for word in ("color", "margin", "return", "function", "display")]
    text = " ".join(random.Random(1).choices(words, k=450_000))  # noqa: S311 - text to compress
    (tmp_path / "large").mkdir()
    for number in range(16):
        (tmp_path / "large" / f"app{number}.js").write_text(f"// {number}\n{text}")
    return tmp_path / "large"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "a.txt").write_bytes(b"small")
    return tmp_path / "small"


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("phase", ["survey", "compressing"])
def test_ctrl_c_ends_a_publish_and_all_its_processes(tmp_path, start, large, small, times, phase):
    program = start(large)
    program.wait_until(program.is_at_work)
    if phase == "compressing":
        surveyors = program.workers
        program.wait_until(lambda: program.is_at_work(besides=surveyors))
    assert (tmp_path / "data" / "facts").is_dir() == (phase == "compressing")
    program.interrupt(times)
    program.check_stopped()
    assert start(small).process.wait(LIMIT_S) == 0


def test_ctrl_c_while_processes_start_ends_them_too(start, large):
    program = start(large)
    program.wait_until(lambda: len(program.workers) > 0)
    program.interrupt(2)
    program.check_stopped()


def test_a_publish_that_is_killed_leaves_no_process(tmp_path, start, large, small):
    program = start(large)
    program.wait_until(program.is_at_work)
    program.process.kill()
    program.process.wait()
    wait_until(lambda: not program.members)
    assert start(small).process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_reading_of_a_huge_file(tmp_path, start, times):
    """A terabyte of zeros, which takes no disk: reading it takes many minutes."""
    (tmp_path / "site").mkdir()
    with (tmp_path / "site" / "huge.bin").open("wb") as file:
        file.truncate(1 << 40)
    program = start(tmp_path / "site", "--dry-run")
    program.wait_until(lambda: read_bytes_of(program.process.pid) > 256 << 20)
    program.interrupt(times)
    program.check_stopped()


def read_bytes_of(process: int) -> int:
    counts = dict(line.split(": ") for line in read(f"/proc/{process}/io").splitlines())
    return int(counts.get("rchar", 0))
