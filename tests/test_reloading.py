"""A server that reads its settings anew while it is asked: nothing is lost, and what is wrong changes nothing."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

LIMIT_S = 60.0
CONFIG = """
[server]
port = 0
workers = 2
access_log = "off"
[data]
path = "data"
[[mounts]]
prefix = "/"
directory = "site"
[uploads]
enabled = false
"""
REQUEST = b"GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file.txt").write_text("hello world")
    (tmp_path / "site" / "big.bin").write_bytes(bytes(20 << 20))
    path = tmp_path / "assetserver.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def server(start_program, config):
    program = start_program("assetserver", [sys.executable, "-m", "assetserver", "serve"], cwd=config.parent)
    return program, int(program.wait_log(r"on http://127\.0\.0\.1:(\d+)")[1])


def reload(config: Path, *arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "assetserver", "reload", *map(str, arguments)]
    result = subprocess.run(command, cwd=config.parent, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return result.returncode, result.stdout + result.stderr


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), LIMIT_S)


def receive(made: socket.socket) -> bytes:
    """Return one answer of known length."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = made.recv(1 << 16)
        if not piece:
            return received
        received += piece
    length = int(re.search(rb"content-length: (\d+)", received)[1])
    while len(received.partition(b"\r\n\r\n")[2]) < length:
        received += made.recv(1 << 16)
    return received


def ask(made: socket.socket) -> bytes:
    made.sendall(REQUEST)
    return receive(made)


def test_who_says_that_it_serves_can_be_told_to_reload(server, config):
    assert list((config.parent / "data" / "run").glob("*")), "it has not said yet where"


def test_new_settings_count_and_the_process_and_its_address_stay(server, config):
    program, port = server
    (config.parent / "other").mkdir()
    (config.parent / "other" / "file.txt").write_text("another folder")
    config.write_text(CONFIG.replace('"site"', '"other"').replace("workers = 2", "workers = 3"))
    assert reload(config) == (0, "reloaded: 3 workers serve\n")
    with connect(port) as made:
        assert ask(made).endswith(b"another folder")
    assert program.process.poll() is None


def test_an_address_moves_when_the_new_workers_are_ready(server, config, free_port):
    program, port = server
    moved = free_port()
    for _ in range(2):  # and back
        config.write_text(CONFIG.replace("port = 0", f"port = {moved}"))
        assert reload(config) == (0, "reloaded: 2 workers serve\n")
        with connect(moved) as made:
            assert ask(made).endswith(b"hello world")
        deadline_s = time.monotonic() + LIMIT_S
        while is_open(port):  # until the last of the old workers has heard of it
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        port, moved = moved, free_port()
    assert program.process.poll() is None


def is_open(port: int) -> bool:
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (("port = 0", "prot = 0"), 78, 'assetserver.toml:3: unknown key "prot" in [server]; did you mean "port"?'),
        (('"site"', '"gone"'), 1, "not reloaded, what ran before goes on: assetserver.toml:10: there is no folder"),
        (("port = 0", 'port = 0\nhost = "192.0.2.1"'), 1, "goes on: cannot listen on 192.0.2.1:0: cannot assign"),
    ],
)
def test_settings_that_cannot_work_are_told_and_what_ran_goes_on(server, config, change, code, told):
    program, port = server
    config.write_text(CONFIG.replace(*change))
    ended, said = reload(config)
    assert (ended, told in said) == (code, True), said
    with connect(port) as made:
        assert ask(made).endswith(b"hello world")
    config.write_text(CONFIG)
    assert reload(config) == (0, "reloaded: 2 workers serve\n")
    assert "Traceback" not in program.read_log()


def test_a_signal_with_bad_settings_is_told_in_the_log(server, config):
    program, port = server
    config.write_text("nonsense")
    program.process.send_signal(signal.SIGHUP)
    program.wait_log(r"error: not reloaded, what ran before goes on: assetserver.toml:1: not TOML")
    with connect(port) as made:
        assert ask(made).endswith(b"hello world")


def test_connections_of_old_workers_are_answered_and_each_answer_says_that_it_is_the_last(server, config):
    """Also those that were accepted and have asked for nothing yet, and those whose answers the hot path knows."""
    _, port = server
    warm = [connect(port) for _ in range(6)]
    for made in warm:
        for _ in range(3):
            assert ask(made).endswith(b"hello world")
    silent = [connect(port) for _ in range(10)]
    assert reload(config)[0] == 0
    for made in silent + warm:
        answers = [ask(made)]
        while b"connection: close" not in answers[-1]:  # until its worker has heard of it
            answers.append(ask(made))
        assert all(one.startswith(b"HTTP/1.1 200") and one.endswith(b"hello world") for one in answers)
        assert made.recv(1) == b""
        made.close()


def test_a_download_of_an_old_worker_is_finished(server, config):
    _, port = server
    with connect(port) as made:
        made.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        received = made.recv(1000)
        assert reload(config)[0] == 0
        while len(received.partition(b"\r\n\r\n")[2]) < 20 << 20:
            piece = made.recv(1 << 20)
            assert piece
            received += piece


def test_nothing_is_lost_while_all_workers_are_replaced_again_and_again(server, config):
    program, port = server
    is_over = threading.Event()
    answered = [0] * 8
    lost: list[str] = []

    def use(index: int) -> None:
        """Ask again and again: over a connection for as long as it lasts, every second client over new ones."""
        while not is_over.is_set():
            with connect(port) as made:
                received = b""
                while not (is_over.is_set() or b"connection: close" in received):
                    received = ask(made)
                    if not received.endswith(b"hello world"):
                        lost.append(repr(received))
                        return
                    answered[index] += 1
                    if index % 2:
                        break
                    is_over.wait(0.01)

    threads = [threading.Thread(target=use, args=(index,)) for index in range(len(answered))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert reload(config) == (0, "reloaded: 2 workers serve\n")
    finally:
        is_over.set()
        for thread in threads:
            thread.join(LIMIT_S)
    assert lost == []
    assert min(answered) > 0
    assert program.process.poll() is None


def test_one_that_cannot_be_found_is_told(config, tmp_path):
    code, said = reload(config)
    assert code == 1
    assert "no server is to be reached in" in said
    code, said = reload(config, "--pid", 1)
    assert (code, "no server of process 1 is to be reached" in said) == (1, True)


def test_a_server_of_one_process_says_that_it_does_not_reload(start_program, config):
    command = [sys.executable, "-m", "assetserver", "serve", "site", "--port", "0"]
    program = start_program(
        "assetserver", command, cwd=config.parent, env={"PATH": "/usr/bin", "ASSETSERVER_SERVER__WORKERS": "1"}
    )
    port = int(program.wait_log(r"on http://127\.0\.0\.1:(\d+)")[1])
    with connect(port) as made:
        ask(made)
    program.process.send_signal(signal.SIGHUP)
    program.wait_log("not reloaded: a single process")
    with connect(port) as made:
        assert ask(made).endswith(b"hello world")
