"""What a file system allows and nobody expects: published and served byte by byte, or refused in a sentence.

Through the real program: what is accepted is asked of a real server.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from assetserver.cli import main

from ..commands import try_command

LIMIT_S = 60
CAFE = [unicodedata.normalize(form, "café.txt") for form in ("NFC", "NFD")]
NAMES = [
    *CAFE,
    *(unicodedata.normalize(form, "Ångström/ﬁne.txt") for form in ("NFC", "NFD")),
    *("Logo.svg", "logo.svg", "LOGO.SVG", "Docs/a.txt", "docs/a.txt"),
    *("x" * 255, "ü" * 127, "日" * 85, "d" * 255 + "/" + "f" * 255),
    *("100%.txt", "%41.txt", "%2e%2e.txt", "%", "%zz", "q?x=1.txt", "?", "a#b.txt", "#", "a&b=c;d.txt", "a+b.txt"),
    *("a b.txt", " leading.txt", "trailing ", "trailing.", "a  b", "\u00a0", "\u200b.txt", "\u2028.txt", "\u202egnp.exe"),
    *("-rf", "--help.txt", "~", "~root.txt", "$HOME.txt", "`id`.txt", "'quote'.txt", '"double".txt', "<script>.html", "|", "*"),
    *(
        "con.txt",
        "a:b.txt",
        "C:",
        "[brackets].txt",
        "{braces}.txt",
        "^caret",
        "@at",
        "!bang",
        "emoji-\U0001f9ed.txt",
        "no-extension",
    ),
    *("index.html/inside.txt", "folder/index.html/index.html", "_headers/inside.txt", "_redirects/inside.txt"),
    *("404.html/inside.txt", "x..y/z.txt", "empty.txt", "deep/" * 60 + "leaf.txt"),
]
"""Each holds its own name, ``empty.txt`` nothing."""

REFUSED: dict[str, tuple[bytes, str]] = {
    "newline": (b"two\nlines.txt", "control character"),
    "carriage return": (b"a\rb.txt", "control character"),
    "escape sequence": (b"a\x1b[31mred.txt", "control character"),
    "delete": (b"a\x7f.txt", "control character"),
    "backslash": (b"a\\..\\secret.txt", "backslash"),
    "not UTF-8": (b"caf\xe9.txt", "UTF-8"),
    "half a surrogate": (b"\xed\xa0\x80.txt", "UTF-8"),
    "folder with a newline": (b"two\nlines/a.txt", "control character"),
}


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("publish", ...)`` runs a command on a data folder of this test."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return try_command(*arguments, "--data", tmp_path / "data", cwd=tmp_path)

    return call


@pytest.fixture
def run_apart(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """As ``run``, in a process of its own: beside others, or with fewer rights."""

    def call(*arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [*before, sys.executable, "-m", "assetserver", *map(str, arguments), "--data", str(tmp_path / "data")]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site with one ordinary page."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "page.html").write_text("<p>an ordinary page")
    return folder


def content_of(name: str) -> bytes:
    return b"" if name == "empty.txt" else f"I am {name!r}\n".encode()


def check_refused(done: subprocess.CompletedProcess[str], problem: str, tmp_path: Path) -> None:
    """One line says what is wrong and nothing of the folder is kept."""
    assert done.returncode == 1, done.stdout
    assert problem in done.stderr
    assert done.stderr.startswith("error: ")
    [line] = done.stderr.splitlines()
    assert line.isprintable(), repr(line)
    assert not list((tmp_path / "data").rglob("state.json"))


@pytest.fixture(scope="module")
def awkward(shared_origin, tmp_path_factory) -> str:
    """Base URL of a server whose site holds all awkward names."""
    root = tmp_path_factory.mktemp("awkward")
    for name in NAMES:
        path = root / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(name))
    (root / "site/empty-folder").mkdir()
    command = ["publish", str(root / "site"), "--data", str(root / "data"), "--prod", "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == len(set(NAMES))
    return shared_origin(None, "--data", root / "data", "--access-log", "off")


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_an_awkward_name_is_served_at_its_one_url(awkward, fetch, name):
    url = awkward + "/" + quote(name, safe="/!$&'()*+,;=:@-._~")
    answer = fetch(url)
    assert (answer.status, answer.content) == (200, content_of(name))
    assert answer["content-length"] == str(len(content_of(name)))
    assert fetch(url, if_none_match=answer["etag"]).status == 304


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/index.html", "/index.html/", "/404.html", "/_headers", "/_headers/", "/empty-folder/"),
        *("/Café.txt", "/LOGO.svg", "/two%0Alines", "/a%5C..%5Csecret.txt", "/caf%E9.txt", "/%00"),
        *("/" + "x" * 256, "/" + "deep/" * 61, "/" + "deep/" * 1000),
    ],
    ids=lambda path: ascii(path)[:30],
)
def test_a_name_that_is_not_there_is_not_there(awkward, fetch, path):
    assert fetch(awkward + quote(path, safe="/%")).status in {404, 414}


@pytest.mark.parametrize("what", REFUSED)
def test_a_name_that_no_url_can_have_is_refused_in_a_sentence(run, folder, tmp_path, what):
    name, problem = REFUSED[what]
    path = os.path.join(os.fsencode(folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"content")
    check_refused(run("publish", folder, "--prod"), problem, tmp_path)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/etc/hostname", "out of the folder"),
        ("../outside.txt", "out of the folder"),
        ("nowhere.txt", "cannot be read"),
        ("link", "cannot be read"),
        ("sub", "link to a folder"),
        (".", "link"),
        ("/proc/self/mem", "out of the folder"),
    ],
)
def test_a_link_that_leads_nowhere_good_is_refused_in_a_sentence(run, folder, tmp_path, target, problem):
    (tmp_path / "outside.txt").write_text("secret")
    (folder / "sub").mkdir()
    (folder / "sub/a.txt").write_text("a")
    (folder / "link").symlink_to(target)
    check_refused(run("publish", folder, "--prod"), problem, tmp_path)


def test_a_link_to_a_file_inside_is_served_as_that_file(run, folder, tmp_path, origin, fetch):
    (folder / "sub").mkdir()
    (folder / "sub/latest.html").symlink_to("../page.html")
    assert run("publish", folder, "--prod").returncode == 0
    url = origin(None, "--data", tmp_path / "data")
    assert fetch(url + "/sub/latest.html").content == fetch(url + "/page.html").content == b"<p>an ordinary page"


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_file_is_refused_without_waiting(run, folder, tmp_path, kind, monkeypatch):
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    monkeypatch.chdir(folder)  # a socket's whole path has at most 107 bytes
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("odd")
    elif kind == "fifo":
        os.mkfifo("odd")
    else:
        os.mknod("odd", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero never ends
    check_refused(run("publish", folder, "--prod"), "neither a file nor a folder", tmp_path)


@pytest.mark.parametrize("what", ["secret.txt", "closed"])
def test_what_may_not_be_read_is_refused_in_a_sentence(run_apart, folder, tmp_path, what):
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root reads everything, unless it gives that up
        program = shutil.which("setpriv") or pytest.skip("root reads everything, and setpriv (util-linux) is missing")
        before = (program, "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")
    (folder / "secret.txt").write_text("secret")
    (folder / "closed").mkdir()
    (folder / "closed/a.txt").write_text("a")
    mode = (folder / what).stat().st_mode
    (folder / what).chmod(0)
    try:
        check_refused(run_apart("publish", folder, "--prod", before=before), "cannot be read", tmp_path)
    finally:
        (folder / what).chmod(mode)


class Writer:
    """Changes a file all the time, until the block ends: each call of ``step`` leaves it in a state that may be published."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.steps = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._step()
            self.steps += 1


