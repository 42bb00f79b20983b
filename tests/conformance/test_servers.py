"""The application runs under other servers than its own command, set by the environment."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest
from starlette.testclient import TestClient

from assetserver.app import create_app
from assetserver.settings import load_settings

URL = r"http://127\.0\.0\.1:([1-9]\d*)"


@pytest.fixture
def environment(site, tmp_path):
    mounts = json.dumps([{"prefix": "/", "directory": str(site)}])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    return {**kept, "ASSETSERVER_MOUNTS": mounts, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def watched(tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    (folder / "module.py").write_text("first = 1\n")
    return folder


def test_uvicorn_with_reload_comes_back_after_a_change(start_program, environment, watched, fetch, poll, tmp_path):
    command = [sys.executable, "-m", "uvicorn", "assetserver.app:app", "--port", 0, "--reload", "--reload-dir", watched]
    program = start_program("uvicorn", command, env=environment, cwd=tmp_path)
    url = program.wait_log(URL)[0]
    program.wait_log("Application startup complete")
    assert fetch(url + "/file.txt").content == b"hello world"

    def change():
        starts = program.read_log().count("Application startup complete")
        if starts == 1:  # what changes before the reloader looks for the first time is not noticed: change it again
            (watched / "module.py").write_text(f"changed = {time.monotonic()}\n")
        return starts

    poll(change, lambda starts: starts > 1, every_s=1)
    assert fetch(url + "/file.txt").content == b"hello world"


@pytest.mark.parametrize("worker", ["asyncio", "trio"])
def test_hypercorn_serves_it(start_program, environment, fetch, decode, site, tmp_path, worker):
    command = [sys.executable, "-m", "hypercorn", "assetserver.app:app", "--bind", "127.0.0.1:0", "--worker-class", worker]
    program = start_program("hypercorn", command, env=environment, cwd=tmp_path)
    url = program.wait_log(URL)[0]
    first = fetch(url + "/file.txt")
    assert (first.status, first.content) == (200, b"hello world")
    assert fetch(url + "/file.txt", if_none_match=first["etag"]).status == 304
    assert fetch(url + "/file.txt", range="bytes=6-").content == b"world"
    assert fetch(url + "/big.bin").content == (site / "big.bin").read_bytes()
    assert fetch(url + "/missing.css").status == 404
    assert "Traceback" not in program.read_log()


def test_test_client_runs_it(site, decode):
    settings = load_settings(overrides={"mounts": [{"prefix": "/", "directory": str(site)}], "server.access_log": "off"})
    with TestClient(create_app(settings)) as client:
        assert client.get("/file.txt").text == "hello world"
        page = client.get("/d", headers={"accept-encoding": "gzip"})
        assert (page.status_code, page.url.path) == (200, "/d/")
        assert client.head("/style.css").headers["etag"]
        assert client.get("/missing.css").status_code == 404
        assert client.post("/file.txt").status_code == 405


def test_test_client_runs_what_the_environment_says(site, monkeypatch):
    monkeypatch.setenv("ASSETSERVER_MOUNTS", json.dumps([{"prefix": "/", "directory": str(site)}]))
    with TestClient(create_app()) as client:
        assert client.get("/file.txt").text == "hello world"
