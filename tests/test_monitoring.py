"""Health, readiness, metrics and the admin listener of real servers: who may see what, and that the numbers are right."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from assetserver.data import open_records
from assetserver.readiness import checks_of
from assetserver.semantics.dictionaries import format_available_dictionary
from assetserver.settings import load_settings

from .commands import run_command, try_command

LIMIT_S = 60.0
CSS = b"body { margin: 0 }\n" * 200


def read_metrics(content: bytes) -> dict[str, dict[str, float]]:
    """Return values by name and labels, which are written as ``GET 200 site``."""
    found: dict[str, dict[str, float]] = {}
    for one in text_string_to_metric_families(content.decode()):
        for sample in one.samples:
            found.setdefault(sample.name, {})[" ".join(sample.labels.values())] = sample.value
    return found


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "dist"
    made.mkdir()
    (made / "index.html").write_text("<h1>Here</h1>\n")
    (made / "site.css").write_bytes(CSS)
    return made


@pytest.fixture
def wait_for(fetch) -> Callable[..., dict[str, dict[str, float]]]:
    """``wait_for(url, condition)`` returns the metrics at ``url`` once ``condition`` holds for them."""

    def wait(url: str, condition: Callable[[dict[str, dict[str, float]]], object]) -> dict[str, dict[str, float]]:
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            answer = fetch(url + "/-/metrics")
            assert answer.status == 200
            found = read_metrics(answer.content)
            if condition(found):
                return found
            assert time.monotonic() < deadline_s, found
            time.sleep(0.05)

    return wait


def admin_of(port: int) -> str:
    return f'[admin]\nlisten = "127.0.0.1:{port}"\n'


def test_every_request_is_counted_once_whoever_answers_it(origin, folder, free_port, fetch, wait_for):
    admin = free_port()
    site = origin(folder, "--workers", 2, config=admin_of(admin))
    for _ in range(30):
        assert fetch(site + "/site.css", accept_encoding="br").status == 200
    for _ in range(7):
        assert fetch(site + "/app.0123abcd.js").status == 404
    assert fetch(site + "/", "HEAD").status == 200
    assert fetch(site + "/site.css", range="bytes=0-9").status == 206
    assert fetch(site + "/", "PROPFIND").status == 405

    def count(told: dict[str, dict[str, float]]) -> float:
        return sum(value for name, value in told["assetserver_http_requests_total"].items() if "admin" not in name)

    def servers(told: dict[str, dict[str, float]]) -> int:
        return len([labels for labels in told["process_cpu_seconds_total"] if "server" in labels])

    def is_complete(told: dict[str, dict[str, float]]) -> bool:
        return count(told) >= 40 and servers(told) == 2 and told["assetserver_event_loop_lag_seconds_count"][""] > 0

    found = wait_for(f"http://127.0.0.1:{admin}", is_complete)

    requests = {name: value for name, value in found["assetserver_http_requests_total"].items() if "admin" not in name}
    assert requests == {
        "GET 200 folder": 30,
        "GET 404 folder": 7,
        "HEAD 200 folder": 1,
        "GET 206 folder": 1,
        "other 405 folder": 1,
    }
    by_coding = {"br": 0.0, "identity": 0.0}
    for name, value in found["assetserver_cache_requests_total"].items():
        by_coding[name.split()[1]] += value
    assert by_coding == {"br": 30, "identity": 2}
    assert found["assetserver_old_hash_misses_total"][""] == 7
    assert found["assetserver_http_requests_in_flight"][""] == 1


def test_bytes_of_all_ways_to_send_add_up(origin, folder, free_port, fetch, wait_for):
    big = os.urandom(700_000)
    (folder / "big.bin").write_bytes(big)
    admin = free_port()
    site = origin(folder, config=admin_of(admin))
    sent = 0
    for name, fields in [("big.bin", {}), ("big.bin", {"range": "bytes=5-99"}), ("site.css", {}), ("none.bin", {})] * 5:
        sent += len(fetch(f"{site}/{name}", **fields).content)

    key = "assetserver_http_response_bytes_total"
    found = wait_for(f"http://127.0.0.1:{admin}", lambda told: told.get(key, {}).get("folder", 0) >= sent)

    assert found[key]["folder"] == sent


def test_worker_that_is_killed_takes_no_count_with_it(origin, folder, free_port, fetch, wait_for):
    admin = free_port()
    site = origin(folder, "--workers", 2, config=admin_of(admin))
    url = f"http://127.0.0.1:{admin}"
    for _ in range(20):
        fetch(site + "/")
    key = "assetserver_http_requests_total"
    before = wait_for(url, lambda told: told.get(key, {}).get("GET 200 folder") == 20)
    pids = find_children(site)

    os.kill(min(pids), signal.SIGKILL)
    wait_for_children(site, lambda now: len(now) == 2 and min(pids) not in now)
    fetch(site + "/")

    after = wait_for(url, lambda told: told.get(key, {}).get("GET 200 folder") == 21)
    assert after[key]["GET 200 admin"] >= before[key].get("GET 200 admin", 0)
    assert after["assetserver_worker_restarts_total"] == {"killed": 1}


def test_reload_goes_on_counting_and_is_told(origin, folder, free_port, fetch, wait_for, tmp_path):
    data, admin = tmp_path / "data", free_port()
    run_command("publish", folder, "--prod", "--data", data)
    config = admin_of(admin) + f'[data]\npath = "{data}"\n[server]\nworkers = 2\n'
    site = origin(config=config)
    url, key = f"http://127.0.0.1:{admin}", "assetserver_http_requests_total"
    for _ in range(10):
        fetch(site + "/")
    first = wait_for(url, lambda told: told.get(key, {}).get("GET 200 site") == 10)

    run_command("reload", "--data", data)
    fetch(site + "/")

    second = wait_for(url, lambda told: told.get(key, {}).get("GET 200 site") == 11)
    since = "assetserver_config_last_reload_timestamp_seconds"
    assert second["assetserver_config_last_reload_success"][""] == 1
    assert second[since][""] >= first[since][""] > 0
    config_file = next(tmp_path.glob("assetserver-*.toml"))
    config_file.write_text(config + "nonsense = 1\n")
    assert try_command("reload", "--data", data).returncode != 0
    refused = wait_for(url, lambda told: told["assetserver_config_last_reload_success"][""] == 0)
    assert refused[since] == second[since]


def find_children(url: str) -> set[int]:
    """Return the processes that listen at ``url``, but for their master."""
    port = url.rpartition(":")[2]
    found = subprocess.run(["ss", "-tlnpH", f"sport = :{port}"], capture_output=True, text=True, check=True, timeout=60)
    pids = {int(pid) for pid in re.findall(r"pid=(\d+)", found.stdout)}
    return {pid for pid in pids if parent_of(pid) in pids}


def parent_of(pid: int) -> int:
    """Return the parent's process id, or 0 if the process is gone."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def wait_for_children(url: str, condition: Callable[[set[int]], object]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition(find_children(url)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_admin_listener_has_all_that_visitors_need_not_see(origin, folder, free_port, fetch, tmp_path):
    data, admin = tmp_path / "data", free_port()
    run_command("publish", folder, "--prod", "--data", data)
    site = origin(config=admin_of(admin) + f'[data]\npath = "{data}"\n')
    own = ["/-/healthy", "/-/ready", "/-/metrics", "/-/console/", "/-/api/openapi.json", "/-/api/releases"]

    of_site = [fetch(site + path).status for path in own]
    of_admin = [fetch(f"http://127.0.0.1:{admin}{path}").status for path in own]

    assert of_site == [404] * 6
    assert of_admin == [200, 200, 200, 200, 200, 401]
    assert fetch(site + "/").status == 200
    assert fetch(f"http://127.0.0.1:{admin}/").status == 404
    assert fetch(site + "/-/releases/@none/").status == 404


