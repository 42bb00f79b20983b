"""Masters of workers that a test describes in a few lines, in a process of their own."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT_S = 60.0

PRELUDE = """
import os, signal, sys, time
from assetserver.supervision import crew, master
from assetserver.supervision.handover import take_handover
from assetserver.supervision.master import Plan, run_master
from assetserver.supervision.words import DRAIN, READY, beat

def say(text):
    os.write(1, (text + "\\n").encode())  # at once: lines of several processes must not mix

def until_master_is_gone(channel):
    while channel.recv(1):
        pass

def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    until_master_is_gone(channel)
"""


def wait_for(condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {limit_s} s"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def master(start_program):
    """``master(code, count, grace_s)`` runs workers that do what ``serve`` in ``code`` says; the log names each of them.

    ``more`` is the rest of its plan.
    """

    def start(code: str = "", count: int = 2, grace_s: float = 5.0, more: str = ""):
        plan = f"Plan(serve=serve, count={count}, grace_s={grace_s}, {more})"
        line = f"\nsys.exit(run_master({plan}, take_handover(os.environ)))"
        return start_program("master", [sys.executable, "-c", PRELUDE + code + line])

    return start


@pytest.fixture
def master_with_jobs(master):
    """As ``master``, with one worker that serves and one that does what ``work`` in ``code`` says."""

    def start(code: str):
        return master(code, count=1, more="jobs=1, work=work")

    return start


def pids(program) -> list[int]:
    return [int(one) for one in re.findall(r"^worker (\d+)$", program.read_log(), re.MULTILINE)]


def wait_pids(program, count: int) -> list[int]:
    program.wait_log(r"(?m)^worker \d+$", times=count)
    return pids(program)