def publish_while(run, folder: Path, writer: Writer, tmp_path: Path, check: Callable[[bytes], None]) -> None:
    """Publish some times while ``writer`` writes: refused in a sentence, or exactly one state. Once more when it is done."""
    with writer:
        for number in count():
            done = run("publish", folder, "--json")
            if done.returncode == 0:
                check(read_published(tmp_path, json.loads(done.stdout)["id"]))
            else:
                assert "changed while it was read" in done.stderr, done.stderr
                assert "Traceback" not in done.stderr
            if number >= 5 and writer.steps > 100:
                break
    done = run("publish", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert read_published(tmp_path, json.loads(done.stdout)["id"]) == (folder / "busy.bin").read_bytes()


def read_published(tmp_path: Path, release: str) -> bytes:
    manifest = json.loads((tmp_path / f"data/releases/{release}.json").read_bytes())
    record = manifest["files"]["busy.bin"]
    content = (tmp_path / "data/blobs" / record["sha256"][:2] / record["sha256"]).read_bytes()
    assert len(content) == record["size"]
    return content


def test_a_file_that_is_replaced_all_the_time_is_published_whole_or_not_at_all(run_apart, folder, tmp_path):
    states = [b"A" * (4 << 20), b"B" * (4 << 20), b"C" * (3 << 20)]
    turns = cycle(states)

    def replace() -> None:
        (tmp_path / "next").write_bytes(next(turns))
        (tmp_path / "next").replace(folder / "busy.bin")

    def check(content: bytes) -> None:
        assert content in states

    replace()
    publish_while(run_apart, folder, Writer(replace), tmp_path, check)


def test_a_file_that_grows_all_the_time_is_published_as_it_was_at_one_moment(run_apart, folder, tmp_path):
    numbers = count()
    (folder / "busy.bin").write_bytes(b"%07d\n" % next(numbers))

    def append() -> None:
        with (folder / "busy.bin").open("ab", buffering=0) as file:
            file.write(b"".join(b"%07d\n" % next(numbers) for _ in range(100)))

    def check(content: bytes) -> None:
        lines = content.splitlines(keepends=True)
        assert (len(lines) - 1) % 100 == 0, "half of what was written at once"
        assert lines == [b"%07d\n" % number for number in range(len(lines))]

    publish_while(run_apart, folder, Writer(append), tmp_path, check)
