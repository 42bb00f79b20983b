"""Counters in a file: workers of no server count into it, and servers read it; real processes that die."""

import os
import signal
import subprocess
import sys

import pytest

from assetserver.metrics import apart
from assetserver.metrics.apart import PLACES, open_board_file, read_board_file
from assetserver.metrics.board import Board, Role, add_up
from assetserver.metrics.exposition import render
from assetserver.metrics.families import SLOTS, family

DONE = family("job_attempts_total").slot("image", "done")
OPEN = family("http_connections").slot()

COUNT = """
import sys
from assetserver.metrics.apart import open_board_file
from assetserver.metrics.board import Role
from assetserver.metrics.families import family
block = open_board_file(sys.argv[1]).claim(Role.JOBS)
block.add(family("job_attempts_total").slot("image", "done"), int(sys.argv[2]))
block.add(family("http_connections").slot(), 1)
print(block.place, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "run" / "worker-counters")


@pytest.fixture
def count(path):
    """``count(n)`` is a process that has counted ``n`` and lives; it is ended with the test."""
    running = []

    def start(number: int) -> subprocess.Popen:
        one = subprocess.Popen(
            [sys.executable, "-c", COUNT, path, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        running.append(one)
        assert one.stdout.readline().strip().isdigit()
        return one

    yield start
    for one in running:
        one.kill()
        one.communicate()


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(60)


def test_what_a_killed_worker_counted_stays_and_its_place_is_taken_over(path, count):
    kill(count(3))
    assert [one.pid for one in read_board_file(path)] == [0] * PLACES
    second, third = count(4), count(5)
    readings = read_board_file(path)
    assert [(one.pid, one.role, one.slots[DONE]) for one in readings[:2]] == [
        (second.pid, Role.JOBS, 7),
        (third.pid, Role.JOBS, 5),
    ]
    total = add_up(readings)
    assert (total[DONE], total[OPEN]) == (12, 2)
    kill(third)
    assert add_up(read_board_file(path))[OPEN] == 1


def test_the_file_has_one_size_and_lies_alone(path, count):
    kill(count(1))
    size = os.stat(path).st_size
    kill(count(1))
    status = os.stat(path)
    assert (status.st_size, status.st_mode & 0o777) == (size, 0o600)
    assert status.st_blocks * 512 >= size, "a page without room on the disk would kill who writes to it"
    assert os.listdir(os.path.dirname(path)) == ["worker-counters"]


@pytest.mark.parametrize("content", [b"", b"\xff" * 4096, b"\0" * 100_000])
def test_what_is_no_board_of_this_version_is_replaced_by_who_counts_and_left_by_who_looks(path, content):
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(content)
    assert read_board_file(path) == []
    with open(path, "rb") as file:
        assert file.read() == content
    board = open_board_file(path)
    assert board.total() == [0] * SLOTS
    os.close(board.descriptor)


def test_who_looks_needs_no_file(path):
    assert read_board_file(path) == []
    assert not os.path.exists(os.path.dirname(path))


def test_a_file_that_is_cut_under_who_looks_is_nothing(path, monkeypatch):
    os.close(open_board_file(path).descriptor)
    monkeypatch.setattr(apart, "places_in", lambda _: PLACES)
    os.truncate(path, 5000)
    assert add_up(read_board_file(path)) == [0] * SLOTS


def test_a_server_tells_of_them_as_of_its_own_under_numbers_behind_these(path, count):
    worker = count(6)
    board = Board()
    board.claim().add(DONE, 1)
    text = render(board, "1", apart=read_board_file(path))
    assert 'assetserver_job_attempts_total{kind="image",result="done"} 7' in text
    assert 'process_start_time_seconds{process="0",role="server"}' in text
    assert 'process_start_time_seconds{process="1",role="jobs"}' in text
    assert text.count('process="') < 20, "places that nobody has are not told"
    kill(worker)
    assert 'role="jobs"' not in render(board, "1", apart=read_board_file(path))
