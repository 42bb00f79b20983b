"""What requests leave behind: nothing that only a search for cycles would free, which costs and holds up everybody."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from contextlib import closing
from urllib.parse import urlsplit

import pytest

SERVE = """
import gc, signal, sys
from assetserver.cli import main
def tell(*_):
    print("cycles of", gc.collect(), "objects", file=sys.stderr, flush=True)
signal.signal(signal.SIGUSR2, tell)
main()
"""
LIMIT_S = 30.0
COUNT = 60
FEW = 20
"""Less than one for each request: what is done once in a while may leave some."""


@pytest.fixture(scope="module")
def served(start_shared_program, create_token, tmp_path_factory):
    """A connection to a server with the fields to send, and what counts objects kept by nothing but each other."""
    folder = tmp_path_factory.mktemp("cycles")
    token = create_token(folder, "--scope", "upload")
    command = [sys.executable, "-c", SERVE, "serve", "--data", folder, "--port", "0"]
    program = start_shared_program("server", command, env={**os.environ, "ASSETSERVER_JOBS__WORKERS": "0"})
    url = program.wait_log(r"(?m)^on (http://127\.0\.0\.1:([1-9]\d*))")[1]

    def count():
        told = program.read_log().count("cycles of")
        os.kill(program.process.pid, signal.SIGUSR2)
        return int(program.wait_log(r"cycles of (\d+) objects", times=told + 1)[1])

    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)) as connection:
        yield (connection, {"Authorization": f"Bearer {token}"}), count


ASKED = {
    "small": (201, "POST", "/uploads?name={}.txt", b"small"),
    "large": (201, "POST", "/uploads?name={}.txt", bytes(200_000)),
    "refused": (400, "GET", "/uploads?limit=no{}", None),
    "missing": (404, "GET", "/uploads/missing{}", None),
    "listed": (200, "GET", "/uploads?limit={}", None),
    "file": (200, "GET", "/media/by-name/file.txt?{}", None),
    "nowhere": (404, "GET", "/missing{}.txt", None),
}


def send(connection, method, target, body, fields):
    connection.request(method, target, body, fields)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("name", ASKED)
def test_requests_leave_no_cycles(served, name):
    (connection, fields), count = served
    if name == "file":
        send(connection, "PUT", "/uploads/by-name/file.txt", b"a file", fields)
    status, method, target, body = ASKED[name]
    for number in range(1, COUNT + 5):
        if number == 5:
            count()
        assert send(connection, method, target.format(number), body, fields) == status
    assert count() <= FEW
