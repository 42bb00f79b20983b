"""``assetserver top`` and ``report``, run against real servers; what is live is looked at in a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from .commands import run_command

LIMIT_S = 60.0
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Site(NamedTuple):
    """A server of two releases: the page of the first names ``old``, that of the second ``new``."""

    url: str
    config: Path
    data: Path


def run(*words: object, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "assetserver", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "100", "LINES": "40", **env}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=check, env=environment)


@pytest.fixture(scope="module")
def site(shared_origin, tmp_path_factory, free_port, fetch) -> Site:
    folder, data = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("data") / "data"
    dist = folder / "dist"
    dist.mkdir()
    for content in ("old", "new"):
        for file in dist.iterdir():
            file.unlink()
        name = f"app.{'a1b2c3d4' if content == 'old' else 'd4c3b2a1'}.js"
        (dist / name).write_text(f"console.log({content!r})\n" * 40)
        (dist / "index.html").write_text(f'<script src="/{name}"></script>')
        run_command("publish", dist, "--prod", "--data", data)
    config = folder / "a.toml"
    config.write_text(f'[admin]\nlisten = "127.0.0.1:{free_port()}"\n[data]\npath = "{data}"\n')
    url = shared_origin(None, "--config", config)
    for path, count in (("/", 9), ("/app.d4c3b2a1.js", 5), ("/app.a1b2c3d4.js", 3), ("/app.00000000.js", 2)):
        for _ in range(count):
            fetch(url + path, accept_encoding="br")
    return Site(url, config, data)


def test_one_screen_shows_what_goes_on(site, poll):
    patterns = (
        r"assetserver \S+  http://127.0.0.1:\d+  1 serving, 1 at jobs +ready",
        r"^requests/s +\d",
        r"^/ +9 *$",
        r"missed today +requests *\n/app\.00000000\.js +2 *$",
        r"0 waiting, 0 running",
    )

    def is_shown(screen: str) -> bool:
        return all(re.search(one, screen, re.MULTILINE) for one in patterns)

    poll(lambda: run("top", "--once", "--config", site.config).stdout, is_shown)  # who does jobs comes a moment later


def test_server_that_is_not_there_is_told(closed_port):
    done = run("top", "--once", "--url", f"http://127.0.0.1:{closed_port}", check=False)

    assert done.returncode == 1
    assert re.fullmatch(r"error: no server answers at http://127.0.0.1:\d+: connection refused\n", done.stderr)


def test_without_a_token_the_remedy_is_told(origin, tmp_path):
    url = origin(None, "--data", tmp_path / "data")

    done = run("top", "--once", "--url", url, check=False)

    assert done.returncode == 1
    assert "assetserver token create --scope metrics" in done.stderr
    token = run_command("token", "create", "--scope", "metrics", "--data", tmp_path / "data").strip()
    assert "ready" in run("top", "--once", "--url", url, ASSETSERVER_TOKEN=token).stdout


def test_other_programs_are_not_taken_for_a_server(origin, tmp_path):
    folder = tmp_path / "dist"
    folder.mkdir()

    done = run("top", "--once", "--url", origin(folder) + "/elsewhere", check=False)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


class Screen:
    """A terminal of 100 columns and 30 lines, and what is written to it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.text = ""

    def wait_for(self, pattern: str) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while not re.search(pattern, _CODES.sub("", self.text)):
            assert time.monotonic() < deadline_s, self.text
            self.read()

    def read(self) -> bool:
        if select.select([self._descriptor], [], [], 0.1)[0]:
            with suppress(OSError):  # the other side is closed
                piece = os.read(self._descriptor, 65536)
                self.text += piece.decode("utf-8", "replace")
                return bool(piece)
        return False


@contextmanager
def terminal(*words: object) -> Iterator[Screen]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "assetserver", *map(str, words)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env={**environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Screen(process, ours)
    finally:
        process.kill()
        process.wait(60)
        os.close(ours)


def test_terminal_is_drawn_anew_and_left_as_it_was(site, fetch):
    with terminal("top", "--interval", 0.2, "--config", site.config) as screen:
        screen.wait_for(r"asked for most today")
        screen.wait_for(r"/ +9")
        fetch(site.url + "/")
        screen.wait_for(r"/ +10")
        assert "\x1b[?1049h" in screen.text
        lines = _CODES.sub("", screen.text.rpartition("\x1b[H")[2]).splitlines()
        assert max(map(len, lines)) <= 100

        screen.process.send_signal(signal.SIGINT)
        assert screen.process.wait(LIMIT_S) == 130
        while screen.read():
            pass
        assert screen.text.rindex("\x1b[?1049l") > screen.text.rindex("\x1b[?1049h")


@pytest.fixture(scope="module")
def report_of(site) -> Callable[..., dict[str, list[dict[str, object]]]]:
    """``report_of()`` returns the report, once what was asked for is written down."""

    def ask() -> dict[str, list[dict[str, object]]]:
        deadline_s = time.monotonic() + LIMIT_S
        while True:
            done = run("report", "--json", "--config", site.config, check=False)
            told = json.loads(done.stdout) if done.returncode == 0 else {}
            if sum(row["requests"] for row in told.get("missing", ())) >= 2:  # which were asked for last
                return told
            assert time.monotonic() < deadline_s, done
            time.sleep(0.2)

    return ask


def test_report_tells_assets_releases_codings_and_what_was_missed(report_of):
    told = report_of()

    requests = {row["path"]: row["requests"] for row in told["assets"]}
    assert requests["/"] >= 9
    assert (requests["/app.d4c3b2a1.js"], requests["/app.a1b2c3d4.js"]) == (5, 3)
    assert told["missing"] == [{"path": "/app.00000000.js", "requests": 2, "error": 0}]
    assert [(row["is_active"], row["requests"]) for row in told["releases"]] == [(True, requests["/"] + 5), (False, 3)]
    codings = {row["coding"]: row for row in told["codings"]}
    assert codings["br"]["answers"] == requests["/app.d4c3b2a1.js"] + 3


def test_report_is_read_by_people_too(site, report_of):
    report_of()

    shown = run("report", "--config", site.config).stdout

    assert re.search(r"^asked for most +requests", shown)
    assert re.search(r"^\* [0-9a-f]{12} +\d+ ", shown, re.MULTILINE)
    assert re.search(r"^br +8 +\d+\.\d%", shown, re.MULTILINE)


def test_where_nothing_was_counted_the_report_says_so(tmp_path):
    (tmp_path / "data").mkdir()

    done = run("report", "--data", tmp_path / "data", "--days", 1, check=False)

    assert done.returncode == 1
    assert "nothing was counted today in" in done.stderr
