"""When a request is sent again: later each time, when the server says, and not all clients at once."""

import pytest

from assetserver.remote.retrying import ATTEMPTS, LONGEST_S, PATIENCE_S, delay_s

NOW = 1_790_000_000.0


def test_delays_double_up_to_the_longest():
    delays = [delay_s(attempt, None, 0.5, NOW) for attempt in range(1, ATTEMPTS)]
    assert delays == [0.5, 1, 2, 4, 8, LONGEST_S, LONGEST_S]
    assert 30 < sum(delays) < 60


def test_dice_spread_delays_from_half_to_one_and_a_half():
    assert delay_s(3, None, 0.0, NOW) == 1
    assert delay_s(3, None, 1.0, NOW) == 3


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("9" * 4000, PATIENCE_S),
        ("3600", PATIENCE_S),
        ("Mon, 21 Sep 2026 14:13:30 GMT", 10),
        ("Mon, 21 Sep 2020 13:33:30 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", PATIENCE_S),
    ],
)
def test_retry_after_is_waited_for_within_reason(field, expected):
    assert delay_s(1, field, 0.0, NOW) == expected
    assert delay_s(1, field, 0.25, NOW) == expected + 0.25


@pytest.mark.parametrize("field", ["", "soon", "-1", "1.5", "٣", "Mon, 99 Sep 2026 13:33:30 GMT"])
def test_what_is_no_retry_after_is_ignored(field):
    assert delay_s(2, field, 0.5, NOW) == 1
