"""Sockets that whoever starts us has opened."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from assetserver.errors import SettingsError
from assetserver.supervision.passed import Passed, parse_passed

TAKE = """
import os, socket, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from assetserver.errors import SettingsError
from assetserver.supervision.passed import take_passed
try:
    for name, one in take_passed(os.environ):
        print(name, one.family.name, one.proto == socket.IPPROTO_TCP, one.get_inheritable())
except SettingsError as error:
    print(error)
print([name for name in os.environ if name.startswith("LISTEN")], take_passed(os.environ))
"""


@pytest.mark.parametrize(
    ("environ", "passed"),
    [
        ({}, []),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, []),
        ({"LISTEN_FDS": "1"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "0"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, [Passed(3, "unknown"), Passed(4, "unknown")]),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:admin"}, [Passed(3, "http"), Passed(4, "admin")]),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http"}, [Passed(3, "http"), Passed(4, "unknown")]),
    ],
)
def test_what_is_passed_is_for_the_process_that_is_named(environ, passed):
    assert parse_passed(environ, 7) == passed


@pytest.mark.parametrize(
    ("count", "names", "says"),
    [
        ("many", "", "LISTEN_FDS is 'many'"),
        ("-1", "", "LISTEN_FDS is '-1'"),
        ("²", "", "LISTEN_FDS is '²'"),
        ("65", "", "at most 64"),
        ("1", "a:b", "LISTEN_FDNAMES has 2 names for 1 sockets"),
    ],
)
def test_nonsense_is_told(count, names, says):
    with pytest.raises(SettingsError, match=says):
        parse_passed({"LISTEN_PID": "7", "LISTEN_FDS": count, "LISTEN_FDNAMES": names}, 7)


def take(*passed: int, names: str) -> list[str]:
    """Start a program that takes these descriptors, as from number 3 on."""
    moves = "".join(f"os.dup2({100 + index}, {3 + index});" for index in range(len(passed)))
    for index, one in enumerate(passed):
        os.dup2(one, 100 + index, inheritable=True)
    code = f"import os;{moves}os.closerange({3 + len(passed)}, 200)\n" + TAKE
    env = {**os.environ, "LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": names}
    try:
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, env=env, close_fds=False, capture_output=True, text=True, timeout=60, check=False)
    finally:
        for index in range(len(passed)):
            os.close(100 + index)
    assert result.stderr == ""
    return result.stdout.splitlines()


def test_sockets_keep_their_family_and_protocol_and_are_taken_once(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        lines = take(tcp.fileno(), unix.fileno(), names="http:http-uds")
    assert lines == ["http AF_INET True False", "http-uds AF_UNIX False False", "[] []"]


def test_what_is_no_listening_socket_is_refused(tmp_path):
    with socket.socket() as silent, open(tmp_path / "file", "wb") as file:
        assert "'http' that was passed (descriptor 3) does not listen" in take(silent.fileno(), names="http")[0]
        assert "(descriptor 3) is no socket" in take(file.fileno(), names="http")[0]
