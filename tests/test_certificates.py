"""TLS without a proxy: the hot path and large files over it, certificates that are replaced, HTTP/2."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from assetserver.certificates import Certificates
from assetserver.cli import main

LIMIT_S = 60
LARGE = b"".join(number.to_bytes(4, "big") for number in range(1 << 18))


@pytest.fixture(scope="module")
def make_pair(tmp_path_factory):
    """``make_pair(name)`` makes a certificate for 127.0.0.1 and its key; returns their paths."""
    folder = tmp_path_factory.mktemp("pairs")

    def make(name, *more):
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate, "-keyout", key]
        subprocess.run([*command, *(more or ["-nodes"])], check=True, capture_output=True, timeout=60)
        return certificate, key

    return make


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "large.bin").write_bytes(LARGE)
    (folder / "small.txt").write_text("hello over TLS")
    return folder


@pytest.fixture
def pair(make_pair, tmp_path):
    """A pair of files that can be replaced."""
    for source, name in zip(make_pair("first"), ("cert.pem", "key.pem"), strict=True):
        (tmp_path / name).write_bytes(source.read_bytes())
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def serve(start_program, free_port, site, pair, tmp_path):
    """``serve(**variables)`` serves the site with the pair; returns its port and the program."""

    def start(directory=site, **more):
        port = free_port()
        tls = {"ASSETSERVER_SERVER__TLS_CERTIFICATE": str(pair[0]), "ASSETSERVER_SERVER__TLS_KEY": str(pair[1])}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
        environment = {**kept, **tls, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path), **more}
        command = [sys.executable, "-m", "assetserver", "serve", *([directory] if directory else []), "--port", port]
        program = start_program("assetserver", command, env=environment, cwd=tmp_path)
        program.wait_port(port)
        return port, program

    return start


def connect(port, **options):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in options.items():
        setattr(context, name, value)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S), server_hostname="127.0.0.1")


def ask(connection, path, *fields):
    """Return head and body of an answer, on a connection that stays open."""
    head = "".join(f"{field}\r\n" for field in fields)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")).split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def name_of(port):
    """Return the common name that the server shows."""
    with connect(port) as connection:
        found = ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))
    shown = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=found, text=True, capture_output=True, check=True)
    return shown.stdout.strip().rpartition("= ")[2].rpartition("=")[2].strip()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_small_and_large_files_are_the_same_over_tls(serve, workers):
    port, program = serve(ASSETSERVER_SERVER__WORKERS=workers)
    with connect(port) as connection:
        assert connection.version() == "TLSv1.3"
        for _ in range(3):  # the second and third are hot
            assert ask(connection, "/small.txt")[1] == b"hello over TLS"
            assert hashlib.sha256(ask(connection, "/large.bin")[1]).digest() == hashlib.sha256(LARGE).digest()
            assert ask(connection, "/large.bin", "Range: bytes=70000-70009")[1] == LARGE[70_000:70_010]
        assert b"assetserver; hit" in ask(connection, "/small.txt")[0]
    assert "Traceback" not in program.read_log()


def test_old_versions_and_plain_text_are_refused(serve):
    port, program = serve()
    with pytest.raises(ssl.SSLError), pytest.warns(DeprecationWarning, match="TLSv1_1"):
        connect(port, maximum_version=ssl.TLSVersion.TLSv1_1, minimum_version=ssl.TLSVersion.TLSv1_1)
    with connect(port, maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.cipher()[0].startswith("ECDHE-")
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP/" not in plain.recv(100)
    assert name_of(port) == "first"
    assert "Traceback" not in program.read_log()


def test_a_new_certificate_is_for_new_connections(serve, pair, make_pair, poll):
    port, program = serve(ASSETSERVER_SERVER__WORKERS="2")
    with connect(port) as before:
        assert ask(before, "/small.txt")[1] == b"hello over TLS"
        certificate, key = make_pair("second")
        pair[0].write_bytes(certificate.read_bytes())  # with the old key: no pair
        program.wait_log("the one before stays in use: .*do not belong together", times=2)
        assert name_of(port) == "first"
        pair[1].write_bytes(key.read_bytes())
        program.wait_log("a new certificate is in use", times=2)
        poll(lambda: {name_of(port) for _ in range(6)}, lambda names: names == {"second"})
        assert ask(before, "/small.txt")[1] == b"hello over TLS"
    pair[0].unlink()
    assert name_of(port) == "second"
    assert "Traceback" not in program.read_log()


def test_refresh_tells_whether_there_is_another_one(pair, make_pair):
    found = Certificates(str(pair[0]), str(pair[1]), ["http/1.1"])
    assert not found.refresh()
    for source, target in zip(make_pair("third"), pair, strict=True):
        target.write_bytes(source.read_bytes())
    assert found.refresh()
    assert not found.refresh()


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_http_2_is_spoken_if_it_is_wanted(serve, require, scheme, tmp_path, site):
    curl = require("curl")
    off = {} if scheme == "https" else {"ASSETSERVER_SERVER__TLS_CERTIFICATE": "", "ASSETSERVER_SERVER__TLS_KEY": ""}
    port, program = serve(ASSETSERVER_SERVER__HTTP2="true", **off)
    ways = {"2": "--http2" if scheme == "https" else "--http2-prior-knowledge", "1.1": "--http1.1"}
    for spoken, option in ways.items():
        for path, content in {"large.bin": LARGE, "small.txt": b"hello over TLS"}.items():
            command = [
                curl,
                "-sk",
                option,
                "-w",
                "%{http_version}",
                "-o",
                tmp_path / "got",
                f"{scheme}://127.0.0.1:{port}/{path}",
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            assert (done.stdout, (tmp_path / "got").read_bytes()) == (spoken, content)
    assert "Traceback" not in program.read_log()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def test_http_2_outlives_streams_that_are_reset_and_what_is_no_frame(serve, require, tmp_path):
    off = {"ASSETSERVER_SERVER__TLS_CERTIFICATE": "", "ASSETSERVER_SERVER__TLS_KEY": ""}
    port, program = serve(ASSETSERVER_SERVER__HTTP2="true", **off)
    asked = bytes([0x82, 0x84, 0x86, 0x41, 0x01]) + b"a"  # GET / http a, in HPACK
    resets = b"".join(frame(1, 5, one, asked) + frame(3, 0, one, (8).to_bytes(4, "big")) for one in range(1, 2001, 2))
    chance = random.Random(9113)  # noqa: S311 - the same frames in every run
    wild = [frame(chance.randrange(10), chance.randrange(256), chance.randrange(5), chance.randbytes(30)) for _ in range(200)]
    bad = [b"".join(wild[at : at + 5]) for at in range(0, 200, 5)]
    for data in (resets, *bad, b"\0" * 300):
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(PREFACE + frame(4, 0, 0) + data)
            connection.recv(1000)
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as half:
        half.sendall(PREFACE[:10])
        command = [require("curl"), "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{port}/small.txt"]
        assert subprocess.run(command, capture_output=True, timeout=60, check=True).stdout == b"hello over TLS"
    assert "Traceback" not in program.read_log()


def test_http_2_ends_who_asks_for_nothing_whatever_it_sends(serve):
    """Over TLS nothing at all; pings; a header that never ends."""
    port, _ = serve(ASSETSERVER_SERVER__HTTP2="true", ASSETSERVER_SERVER__KEEP_ALIVE_S="1")
    begin = PREFACE + frame(4, 0, 0)
    for first, again in ((b"", b""), (begin, frame(6, 0, 0, b"pingpong")), (begin + b"\0\1\0\1\5\0\0\0\1", b"\0")):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)) as connection:
            connection.settimeout(0.2)
            assert connection.selected_alpn_protocol() == "h2"
            connection.sendall(first)
            deadline_s, is_open = time.monotonic() + LIMIT_S, True
            while is_open and time.monotonic() < deadline_s:
                try:
                    connection.sendall(again)
                    is_open = connection.recv(1000) != b""
                    time.sleep(0.1)
                except TimeoutError:
                    continue
                except OSError:
                    is_open = False
            assert not is_open, f"{first!r} and {again!r} keep a connection open"


def test_http_2_takes_uploads(serve, require, tmp_path):
    curl = require("curl")
    made = CliRunner().invoke(main, ["token", "create", "--scope", "upload", "--data", str(tmp_path / "data")])
    mounts = {"ASSETSERVER_MOUNTS": "[]", "ASSETSERVER_DATA": str(tmp_path / "data")}
    port, program = serve(None, ASSETSERVER_SERVER__HTTP2="true", **mounts)
    (tmp_path / "large.bin").write_bytes(LARGE)
    command = [curl, "-sk", "--http2", "-H", f"Authorization: Bearer {made.stdout.split()[-1]}", "-w", "%{http_version}"]
    command += ["-F", f"file=@{tmp_path}/large.bin", f"https://127.0.0.1:{port}/uploads"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout[-1], hashlib.sha256(LARGE).hexdigest() in done.stdout) == ("2", True)
    assert "Traceback" not in program.read_log()


def test_hypercorn_speaks_http_2_with_the_same_application(start_program, free_port, require, pair, site, tmp_path):
    curl, port = require("curl"), free_port()
    mounts = json.dumps([{"prefix": "/", "directory": str(site)}])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    command = [sys.executable, "-m", "hypercorn", "assetserver.app:app", "--bind", f"127.0.0.1:{port}"]
    command += ["--certfile", pair[0], "--keyfile", pair[1]]
    program = start_program("hypercorn", command, env={**kept, "ASSETSERVER_MOUNTS": mounts}, cwd=tmp_path)
    program.wait_port(port)
    for path, content in {"large.bin": LARGE, "small.txt": b"hello over TLS"}.items():
        command = [curl, "-sk", "--http2", "-w", "%{http_version}", "-o", tmp_path / "got", f"https://127.0.0.1:{port}/{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert (done.stdout, (tmp_path / "got").read_bytes()) == ("2", content)
    assert "Traceback" not in program.read_log()


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("gone.pem", "", "gone.pem cannot be read (No such file or directory); name PEM files with"),
        ("first.pem", "other.key", "do not belong together; name the key that the certificate was made for with tls_key"),
        ("first.pem", "locked.key", "is encrypted; store it without a password, readable by this user alone"),
        ("nothing.pem", "first.key", "hold no certificate and key in PEM"),
        ("", "first.key", "server.tls_key is set, and server.tls_certificate is not; set both, or neither"),
    ],
)
def test_a_pair_that_cannot_be_used_is_told_by_check(make_pair, monkeypatch, certificate, key, message):
    folder = make_pair("first")[0].parent
    make_pair("other")
    make_pair("locked", "-passout", "pass:secret")
    (folder / "locked.pem").replace(folder / "of-locked.pem")
    (folder / "nothing.pem").write_text("nothing")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ASSETSERVER_SERVER__TLS_CERTIFICATE", "of-locked.pem" if "locked" in key else certificate)
    monkeypatch.setenv("ASSETSERVER_SERVER__TLS_KEY", key)
    monkeypatch.setenv("ASSETSERVER_MOUNTS", '[{"prefix": "/", "directory": "."}]')
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 78
    assert message in result.stderr


def look(settings, *words):
    """Return what ``top --once`` says with these settings, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "assetserver", "top", "--once", "--config", settings, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_admin_listener_that_others_reach_speaks_tls_as_well(serve, free_port, pair, tmp_path, make_pair, workers):
    admin = free_port()
    _, program = serve(ASSETSERVER_ADMIN__LISTEN=f"0.0.0.0:{admin}", ASSETSERVER_SERVER__WORKERS=workers)
    program.wait_log(f"admin on https://0.0.0.0:{admin}")
    assert name_of(admin) == "first"
    with connect(admin) as connection:
        assert b"assetserver_http_connections" in ask(connection, "/-/metrics")[1]
    with socket.create_connection(("127.0.0.1", admin), timeout=LIMIT_S) as plain:
        plain.sendall(b"GET /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP" not in plain.recv(65536)
    settings = tmp_path / "top.toml"
    text = '[admin]\nlisten = "0.0.0.0:{}"\n[server]\ntls_certificate = "{}"\ntls_key = "{}"\n'
    settings.write_text(text.format(admin, *pair))
    said, code = look(settings)
    assert (f"https://127.0.0.1:{admin}" in said, code) == (True, 0), said
    settings.write_text(text.format(admin, *make_pair("another")))
    said, code = look(settings)
    assert code == 1
    assert "certificate verify failed" in said
    for source, target in zip(make_pair("second"), pair, strict=True):
        target.write_bytes(source.read_bytes())
    program.wait_log("a new certificate is in use", times=int(workers))
    assert name_of(admin) == "second"


def test_an_admin_listener_of_this_machine_alone_stays_plain(serve, free_port, pair, tmp_path):
    admin = free_port()
    _, program = serve(ASSETSERVER_ADMIN__LISTEN=f"127.0.0.1:{admin}")
    program.wait_log(f"admin on http://127.0.0.1:{admin}")
    settings = tmp_path / "top.toml"
    settings.write_text(
        f'[admin]\nlisten = "127.0.0.1:{admin}"\n[server]\ntls_certificate = "{pair[0]}"\ntls_key = "{pair[1]}"\n'
    )
    said, code = look(settings)
    assert (f"http://127.0.0.1:{admin}" in said, code) == (True, 0), said
