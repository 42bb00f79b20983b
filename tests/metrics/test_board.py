"""Counters that processes share: real forks, real descriptors."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from assetserver.metrics.board import Board, Role, adopt_board, create_board
from assetserver.metrics.families import FAMILIES, SLOTS, family

UPLOADED = family("upload_bytes_total").slot()
OPEN = family("http_connections").slot()

LOOK = """
import sys
from assetserver.metrics.board import adopt_board
from assetserver.metrics.families import family
board = adopt_board(int(sys.argv[1]), int(sys.argv[2]))
block = board.claim()
block.add(family("upload_bytes_total").slot(), 5)
print(board.places, block.place, board.total()[family("upload_bytes_total").slot()])
"""


@contextmanager
def living(work: Callable[[], object]) -> Iterator[int]:
    """Do ``work`` in a process that lives until the block ends."""
    ready, tell_ready = os.pipe()
    until, end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(end)
            work()
            os.write(tell_ready, b"1")
            os.read(until, 1)
        finally:
            os._exit(0)
    os.close(tell_ready)
    os.close(until)
    try:
        assert os.read(ready, 1) == b"1"
        yield pid
    finally:
        os.close(end)
        os.close(ready)
        os.waitpid(pid, 0)


def count(board: Board, slot: int, number: int) -> Callable[[], None]:
    return lambda: board.claim().add(slot, number)


@pytest.fixture
def board() -> Iterator[Board]:
    made = create_board(2)
    yield made
    os.close(made.descriptor)


def test_replacement_takes_over_the_block_of_who_died_and_counts_on(board):
    for _ in range(5):
        with living(count(board, UPLOADED, 10)):
            assert [reading.place for reading in board.read() if reading.pid] == [0]

    assert board.total()[UPLOADED] == 50


def test_processes_that_live_have_blocks_of_their_own(board):
    with living(count(board, UPLOADED, 1)) as first, living(count(board, UPLOADED, 2)) as second:
        readings = list(board.read())

    assert [(one.pid, one.slots[UPLOADED]) for one in readings] == [(first, 1), (second, 2)]


def test_gauges_of_the_dead_are_nobodys_and_begin_anew(board):
    with living(count(board, OPEN, 7)):
        assert board.total()[OPEN] == 7

    assert board.total()[OPEN] == 0
    with living(count(board, OPEN, 1)):
        assert board.total()[OPEN] == 1


def test_who_finds_no_place_counts_for_itself_and_harms_nobody(board):
    with living(count(board, UPLOADED, 1)), living(count(board, UPLOADED, 2)), living(count(board, UPLOADED, 4)):
        assert board.total()[UPLOADED] == 3


def test_claiming_twice_is_the_same_block(board):
    assert board.claim(Role.MASTER) is board.claim()
    assert next(board.read()).role is Role.MASTER


def test_board_is_handed_over_by_its_number_and_grows(board):
    with living(count(board, UPLOADED, 3)):
        os.set_inheritable(board.descriptor, True)  # noqa: FBT003 - its only argument
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(board.descriptor), "4"],
            pass_fds=[board.descriptor],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

    assert done.stdout.split() == ["4", "1", "8"]
    assert board.total()[UPLOADED] == 8


def test_board_of_another_layout_is_not_taken_for_this_one(board):
    other = os.memfd_create("other")
    os.pwrite(other, b"\xff" * 4096, 0)

    fresh = adopt_board(other, 2)

    assert fresh.total() == [0] * SLOTS
    os.close(fresh.descriptor)


def test_counting_of_many_threads_loses_nothing(board):
    block = board.claim()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [block.add(UPLOADED) for _ in range(2000)], range(8)))

    assert board.total()[UPLOADED] == 16_000


def test_every_metric_has_slots_of_its_own():
    taken = [slot for one in FAMILIES.values() for _, first in one.series() for slot in range(first, first + one.width)]

    assert taken == list(range(SLOTS))


def test_label_that_nobody_knows_is_other():
    requests = family("http_requests_total")

    assert requests.slot("BREW", "299", "teapot") == requests.slot("other", "other", "other")
    with pytest.raises(ValueError, match="not in tuple"):
        family("uploads_total").slot("eaten")
