"""A server that runs out of descriptors: who came waits, nothing spins, nobody is lost, and afterwards all is as before."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from assetserver.descriptors import LARGEST_RESERVE, Descriptors

LIMIT_S = 60.0
FEW = 64
REQUEST = b"GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def test_a_high_number_says_that_few_are_left():
    assert [Descriptors(64).is_high(number) for number in (0, 55, 56, 63)] == [False, False, True, True]
    assert not Descriptors(1 << 20).is_high((1 << 20) - LARGEST_RESERVE - 1)


def run_with_limits(code: str, soft: int, hard: int) -> str:
    limits = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    return subprocess.run([sys.executable, "-c", limits + code], check=True, capture_output=True, text=True).stdout


def test_what_is_taken_makes_them_scarce_and_what_is_closed_plenty():
    code = """
import os
from assetserver.descriptors import Descriptors
one, taken, scarce = Descriptors(), [], 0
try:
    while True:
        taken.append(os.dup(0))
        scarce += one.are_scarce()
except OSError:
    pass
print(scarce, one.are_scarce(), one.are_plenty())
for descriptor in taken:
    os.close(descriptor)
print(one.are_scarce(), one.are_plenty(), len(os.listdir("/proc/self/fd")))
"""
    assert run_with_limits(code, FEW, FEW).split() == [str(FEW // 8 + 1), "True", "False", "False", "True", "4"]


@pytest.mark.parametrize(("soft", "hard", "expected"), [(256, 280, 280), (280, 280, 280), (256, 400, 300), (310, 400, 310)])
def test_the_limit_is_raised_as_far_as_it_may_be(soft, hard, expected):
    code = """
from assetserver import descriptors
descriptors.WANTED = 300
descriptors.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert run_with_limits(code, soft, hard).strip() == str((expected, hard))


@pytest.fixture
def server(start_program, tmp_path):
    """``server(*arguments)`` starts one that may have few descriptors; returns the program and its port."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "file.txt").write_text("hello world")
    (site / "big.bin").write_bytes(bytes(8 << 20))

    def start(*arguments: object):
        limited = ["sh", "-c", f'ulimit -n {FEW}; exec "$@"', "sh", sys.executable, "-m", "assetserver", "serve", site]
        program = start_program("assetserver", [*limited, "--port", 0, "--access-log", "off", *arguments], cwd=tmp_path)
        return program, int(program.wait_log(r"http://127\.0\.0\.1:(\d+)")[1])

    return start


def connect(port: int, receive_bytes: int = 0) -> socket.socket:
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(LIMIT_S)
    made.connect(("127.0.0.1", port))
    return made


def read_answer(made: socket.socket) -> bytes:
    received = b""
    while not received.endswith(b"hello world"):
        piece = made.recv(1 << 16)
        if not piece:
            break
        received += piece
    return received


def is_answered(made: socket.socket, within_s: float = 0.0) -> bool:
    """Tell whether something came, if only the end."""
    made.settimeout(within_s)
    try:
        made.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, TimeoutError):
        return False
    except ConnectionResetError:
        return True
    finally:
        made.settimeout(LIMIT_S)
    return True


def read_status(made: socket.socket) -> bytes:
    """Return the three digits of an answer's status, or nothing if the connection ended without one."""
    with suppress(ConnectionResetError):
        return made.recv(12)[9:]
    return b""


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.02)


def test_more_connections_than_descriptors_wait_for_their_turn(server):
    """A few times as many as there are descriptors, all at once: each is answered in the end, none is reset."""
    program, port = server()
    with ExitStack() as stack:
        made = [stack.enter_context(connect(port)) for _ in range(4 * FEW)]
        for one in made:
            one.sendall(REQUEST)
        assert is_answered(made[0], LIMIT_S)
        time.sleep(0.3)
        waiting = [one for one in made if not is_answered(one)]
        assert len(waiting) > 2 * FEW
        before_s, begun_s = processor_s(program.process.pid), time.monotonic()
        time.sleep(1.0)
        assert processor_s(program.process.pid) - before_s < 0.3 * (time.monotonic() - begun_s), "it does not spin"
        for one in made:  # as each leaves, another one comes in
            assert read_answer(one).endswith(b"hello world")
            one.close()
    assert len(program.read_log().splitlines()) < 10
    assert re.search(rf"nearly all of the {FEW} descriptors that are allowed are in use: new connec", program.read_log())
    for _ in range(5):
        with connect(port) as one:
            one.sendall(REQUEST)
            assert read_answer(one).endswith(b"hello world")


def test_idle_connections_give_way_to_those_who_wait(server):
    """Nobody leaves of himself: half-open and idle connections take all descriptors."""
    program, port = server()
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(FEW + 10)]
        for one in idle[::2]:
            one.sendall(REQUEST)
        late = stack.enter_context(connect(port))
        late.sendall(REQUEST)
        assert read_answer(late).endswith(b"hello world")
    assert "Traceback" not in program.read_log()


def test_those_who_are_connected_get_their_files(server):
    _, port = server()
    with ExitStack() as stack:
        inside = stack.enter_context(connect(port))
        inside.sendall(REQUEST)
        assert read_answer(inside).endswith(b"hello world")
        for _ in range(2 * FEW):
            stack.enter_context(connect(port))
        for number in range(20):
            inside.sendall(REQUEST.replace(b"file.txt", b"file.txt?%d" % number))
            assert read_answer(inside).endswith(b"hello world")
        inside.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = 0
        while piece := inside.recv(1 << 20):
            received += len(piece)
        assert received > 8 << 20


def test_many_downloads_that_take_the_last_descriptors_do_not_end_the_server(server):
    program, port = server()
    with ExitStack() as stack:
        made = []
        for _ in range(40):  # who does not ask at once is closed, unanswered, where descriptors are scarce
            made.append(stack.enter_context(connect(port, 4096)))
            made[-1].sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        statuses: list[bytes] = []

        def are_some_served() -> bool:
            answered = [one for one in made if is_answered(one)]
            statuses.extend(map(read_status, answered))
            made[:] = [one for one in made if one not in answered]
            return statuses.count(b"200") >= 5

        wait_for(are_some_served, "the begin of five downloads")
        assert set(statuses) <= {b"200", b"503", b""}

    def is_well() -> bool:  # until the server has seen that they are gone, descriptors are scarce, as above
        with suppress(ConnectionError), connect(port) as late:
            late.sendall(REQUEST)
            return late.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        return False

    wait_for(is_well, "an answer once they are gone")
    assert "Traceback" not in program.read_log()
    assert len(program.read_log().splitlines()) < 30


def test_a_worker_without_descriptors_leaves_its_connections_to_the_others(server):
    program, port = server("--workers", 3)
    with ExitStack() as stack:
        made = [stack.enter_context(connect(port)) for _ in range(3 * FEW)]
        for one in made:
            one.sendall(REQUEST)
        wait_for(lambda: sum(map(is_answered, made)) > FEW, "answers of more connections than one worker has descriptors")
        for one in made:
            assert read_answer(one).endswith(b"hello world")
            one.close()
    program.process.terminate()
    assert program.process.wait(LIMIT_S) == 0
