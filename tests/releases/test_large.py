"""Many files, and a file of 5 GiB: published, served, and published again without work.

What takes minutes or gigabytes runs with ``SOAK=1`` alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.releases import compressing
from assetserver.releases.publish import publish_folder

GIB = 1 << 30
MIB = 1 << 20
LIMIT_S = 900
soak = pytest.mark.skipif(os.environ.get("SOAK") != "1", reason="takes minutes or gigabytes: SOAK=1 runs it")


def content_of(number: int) -> bytes:
    return b"file %d\n" % number * 10


def write_many(folder: Path, total: int) -> Path:
    for number in range(total):
        path = folder / f"{number // 1000}" / f"{number}.txt"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(content_of(number))
    return folder


def run(tmp_path: Path, *arguments: object) -> str:
    command = [sys.executable, "-m", "assetserver", *map(str, arguments), "--data", str(tmp_path / "data")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("total", [10_000, pytest.param(200_000, marks=soak)])
def test_many_small_files_are_published_once_and_each_is_served(tmp_path, origin, fetch, total):
    folder = write_many(tmp_path / "site", total)
    first = json.loads(run(tmp_path, "publish", folder, "--prod", "--json"))
    assert (first["files"], first["new"]) == (total, total)
    again = json.loads(run(tmp_path, "publish", folder, "--json"))
    assert (again["id"], again["new"], again["new_bytes"]) == (first["id"], 0, 0)

    url = origin(None, "--data", tmp_path / "data")
    for number in (*range(0, total, total // 50), total - 1):
        answer = fetch(f"{url}/{number // 1000}/{number}.txt")
        assert (answer.status, answer.content) == (200, content_of(number))
    assert fetch(f"{url}/{total // 1000}/{total}.txt").status == 404


@soak
@pytest.mark.timeout(LIMIT_S)
def test_one_file_more_than_a_release_may_hold_is_refused(tmp_path):
    folder = write_many(tmp_path / "site", 200_001)
    command = [sys.executable, "-m", "assetserver", "publish", folder, "--data", tmp_path / "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 1
    assert "holds 200,001 files; a release may hold 200,000" in done.stderr
    assert not list((tmp_path / "data").rglob("*.json"))


@soak
@pytest.mark.timeout(LIMIT_S)
def test_a_file_of_5_gib_is_published_and_served_in_parts(tmp_path, origin, fetch):
    if shutil.disk_usage(tmp_path).free < 12 * GIB:
        pytest.skip("needs 12 GiB of free disk")
    folder = tmp_path / "site"
    folder.mkdir()
    with (folder / "huge.bin").open("wb") as file:
        file.write(b"beginning")
        file.truncate(5 * GIB)
        file.seek(-3, os.SEEK_END)
        file.write(b"end")
    report = json.loads(run(tmp_path, "publish", folder, "--prod", "--json"))
    assert (report["files"], report["bytes"], report["saved"]) == (1, 5 * GIB, {})
    assert json.loads(run(tmp_path, "publish", folder, "--json"))["new"] == 0

    url = origin(None, "--data", tmp_path / "data") + "/huge.bin"
    end = wait_part(fetch, url, "bytes=-3")
    assert (end.content, end["content-range"]) == (b"end", f"bytes {5 * GIB - 3}-{5 * GIB - 1}/{5 * GIB}")
    assert fetch(url, range="bytes=0-8").content == b"beginning"
    middle = 5 * GIB // 2
    assert fetch(url, range=f"bytes={middle}-{middle + MIB - 1}", if_range=end["etag"]).content == bytes(MIB)


def wait_part(fetch, url: str, wanted: str):
    """Return the first answer; the blob is hashed before, which takes seconds: longer than ``fetch`` is ready to wait."""
    for _ in range(20):
        try:
            return fetch(url, range=wanted)
        except TimeoutError:
            continue
    return pytest.fail("no answer")


def test_a_file_too_large_to_compress_ahead_of_time_is_published_as_it_is(library, tmp_path, monkeypatch):
    monkeypatch.setattr(compressing, "LIMIT_BYTES", 10_000)
    folder = tmp_path / "site"
    folder.mkdir()
    texts = {"limit.txt": b"0123456789\n" * 909 + b"\n", "over.txt": b"0123456789\n" * 909 + b"\n\n"}
    for name, content in texts.items():
        (folder / name).write_bytes(content)
    report = publish_folder(library, str(folder), lambda *_: None)
    assert (report.files, report.compressed) == (2, 1)
    kept = {name: library.codings_of(sha256(content).hexdigest()) for name, content in texts.items()}
    assert [one.coding for one in kept["limit.txt"]] == ["br", "zstd", "gzip"]
    assert kept["over.txt"] is None
