"""The command line, as a person meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

import httpx
import pytest
from click.testing import CliRunner

from assetserver.cli import main

DEADLINE_S = 60
UPLOADS = "uploads to /uploads, up to 2 GiB a file"
JOBS = "jobs (image) done by 1 worker beside"
WANT_DATA = (
    "promote abcd",
    "rollback",
    "releases",
    "diff abcd",
    "verify",
    "gc",
    "alias",
    "lock",
    "unlock",
    "gc --dry-run",
    "releases --json",
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file.txt").write_text("hello world")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ASSETSERVER_")]:
        monkeypatch.delenv(name)
    return tmp_path


class Server:
    """A started server; the lines that it says first, and a way to stop it."""

    def __init__(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "assetserver", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        self.lines: list[str] = []
        self.last_words = ""

    def __enter__(self) -> Self:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if line.startswith(("on ", "error")):
                break
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    @property
    def url(self) -> str:
        return self.lines[-1].split()[1]

    def stop(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        output, self.last_words = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output


def get(url: str, transport: httpx.HTTPTransport | None = None) -> httpx.Response:
    """Ask at once: whoever says where it listens, listens."""
    with httpx.Client(transport=transport, timeout=DEADLINE_S) as client:
        return client.get(url)


def test_a_folder_is_served_at_once_and_the_first_lines_say_what_and_where(site: Path) -> None:
    with Server("site", "--port", "0") as server:
        assert server.lines[:2] == ["assetserver serves", "  /  ./site"]
        assert server.lines[2].endswith("(stop with Ctrl+C)")
        assert get(server.url + "/file.txt").text == "hello world"
        assert "file.txt" in get(server.url + "/").text
        code, output = server.stop(signal.SIGTERM)
    assert (code, server.last_words) == (0, "")
    assert '"GET /file.txt HTTP/1.1" 200 11' in output


def test_ctrl_c_ends_it_and_it_says_so(site: Path) -> None:
    with Server("site", "--port", "0", "--access-log", "json") as server:
        get(server.url + "/file.txt")
        code, output = server.stop(signal.SIGINT)
    assert (code, server.last_words) == (0, "stopped\n")
    assert json.loads(output)["path"] == "/file.txt"


def test_a_unix_socket_serves_and_is_gone_afterwards(site: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):  # what a killed server leaves does not stop the next
        with Server("site", "--uds", "s.sock") as server:
            transport = httpx.HTTPTransport(uds="s.sock")
            assert get("http://site.test/file.txt", transport).text == "hello world"
            server.stop(number)
    assert not Path("s.sock").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_who_is_stopped_as_soon_as_it_says_that_it_serves_ends_well(site: Path, workers: str) -> None:
    with Server("site", "--uds", "s.sock", "--workers", workers) as server:
        assert server.stop(signal.SIGTERM)[0] == 0
    assert not Path("s.sock").exists()


def test_a_file_in_the_place_of_a_unix_socket_is_not_touched(site: Path) -> None:
    Path("important.txt").write_text("keep")
    with Server("site", "--uds", "important.txt") as server:
        assert server.process.wait(DEADLINE_S) == 69
        assert "important.txt is a file, not a socket" in server.lines[0]
    assert Path("important.txt").read_text() == "keep"


def test_the_socket_of_a_successor_is_left_alone(site: Path) -> None:
    with Server("site", "--uds", "s.sock") as first:
        Path("s.sock").unlink()  # what a successor does with a socket that nobody answers on any more
        with Server("site", "--uds", "s.sock"):
            first.stop(signal.SIGTERM)
            assert get("http://site.test/file.txt", httpx.HTTPTransport(uds="s.sock")).text == "hello world"


def test_a_log_that_nobody_reads_does_not_keep_the_server_alive(site: Path) -> None:
    with Server("site", "--port", "0") as server:
        with httpx.Client(headers={"user-agent": "x" * 4000}, timeout=DEADLINE_S) as client:
            for _ in range(40):  # more than a pipe holds
                client.get(server.url + "/file.txt")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0


def test_a_live_unix_socket_is_not_taken_over(site: Path) -> None:
    with Server("site", "--uds", "s.sock"), Server("site", "--uds", "s.sock") as second:
        assert second.process.wait(DEADLINE_S) == 69
        assert "taken by another program; stop it first" in second.lines[0]


def test_an_inherited_socket_is_served_without_delay_of_small_answers(site: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Server("site", "--fd", str(fd := listener.fileno()), pass_fds=(fd,)),
    ):
        port = listener.getsockname()[1]
        assert get(f"http://127.0.0.1:{port}/file.txt").text == "hello world"


def test_several_workers_share_one_socket(site: Path) -> None:
    with Server("site", "--port", "0", "--workers", "2") as server:
        assert server.lines[2].endswith(" (2 workers; stop with Ctrl+C)")
        assert get(server.url + "/file.txt").text == "hello world"
        assert server.stop(signal.SIGTERM)[0] == 0


def test_a_taken_port_is_said_with_the_remedy(site: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Server("site", "--port", port) as server:
            assert server.process.wait(DEADLINE_S) == 69
            assert f"127.0.0.1:{port} is taken by another program; choose another with --port" in server.lines[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["serve", "gone"], 78, "error: there is no folder gone\n"),
        (["serve", "--data", "/proc/x"], 78, "error: --data: /proc/x cannot be created: no such file or directory\n"),
        (["check", "--data", "/proc/x/y"], 78, "error: --data: /proc/x/y cannot be created: no such file or directory\n"),
        (["check", "--data", "site/file.txt/d"], 78, "error: --data: site/file.txt/d cannot be created: not a directory\n"),
        (["check", "--data", "site/file.txt"], 78, "error: --data: site/file.txt cannot be created: file exists\n"),
        (["serve", "site/file.txt"], 78, "is a file; name the folder that it is in"),
        (["serve", "site", "--port", "70000"], 78, "--port: server.port is 70000; it must be between 0 and 65535"),
        (["serve", "site", "--config", "gone.toml"], 78, "gone.toml"),
        (["publish", "gone"], 1, "gone is not a folder"),
        (["publish", ".", "--dry-run"], 1, "the data folder data is inside ., and would be published with it"),
        (["publish", "site", "--data", "site/d"], 1, "the data folder site/d is inside site, and would be"),
        (["publish", "site", "--data", "site/file.txt"], 1, "the data folder site/file.txt is a file; name another"),
        (["releases", "--data", "site/file.txt"], 1, "the data folder site/file.txt is a file; name another"),
        (["publish", "site", "--data", "/proc/gone/d"], 1, "no such file or directory; make the folder that it should be in"),
        (["publish", "site", "--site", "No Name"], 1, "there is no site 'No Name'; without [[sites]]"),
        (["publish", "site", "--alias", "Feature/X"], 1, "write feature-x"),
        (["publish", "site", "--integrity", "gone/i.json"], 1, "there is no folder gone; make it first"),
        (["publish", "site", "--integrity", "site"], 1, "--integrity site is a folder; name a file in it"),
        (["publish", "site", "--integrity", "-", "--json"], 1, "both write to stdout"),
        *((line.split(), 1, "there is no data folder data; nothing was ever published there") for line in WANT_DATA),
        (["alias", "--remove"], 2, "--remove wants the NAME of the alias"),
        (["deploy", "site"], 2, "did you mean publish?"),
        (["list"], 2, "did you mean releases?"),
        (["undo"], 2, "did you mean rollback?"),
        (["promot"], 2, "did you mean promote?"),
        (["zzz"], 2, "there is no command zzz; there are serve, check, publish"),
        (["serve", "site", "--prot", "1"], 2, "No such option '--prot'. Did you mean '--port'?"),
    ],
)
def test_mistakes_are_told_kindly_and_exit_with_their_code(site: Path, arguments: list[str], code: int, message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_option_is_suggested_only_if_it_is_nearly_what_was_written(site: Path) -> None:
    result = CliRunner().invoke(main, ["publish", "site", "--port", "80"])
    assert (result.exit_code, "--prod" in result.output) == (2, False)
    assert "Did you mean '--message'?" in CliRunner().invoke(main, ["publish", "site", "--mesage", "x"]).output


def test_what_nobody_may_write_is_told_in_one_line(site: Path, missing: Callable[[str], NoReturn]) -> None:
    disk = site / "disk"
    disk.mkdir()
    command = [shutil.which("mount") or "/bin/mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        missing("the right to mount a tmpfs")
    try:
        result = CliRunner().invoke(main, ["publish", "site", "--data", "disk/data"])
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert result.output.startswith(f"error: {disk}/data: read-only file system; mount it so that it can be written, or")


def test_failures_are_told_in_json_where_that_is_wanted(site: Path) -> None:
    (site / "site/.env").write_text("SECRET=1")
    (site / "site/id_rsa").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    result = CliRunner().invoke(main, ["publish", "site", "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"]) == (1, False)
    assert [one["level"] for one in told["findings"]] == ["error", "error"]
    assert told["error"].splitlines() == [one["message"] for one in told["findings"]]
    assert result.stderr.startswith("error: ")
    gone = CliRunner().invoke(main, ["gc", "--data", "gone", "--json"])
    assert json.loads(gone.stdout)["error"].startswith("there is no data folder gone;")


def test_ctrl_c_in_publish_says_that_nothing_went_live(site: Path) -> None:
    os.mkfifo(site / "key")  # whoever reads it waits
    command = [sys.executable, "-m", "assetserver", "publish", "site", "--prod", "--sign", "key", "--json"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
        (site / "key").open("wb"),  # waits until the command has it open
    ):
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=DEADLINE_S)
    text = "stopped; nothing went live, and the site is as it was; publish again to go on"
    assert (process.returncode, errors) == (130, f"error: {text}\n")
    assert json.loads(output) == {"ok": False, "error": text, "findings": []}


def test_check_says_what_would_be_served_and_changes_nothing(site: Path) -> None:
    Path("assetserver.toml").write_text('[[mounts]]\nprefix = "/s"\ndirectory = "site"\ncache = "immutable"\n')
    before = sorted(site.rglob("*"))
    result = CliRunner().invoke(main, ["check"])
    assert (result.exit_code, result.output) == (0, f"assetserver serves\n  /s  ./site  (immutable)\n{UPLOADS}\n{JOBS}\nok\n")
    assert sorted(site.rglob("*")) == before


def test_check_leaves_no_data_folder_behind(site: Path) -> None:
    before = sorted(site.rglob("*"))
    result = CliRunner().invoke(main, ["check", "--data", "new/data"])
    assert (result.exit_code, result.output.splitlines()[-3:]) == (0, [UPLOADS, JOBS, "ok"])
    assert sorted(site.rglob("*")) == before


def test_a_data_folder_that_cannot_be_made_is_named_by_where_it_was_set(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSETSERVER_DATA__PATH", "/proc/x")
    result = CliRunner().invoke(main, ["check"])
    assert (result.exit_code, result.output.partition(" ")[0]) == (78, "error:")
    assert "ASSETSERVER_DATA__PATH: /proc/x cannot be created" in result.output


def test_what_is_served_live_needs_no_data_folder(site: Path) -> None:
    Path("data").write_text("in the way")
    Path("assetserver.toml").write_text('[[mounts]]\nprefix = "/s"\ndirectory = "site"\n')
    assert CliRunner().invoke(main, ["check"]).exit_code == 0


def test_help_is_short_and_names_the_program(site: Path) -> None:
    told = subprocess.run([sys.executable, "-m", "assetserver", "-h"], check=True, capture_output=True, text=True).stdout
    assert told.startswith("Usage: assetserver [OPTIONS]")
    assert "..." not in told.partition("Commands:")[2]
    assert "..." not in CliRunner().invoke(main, ["token", "-h"]).output.partition("Commands:")[2]


def test_version_does_not_wait_for_the_server_parts() -> None:
    code = "import sys; from assetserver.cli import main; main(['version'], standalone_mode=False); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.startswith("assetserver 0.")
    assert not {"starlette", "uvicorn"} & {name.partition(".")[0] for name in output.splitlines()[-1].split()}
