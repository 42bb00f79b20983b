"""Who takes an answer too slowly, by the clock that is passed in and by what a socket's kernel says."""

from __future__ import annotations

import socket

import pytest

from assetserver.delivery.pace import WINDOW_S, Pace

RATE = 100
ENOUGH = int(RATE * WINDOW_S)


class Transport:
    """Stands for a connection whose kernel has ``queued`` bytes that the client has not confirmed."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.ours.settimeout(0)

    def get_extra_info(self, name: str) -> socket.socket:
        return {"socket": self.ours}[name]

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()


@pytest.fixture
def transport():
    made = Transport()
    made.ours.send(b"x")
    yield made
    made.close()


def feed(transport: Transport, *steps: tuple[float, int]) -> list[bool]:
    """Look at these times at so many bytes that are left."""
    pace = Pace()
    return [pace.is_too_slow(now_s, left, transport, RATE) for now_s, left in steps]


def test_who_takes_enough_may_go_on_for_ever(transport):
    steps = [(number * 1.0, 10**9 - number * (RATE + 1)) for number in range(500)]
    assert not any(feed(transport, *steps))


def test_who_takes_too_little_over_a_whole_window_is_too_slow(transport):
    steps = [(number * 1.0, 10**9 - number * (RATE - 1)) for number in range(62)]
    assert feed(transport, *steps) == [False] * 60 + [True, False]


def test_a_client_may_pause_as_long_as_it_makes_up_for_it(transport):
    assert feed(transport, (0, 10**6), (WINDOW_S - 1, 10**6), (WINDOW_S, 10**6 - ENOUGH - 1)) == [False] * 3


def test_each_window_counts_for_itself(transport):
    left = 10**6 - 100 * ENOUGH
    assert feed(transport, (0, 10**6), (WINDOW_S, left), (2 * WINDOW_S, left - 1)) == [False, False, True]


def test_another_answer_begins_another_window(transport):
    assert feed(transport, (0, 1000), (WINDOW_S - 1, 1001), (WINDOW_S, 1001), (2 * WINDOW_S, 1001)) == [False] * 3 + [True]


def test_who_has_all_is_not_slow_however_long_the_next_takes(transport):
    assert feed(transport, (0, 1000), (1, 0), (WINDOW_S + 1, 1000), (WINDOW_S + 2, 999)) == [False] * 4


def test_who_has_confirmed_all_waits_for_us_and_not_we_for_it():
    transport = Transport()
    assert feed(transport, (0, 10**6), (WINDOW_S, 10**6)) == [False, False]
    transport.close()


def test_what_the_kernel_still_has_is_not_taken(transport):
    """The kernel's buffer fills at once, and would make anybody look fast."""
    pace = Pace()
    assert not pace.is_too_slow(0, 10**6, transport, RATE)
    transport.ours.send(bytes(2 * ENOUGH))
    assert pace.is_too_slow(WINDOW_S, 10**6 - 2 * ENOUGH, transport, RATE)


def test_a_connection_that_the_kernel_tells_nothing_of_is_let_be():
    class Unknown:
        def get_extra_info(self, _):
            return None

    assert feed(Unknown(), (0, 10**6), (WINDOW_S, 10**6)) == [False, False]
