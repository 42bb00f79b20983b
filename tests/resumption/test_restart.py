"""A server that is stopped or killed in the middle of a PATCH: the next one goes on, and what arrives is what was sent."""

import os
import signal
import sys

import pytest

from .conftest import UPLOAD_TYPE, TusClient, make_token, wait_staged

MIB = 1 << 20
CONTENT = bytes(range(256)) * 8192


@pytest.fixture
def serve(start_program, free_port, tmp_path):
    """``serve()`` starts a server on the same data folder as before and returns it with a client."""
    data = tmp_path / "data"
    token = make_token(data)

    def start():
        port = free_port()
        command = [sys.executable, "-m", "assetserver", "serve", "--data", data, "--port", port]
        program = start_program("assetserver", command, env=os.environ | {"ASSETSERVER_SERVER__GRACEFUL_SHUTDOWN_S": "1"})
        program.wait_port(port)
        return program, TusClient(f"http://127.0.0.1:{port}", token)

    return start


@pytest.fixture
def interrupted(serve, tmp_path):
    """``interrupted(signal)`` begins an upload of 2 MiB, sends half of it, and ends the server; returns the upload's path."""

    def run(sign):
        program, client = serve()
        path = client.ask("POST", upload_length=len(CONTENT))["location"]
        fields = {"upload_offset": 0, "content_type": UPLOAD_TYPE, "expect": "100-continue"}
        with client.begin("PATCH", path, len(CONTENT), **fields) as connection:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 100 ")
            connection.sendall(CONTENT[:MIB])
            wait_staged(tmp_path / "data", path, MIB)
            os.killpg(program.process.pid, sign)
            program.process.wait(60)
        return path

    return run


def test_what_arrived_before_the_server_was_stopped_is_kept(serve, interrupted):
    path = interrupted(signal.SIGTERM)
    _, client = serve()

    assert client.offset(path) == MIB
    assert client.append(path, MIB, CONTENT[MIB:]).status == 204
    assert client.download(path) == CONTENT


def test_upload_goes_on_after_the_server_was_killed(serve, interrupted):
    path = interrupted(signal.SIGKILL)
    _, client = serve()

    offset = client.offset(path)
    assert offset <= MIB
    assert client.append(path, offset, CONTENT[offset:]).status == 204
    assert client.download(path) == CONTENT
