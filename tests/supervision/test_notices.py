"""What a service tells its manager."""

from __future__ import annotations

import socket

import pytest

from assetserver.supervision.notices import Notifier, format_status, parse_watchdog


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket that takes notices, and the name that leads to it."""
    name = f"@assetserver-{tmp_path.name}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind("\0" + name[1:] if name[0] == "@" else name)
        made.settimeout(60)
        yield made, name


def test_each_notice_is_one_datagram_of_lines(manager):
    made, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("serving, 2 workers")
    notifier.reloading()
    notifier.status("line\nbreaks  are\0 blanks")
    notifier.stopping()
    assert made.recv(1000) == b"READY=1\nSTATUS=serving, 2 workers"
    first, second, third = made.recv(1000).split(b"\n")
    assert (first, third) == (b"RELOADING=1", b"STATUS=reloading")
    assert second.startswith(b"MONOTONIC_USEC=")
    assert made.recv(1000).count(b"\n") == 0
    assert made.recv(1000) == b"STOPPING=1\nSTATUS=stopping"


def test_signs_of_life_are_given_four_times_in_the_time_that_may_pass(manager):
    made, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "8000000", "WATCHDOG_PID": "7"}, pid=7)
    assert notifier.beat_s == 4
    for now_s in (100.0, 101.9, 102.0, 102.1):
        notifier.beat(now_s)
    notifier.status("end")
    assert [made.recv(1000) for _ in range(3)] == [b"WATCHDOG=1", b"WATCHDOG=1", b"STATUS=end"]


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "relative", "@"])
def test_nobody_who_listens_is_no_reason_not_to_serve(name):
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    notifier.ready("serving")
    notifier.beat(1.0)


def test_a_status_is_one_bounded_line():
    assert format_status("a\n b") == "STATUS=a b"
    assert len(format_status("x" * 1000)) == 307


@pytest.mark.parametrize(
    ("environ", "limit_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_the_time_that_may_pass_is_for_the_process_that_is_named(environ, limit_s):
    assert parse_watchdog(environ, 7) == limit_s
