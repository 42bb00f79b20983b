"""What was answered with success is there after ``kill -9``; what was not is whole or not there at all."""

import os
import random
import signal
import sys
import threading
from hashlib import sha256

ROUNDS = 4
SENDERS = 3


def start_server(start_program, data, *arguments):
    command = [sys.executable, "-m", "assetserver", "serve", "--data", data, "--port", 0, *arguments]
    program = start_program("assetserver", command, cwd=data)
    return program, program.wait_log(r"http://127\.0\.0\.1:([1-9]\d*)")[0]


def send_until_it_dies(client, done, seed):
    """Upload files of every size, and note in ``done`` what was acknowledged."""
    picked = random.Random(seed)  # noqa: S311 - sizes and bytes of a test
    while True:
        content = picked.randbytes(picked.choice((0, 1, 5000, 300_000)))
        try:
            reply = client.send("POST", "/uploads?name=file.bin", content)
        except OSError:
            return
        except Exception as error:  # noqa: BLE001 - http.client has many words for a cut answer
            assert "http.client" in type(error).__module__, error  # noqa: PT017
            return
        assert reply.status == 201, reply.content
        done.append((reply.json["uploads"][0]["id"], sha256(content).hexdigest()))


def test_what_was_acknowledged_survives_kill_9(start_program, create_token, make_client, tmp_path):
    token = create_token(tmp_path, "--scope", "upload")
    done = []
    for round_number in range(ROUNDS):
        program, url = start_server(start_program, tmp_path)
        client = make_client(url, token, tmp_path)
        senders = [
            threading.Thread(target=send_until_it_dies, args=(client, done, round_number * SENDERS + number))
            for number in range(SENDERS)
        ]
        before = len(done)
        for sender in senders:
            sender.start()
        while len(done) < before + 20:
            assert any(sender.is_alive() for sender in senders), program.show_tail()
            senders[0].join(0.01)
        os.killpg(program.process.pid, signal.SIGKILL)
        for sender in senders:
            sender.join()

    program, url = start_server(start_program, tmp_path)
    client = make_client(url, token, tmp_path)
    for upload_id, digest in done:
        upload = client.send("GET", f"/uploads/{upload_id}").json
        assert (upload["state"], upload["sha256"]) == ("complete", digest)
        assert sha256(client.send("GET", upload["url"]).content).hexdigest() == digest
    assert len(done) >= ROUNDS * 20
    for upload in client.send("GET", "/uploads?limit=1000").json["uploads"]:
        assert upload["state"] == "complete"
        assert sha256(client.send("GET", upload["url"]).content).hexdigest() == upload["sha256"]


def test_upload_that_runs_when_the_server_is_stopped_is_finished(start_program, create_token, make_client, tmp_path):
    token = create_token(tmp_path, "--scope", "upload")
    program, url = start_server(start_program, tmp_path)
    client = make_client(url, token, tmp_path)
    with client.connect() as connection:
        connection.sendall(client.head("POST /uploads?name=a.txt", "Content-Length: 10", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        os.killpg(program.process.pid, signal.SIGTERM)
        connection.sendall(b"hello")
        reply = client.read(connection)

    assert (reply.status, reply.json["uploads"][0]["size"]) == (201, 10)
    assert program.process.wait(30) == 0
    assert list((tmp_path / "media" / "staging").iterdir()) == []


def test_upload_that_does_not_end_when_the_server_is_stopped_leaves_nothing(start_program, create_token, make_client, tmp_path):
    token = create_token(tmp_path, "--scope", "upload")
    (tmp_path / "stop.toml").write_text("[server]\ngraceful_shutdown_s = 1\n")
    program, url = start_server(start_program, tmp_path, "--config", tmp_path / "stop.toml")
    client = make_client(url, token, tmp_path)
    form = b'--X\r\nContent-Disposition: form-data; name="f"; filename="%b"\r\n\r\nhello\r\n'
    with client.connect() as connection:
        lines = ("Content-Length: 1000", "Content-Type: multipart/form-data; boundary=X", "Expect: 100-continue")
        connection.sendall(client.head("POST /uploads", *lines))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(form % b"whole.txt" + form % b"cut.txt")
        os.killpg(program.process.pid, signal.SIGTERM)
        assert program.process.wait(30) == 0

    program, url = start_server(start_program, tmp_path)
    assert make_client(url, token).send("GET", "/uploads").json["uploads"] == []
    assert list((tmp_path / "media" / "staging").iterdir()) == []


def test_every_worker_shows_the_newest(open_client):
    client = open_client("--workers", 2)
    for number in range(10):
        reply = client.send("PUT", "/uploads/by-name/a.txt", b"%d" % number)
        assert reply.status == (200 if number else 201)
        for _ in range(4):
            assert client.send("GET", "/media/by-name/a.txt").content == b"%d" % number
            assert client.send("GET", "/uploads/by-name/a.txt").json == reply.json["uploads"][0]