def test_admin_listener_may_be_a_unix_socket_that_goes_with_the_server(start_program, folder, tmp_path, free_port):
    path, port = tmp_path / "admin.sock", free_port()
    config = tmp_path / "a.toml"
    config.write_text(f'[admin]\nlisten = "{path}"\n')
    program = start_program(
        "assetserver", [sys.executable, "-m", "assetserver", "serve", folder, "--port", port, "--config", config]
    )
    program.wait_port(port)
    deadline_s = time.monotonic() + LIMIT_S
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        while client.connect_ex(str(path)):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        client.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := client.recv(4096):
            answer += piece

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert path.stat().st_mode & 0o777 == 0o660
    program.process.send_signal(signal.SIGTERM)
    program.process.wait(LIMIT_S)
    assert not path.exists()


def test_admin_listener_wants_no_header_of_a_proxy(origin, folder, free_port, fetch):
    admin = free_port()
    origin(folder, config=admin_of(admin) + '[server]\nproxy_protocol = "any"\ntrusted_proxies = ["127.0.0.1"]\n')
    assert fetch(f"http://127.0.0.1:{admin}/-/healthy").content == b"ok\n"


def test_address_of_the_admin_listener_that_is_taken_is_told(folder, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "a.toml"
        config.write_text(admin_of(port))
        done = subprocess.run(
            [sys.executable, "-m", "assetserver", "serve", folder, "--port", "0", "--config", config],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    assert done.returncode == 69
    assert f"{config}:2: cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr


def test_metrics_beside_everything_else_are_for_who_has_a_token(origin, tmp_path, fetch):
    data = tmp_path / "data"
    token = run_command("token", "create", "--scope", "metrics", "--data", data).strip()
    other = run_command("token", "create", "--scope", "upload", "--data", data).strip()
    site = origin(None, "--data", data)

    assert fetch(site + "/-/metrics").status == 401
    assert fetch(site + "/-/metrics", authorization=f"Bearer {other}").status == 403
    answer = fetch(site + "/-/metrics", authorization=f"Bearer {token}")
    assert (answer.status, answer["content-type"], answer["cache-control"]) == (
        200,
        "text/plain; version=0.0.4; charset=utf-8",
        "no-store",
    )
    assert read_metrics(answer.content)["assetserver_jobs"]["queued"] == 0
    assert fetch(site + "/-/api/releases", authorization=f"Bearer {token}").status == 403


def test_metrics_of_a_folder_alone_say_where_they_are_shown(origin, folder, fetch):
    answer = fetch(origin(folder) + "/-/metrics")

    assert (answer.status, b"[admin] listen" in answer.content) == (403, True)


def test_who_asks_whether_the_server_lives_is_not_in_the_log(origin, folder, fetch, capfd, tmp_path):
    site = origin(folder)
    for path in ("/-/healthy", "/-/ready", "/-/metrics", "/index.html"):
        fetch(site + path)

    log = next(tmp_path.glob("assetserver-*.log"))
    deadline_s = time.monotonic() + LIMIT_S
    while "/index.html" not in log.read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert "/-/" not in log.read_text().partition("Ctrl+C")[2]


def test_uploads_are_counted_by_what_came_of_them(origin, tmp_path, free_port, fetch, wait_for):
    data, admin = tmp_path / "data", free_port()
    token = run_command("token", "create", "--scope", "upload", "--data", data).strip()
    site = origin(None, "--data", data, config=admin_of(admin))
    for size in (10, 300_000):
        assert send(site, "/uploads?name=a.bin", bytes(size), authorization=f"Bearer {token}") == 201
    assert send(site, "/uploads?name=a.bin", b"x") == 401

    found = wait_for(f"http://127.0.0.1:{admin}", lambda told: sum(told.get("assetserver_uploads_total", {}).values()) >= 3)

    assert found["assetserver_uploads_total"] == {"complete": 2, "refused": 1}
    assert found["assetserver_upload_bytes_total"][""] == 300_010


def send(url: str, path: str, body: bytes, **fields: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=LIMIT_S)
    try:
        connection.request("POST", path, body, fields)
        return connection.getresponse().status
    finally:
        connection.close()


def test_deltas_are_counted_and_what_they_spare(origin, tmp_path, free_port, fetch, wait_for):
    data, admin = tmp_path / "data", free_port()
    names = ["app.01234567.js", "app.89abcdef.js"]
    texts = [b"".join(sha256(b"%d" % one).hexdigest().encode() + b"\n" for one in range(start, start + 80)) for start in (0, 1)]
    config = admin_of(admin) + f'[data]\npath = "{data}"\n[[sites]]\nimmutable = ["*.js"]\n'
    (tmp_path / "settings.toml").write_text(config)
    for name, content in zip(names, texts, strict=True):
        build = tmp_path / name
        build.mkdir()
        (build / "index.html").write_text(f"<script src={name}></script>")
        (build / name).write_bytes(content)
        run_command("publish", build, "--prod", "--config", tmp_path / "settings.toml")
    site = origin(config=config)
    held = format_available_dictionary(sha256(texts[0]).digest())

    plain = fetch(f"{site}/{names[1]}", accept_encoding="br")
    deltas = [fetch(f"{site}/{names[1]}", accept_encoding="br, dcz", available_dictionary=held) for _ in range(4)]

    assert [one["content-encoding"] for one in (plain, *deltas)] == ["br", *["dcz"] * 4]
    found = wait_for(f"http://127.0.0.1:{admin}", lambda told: told["assetserver_delta_responses_total"][""] >= 4)
    assert found["assetserver_delta_responses_total"][""] == 4
    spared = len(plain.content) - len(deltas[0].content)
    assert found["assetserver_delta_saved_bytes_total"][""] == 4 * spared > 0


def test_log_that_cannot_be_written_is_told_and_counted_and_files_are_served(origin, folder, free_port, fetch, wait_for):
    admin = free_port()
    site = origin(folder, config=admin_of(admin) + '[server]\naccess_log_file = "/dev/full"\n')
    ready = Ready(site, f"http://127.0.0.1:{admin}", fetch)
    assert ready.wait("log") == {"log": "/dev/full cannot be written"}
    found = wait_for(f"http://127.0.0.1:{admin}", lambda told: told["assetserver_log_lines_dropped_total"][""] > 0)
    assert found["assetserver_log_lines_dropped_total"][""] >= 1


def test_server_timing_is_sent_where_it_is_asked_for(origin, folder, fetch):
    silent, telling = origin(folder), origin(folder, config='[headers]\nserver_timing = "on"\n')

    told = [fetch(telling + "/site.css")["server-timing"] for _ in range(5)]

    assert fetch(silent + "/site.css")["server-timing"] is None
    assert re.fullmatch(r"total;dur=\d+\.\d{3}", told[0])
    assert all(one == "cache;desc=hot" or re.fullmatch(r"total;dur=\d+\.\d{3}", one) for one in told)


# Readiness


@contextmanager
def small_disk(folder: Path, pages: str = "size=512k") -> Iterator[None]:
    """Have a disk of its own under ``folder``."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", pages, "tmpfs", folder], check=False, capture_output=True, timeout=10
    )
    if mounted.returncode:
        pytest.skip("this root may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=60)


class Ready:
    """A server of a published site, and what it says of itself."""

    def __init__(self, site: str, admin: str, fetch: Callable[..., object]) -> None:
        self.site = site
        self._admin = admin
        self._fetch = fetch

    def ask(self) -> tuple[int, dict[str, str]]:
        answer = self._fetch(self._admin + "/-/ready")
        told = json.loads(answer.content)
        assert told["ready"] == (answer.status == 200) == all(one == "ok" for one in told["checks"].values())
        return answer.status, {name: one for name, one in told["checks"].items() if one != "ok"}

    def wait(self, *failed: str) -> dict[str, str]:
        """Wait until these checks fail, and no others; return what they say. Files are served meanwhile."""
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            assert self._fetch(self.site + "/").status == 200
            status, found = self.ask()
            if set(found) == set(failed):
                assert status == (503 if failed else 200)
                return found
            assert time.monotonic() < deadline_s, found
            time.sleep(0.1)


@pytest.fixture
def serve(origin, folder, free_port, fetch) -> Callable[..., Ready]:
    def start(data: Path, more: str = "") -> Ready:
        run_command("publish", folder, "--prod", "--data", data)
        admin = free_port()
        config = admin_of(admin) + f'[data]\npath = "{data}"\n[uploads]\nreserve_bytes = 0\n' + more
        site = origin(config=config)
        ready = Ready(site, f"http://127.0.0.1:{admin}", fetch)
        ready.wait()
        return ready

    return start


def fill(path: Path) -> None:
    """Write until nothing fits any more."""
    with suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 12))


def test_full_disk_is_told_and_files_are_served(serve, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with small_disk(data):
        ready = serve(data)
        fill(data / "filler")
        found = ready.wait("data")
        assert found["data"].endswith("cannot be written to: no space left on device")
        (data / "filler").unlink()
        ready.wait()


def test_disk_that_became_read_only_is_told_and_files_are_served(serve, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with small_disk(data, "size=8m"):
        ready = serve(data, "enabled = false\n")  # uploads keep the records open, and nothing that is may be made read-only
        remount = ["mount", "-o", "remount,ro", data]
        if subprocess.run(remount, check=False, capture_output=True, timeout=60).returncode:
            pytest.skip("the disk is in use")
        assert ready.wait("data")["data"].endswith("cannot be written to: read-only file system")


def test_little_room_is_told(tmp_path):
    """More is to be left than any disk has."""
    wanted = {"ASSETSERVER_DATA__PATH": str(tmp_path), "ASSETSERVER_UPLOADS__RESERVE_BYTES": str(1 << 46)}
    settings = load_settings(None, wanted)

    found = checks_of(settings, open_records(settings))["disk"]()

    assert re.fullmatch(r"[\d.]+ \wB are free, and uploads leave [\d.]+ GB \(uploads.reserve_bytes\)", found)


def test_database_that_is_locked_is_told_and_files_are_served(serve, tmp_path):
    data = tmp_path / "data"
    run_command("token", "create", "--scope", "upload", "--data", data)
    ready = serve(data)
    with sqlite3.connect(data / "records.sqlite3", isolation_level=None) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        assert ready.wait("database")["database"]
        blocker.execute("ROLLBACK")
    ready.wait()


def test_database_that_is_gone_is_told_and_files_are_served(serve, tmp_path):
    data = tmp_path / "data"
    run_command("token", "create", "--scope", "upload", "--data", data)
    ready = serve(data)

    (data / "records.sqlite3").rename(data / "elsewhere")

    assert "is gone" in ready.wait("database")["database"]
    (data / "elsewhere").rename(data / "records.sqlite3")
    ready.wait()


def test_postgresql_that_is_stopped_is_told_and_files_are_served(serve, tmp_path, postgres):
    url = postgres.create_database()
    ready = serve(tmp_path / "data", f'[database]\nurl = "{url}"\n')

    postgres.stop()
    try:
        ready.wait("database")
    finally:
        postgres.start()
    ready.wait()


def test_release_whose_index_went_is_told(serve, tmp_path):
    data = tmp_path / "data"
    ready = serve(data)

    index = next((data / "releases").glob("*.index"))
    index.rename(tmp_path / "index")

    assert "is not there" in ready.wait("releases")["releases"]


def test_visitors_are_told_which_check_failed_and_not_why(origin, folder, fetch):
    site = origin(folder)
    folder.rename(folder.with_name("moved"))

    answer = fetch(site + "/-/ready")

    assert answer.status == 503
    assert json.loads(answer.content) == {"ready": False, "checks": {"server": "ok", "folder /": "failed", "log": "ok"}}


def test_what_is_no_http_is_counted_by_what_is_wrong_with_it(origin, folder, free_port, wait_for):
    admin = free_port()
    port = int(origin(folder, config=admin_of(admin)).rpartition(":")[2])
    many = b"".join(b"a%d: b\r\n" % number for number in range(200))
    for request in (b"GET\r\n\r\n", b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n" + many):
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as client:
            client.sendall(request)
            with suppress(ConnectionError):
                while client.recv(4096):
                    pass

    key = "assetserver_http_protocol_errors_total"
    found = wait_for(f"http://127.0.0.1:{admin}", lambda told: sum(told.get(key, {}).values()) >= 3)

    assert found[key] == {"malformed": 1, "target-too-long": 1, "fields-too-large": 1}
