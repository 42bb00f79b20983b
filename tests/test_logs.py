"""The logs of the real program: to a file that is rotated, as JSON, over a Unix socket, and of one that cannot be written."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 60.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.01)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Origin:
    """A server on a Unix socket, and its logs."""

    def __init__(self, program: Any, path: Path, log: Path, preamble: bytes) -> None:
        self.program, self.path, self.log, self.preamble = program, path, log, preamble

    def ask(self, target: str, fields: str = "") -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            client.connect(str(self.path))
            client.sendall(self.preamble)
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n".encode())
            received = b""
            while piece := client.recv(1 << 16):
                received += piece
        return received


@pytest.fixture
def start(start_program, tmp_path):
    """``start(settings, count)`` runs the server with ``count`` workers, whose log is a file."""

    def run(settings: str = "", workers: int = 1, log: Path | None = None, preamble: bytes = b"") -> Origin:
        folder, path, log = tmp_path / "site", tmp_path / "http.sock", log or tmp_path / "access.log"
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        config = tmp_path / "assetserver.toml"
        config.write_text(
            f'[server]\nuds = "{path}"\nworkers = {workers}\naccess_log = "json"\naccess_log_file = "{log}"\n{settings}\n'
            f'[[mounts]]\nprefix = "/"\ndirectory = "{folder}"\n'
        )
        program = start_program("server", [sys.executable, "-m", "assetserver", "serve", "--config", str(config)])
        program.wait_log("stop with Ctrl")
        origin = Origin(program, path, log, preamble)
        wait_for(lambda: origin.ask("/ready").startswith(b"HTTP/1.1 404 "), "the first answer")
        return origin

    return run


@pytest.mark.parametrize("workers", [1, 3])
def test_a_rotated_log_is_opened_anew_by_every_worker(start, workers):
    origin = start(workers=workers)
    wait_for(lambda: rows(origin.log), "the first row")
    old = origin.log.with_suffix(".1")
    origin.log.rename(old)
    os.kill(origin.program.process.pid, signal.SIGUSR1)

    def is_new() -> bool:
        origin.ask("/new")
        return len({row["request_id"].partition("-")[0] for row in rows(origin.log)}) == workers

    wait_for(is_new, "a row of each worker in the new file")
    for number in range(20):
        assert origin.ask(f"/last{number}").startswith(b"HTTP/1.1 404 ")
    wait_for(lambda: sum(row["path"].startswith("/last") for row in rows(origin.log)) == 20, "all rows in the new file")
    assert not [row for row in rows(old) if row["path"].startswith("/last")]


def test_over_a_unix_socket_who_is_trusted_says_who_asks(start):
    origin = start('trusted_proxies = ["unix"]')
    answer = origin.ask("/a.txt", "X-Forwarded-For: 192.0.2.1\r\nX-Request-ID: id-of-proxy\r\n")
    assert b"x-request-id: id-of-proxy\r\n" in answer
    wait_for(lambda: [row for row in rows(origin.log) if row["path"] == "/a.txt"], "the row")
    [row] = [row for row in rows(origin.log) if row["path"] == "/a.txt"]
    assert (row["client_ip"], row["peer"], row["request_id"]) == ("192.0.2.1", "-", "id-of-proxy")


def test_over_a_unix_socket_that_is_not_trusted_nobody_is_believed(start):
    origin = start()
    answer = origin.ask("/a.txt", "X-Forwarded-For: 192.0.2.1\r\nX-Request-ID: id-of-proxy\r\n")
    assert b"id-of-proxy" not in answer
    wait_for(lambda: [row for row in rows(origin.log) if row["path"] == "/a.txt"], "the row")
    assert "192.0.2.1" not in origin.log.read_text()


def test_a_log_that_cannot_be_written_stops_nobody_and_is_told_of_as_json(start, tmp_path):
    origin = start('log_format = "json"', log=tmp_path / "none" / "access.log")
    for _ in range(40):
        assert origin.ask("/a.txt").startswith(b"HTTP/1.1 200 ")
    origin.program.wait_log(r"(?m)^\{.*\}$")
    told = [json.loads(line) for line in origin.program.read_log().splitlines() if line.startswith("{")]
    assert [(row["level"], row["logger"]) for row in told] == [("warning", "assetserver.observe.writing")]
    assert "no such file or directory" in told[0]["msg"]
    (tmp_path / "none").mkdir()
    os.kill(origin.program.process.pid, signal.SIGUSR1)
    wait_for(lambda: origin.ask("/back") and rows(origin.log), "a row, once there is a place for it")


def test_the_proxy_protocol_without_trusted_proxies_is_refused_at_once(start_program, tmp_path):
    (tmp_path / "assetserver.toml").write_text('[server]\nproxy_protocol = "any"\nport = 0\n')
    command = [sys.executable, "-m", "assetserver", "serve", str(tmp_path), "--config", str(tmp_path / "assetserver.toml")]
    program = start_program("server", command)
    assert program.process.wait(LIMIT_S) == 78
    assert "assetserver.toml:2: server.proxy_protocol wants server.trusted_proxies" in program.read_log()


def test_the_proxy_protocol_is_spoken_by_the_real_program(start):
    origin = start('trusted_proxies = ["unix"]\nproxy_protocol = "v1"', preamble=b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n")
    assert origin.ask("/a.txt").startswith(b"HTTP/1.1 200 ")
    wait_for(lambda: [row for row in rows(origin.log) if row["path"] == "/a.txt"], "the row")
    assert {row["client_ip"] for row in rows(origin.log)} == {"192.0.2.1"}
    origin.preamble = b""
    assert origin.ask("/a.txt") == b""
