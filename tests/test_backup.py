"""Backups of a server that is in use, and what is restored from them."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from assetserver.cli import main
from assetserver.data import open_library, open_media_blobs, open_records
from assetserver.releases.verify import verify
from assetserver.settings import load_settings, redact

SECONDS = 3.0


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("backup", …)`` runs a command in the folder of the test; returns what it printed, on both, and the code."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ASSETSERVER_")]:
        monkeypatch.delenv(name)

    def run(*words):
        result = CliRunner().invoke(main, list(map(str, words)))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.stdout, result.stderr, result.exit_code

    return run


def write_site(folder: Path, text: str) -> Path:
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    for path in ("index.html", "docs/index.html", "app.css"):
        (folder / path).write_text(f"<!doctype html><title>{path}</title><p>{text} " + path * 200)
    return folder


def ask(base, method, path, token, body=None):
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def settings_of(data: Path):
    return load_settings(overrides={"data.path": str(data)})


def uploads_of(data: Path) -> dict[str, str]:
    """Return the digests of the complete uploads that records of ``data`` name, by id."""
    records = open_records(settings_of(data))
    try:
        found, cursor, uploads = {}, "", records.uploads()
        while True:
            page, cursor = uploads.list_uploads(None, cursor, 500)
            found |= {one.id: one.sha256 for one in page if one.state == "complete"}
            if not cursor:
                return found
    finally:
        records.close()


def check_whole(data: Path) -> None:
    """Every record's blob is there with its bytes, and so is all that the sites keep."""
    blobs = open_media_blobs(settings_of(data))
    for digest in uploads_of(data).values():
        assert sha256(b"".join(blobs.read(digest))).hexdigest() == digest
    report = verify(open_library(settings_of(data)), lambda *_: None)
    assert report.faults == []
    assert report.unkept == report.unreferenced == 0


class Busy:
    """Uploads, removals and publishes, until it is told to stop. ``done``: what was acknowledged, and when."""

    def __init__(self, base: str, token: str, folder: Path, run) -> None:
        self.base, self.token, self.folder = base, token, folder
        self.stop = threading.Event()
        self.stored: dict[str, tuple[float, str]] = {}
        self.removed: dict[str, float] = {}
        self.failures: list[object] = []
        self.published = 0.0
        jobs = [self.upload, self.upload, self.remove, self.publish]
        self.threads = [threading.Thread(target=self._guard, args=(job,)) for job in jobs]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)
        assert self.failures == []

    def _guard(self, job):
        number = 0
        while not self.stop.is_set():
            try:
                job(number)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                self.failures.append(error)
                return
            number += 1

    def upload(self, number):
        body = os.urandom(3000)
        status, content = ask(self.base, "POST", f"/uploads?name={number}.bin", self.token, body)
        assert status == 201, content
        [one] = json.loads(content)["uploads"]
        self.stored[one["id"]] = (time.time(), sha256(body).hexdigest())

    def remove(self, number):
        time.sleep(0.02)
        there = [one for one in list(self.stored) if one not in self.removed]
        if len(there) > 5:
            one = there[number % len(there)]
            self.removed[one] = time.time()  # before it is asked for: from now on it may be gone
            assert ask(self.base, "DELETE", f"/uploads/{one}", self.token)[0] in {200, 204}

    def publish(self, number):
        site = write_site(self.folder / "busy", f"release {number}")
        command = [sys.executable, "-m", "assetserver", "publish", site, "--prod", "--data", self.folder / "data"]
        subprocess.run(list(map(str, command)), cwd=self.folder, check=True, capture_output=True, timeout=60)
        self.published = time.time()


def test_all_that_was_recorded_before_a_backup_is_in_it(run, origin, tmp_path):
    data = tmp_path / "data"
    run("publish", write_site(tmp_path / "site", "first"), "--prod", "--data", data)
    token = run("token", "create", "--scope", "upload", "--data", data)[0].split()[-1]
    config = f'[data]\npath = "{data}"\n[images]\nenabled = false\n'
    base = origin(None, config=config)
    moments, begun_last, first_published = [], time.time(), 0.0
    with Busy(base, token, tmp_path, run) as busy:
        deadline_s = time.monotonic() + SECONDS
        while time.monotonic() < deadline_s or len(moments) < 3 or not 0 < first_published < begun_last:
            begun_last, generation = time.time(), open_library(settings_of(data)).site("default").read().generation
            out, err, code = run("backup", tmp_path / "copy", "--data", data, "--json")
            assert (code, err) == (0, ""), out
            moments.append(json.loads(out))
            first_published = first_published or busy.published
        ended = time.time()
    assert len(busy.stored) > 10
    assert busy.removed
    assert run("restore", tmp_path / "copy", "--data", tmp_path / "again")[2] == 0
    check_whole(tmp_path / "again")
    found = uploads_of(tmp_path / "again")
    for one, (stored, digest) in busy.stored.items():
        if stored < begun_last and busy.removed.get(one, ended) >= ended:
            assert found[one] == digest
    assert open_library(settings_of(tmp_path / "again")).site("default").read().generation >= generation
    again = origin(None, config=config.replace(str(data), str(tmp_path / "again")))
    assert b"<p>release" in ask(again, "GET", "/", token)[1]
    assert ask(again, "POST", "/uploads?name=a.txt", token, b"hello")[0] == 201


@pytest.fixture
def backed(run, tmp_path):
    """A data folder with a release and a backup of it."""
    run("publish", write_site(tmp_path / "site", "first"), "--prod")
    run("token", "create", "--scope", "upload")
    assert run("backup", "copy")[2] == 0
    return tmp_path / "copy"


def test_a_backup_is_continued_with_what_is_new(run, backed, tmp_path):
    write_site(tmp_path / "site", "first")
    (tmp_path / "site/index.html").write_text("<p>other")
    run("publish", "site", "--prod")
    report = json.loads(run("backup", "copy", "--json")[0])
    assert 0 < report["new_blobs"] < report["blobs"]
    assert json.loads(run("backup", "copy", "--json")[0])["new_blobs"] == 0
    assert len(list((backed / "snapshots").iterdir())) == 1
    blob = next(path for path in (backed / "blobs").rglob("*") if path.is_file())
    assert blob.stat().st_nlink == 2  # the same disk: nothing is written twice
    run("gc", "--keep", "0", "--keep-days", "0")
    run("backup", "copy")
    assert run("restore", "copy", "--data", "again")[2] == 0
    check_whole(tmp_path / "again")


def test_what_unfinished_uploads_held_is_to_be_sent_again(run, origin, tmp_path):
    token = run("token", "create", "--scope", "upload")[0].split()[-1]
    run("publish", write_site(tmp_path / "site", "first"), "--prod")
    base = origin(None, config=f'[data]\npath = "{tmp_path}/data"\n')
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    fields = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    connection.request("POST", "/uploads", b"", fields)
    location = connection.getresponse().headers["location"]
    connection.close()
    assert run("backup", "copy")[2] == 0
    assert run("restore", "copy", "--data", "again")[2] == 0
    again = origin(None, config=f'[data]\npath = "{tmp_path}/again"\n')
    assert ask(again, "GET", urlsplit(location).path, token)[0] == 410


def test_a_damaged_blob_is_told_by_verify_and_never_restored(run, backed, tmp_path):
    path = max((path for path in (backed / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + b"!")  # in the backup alone
    out, err, code = run("restore", "copy", "--data", "again")
    assert (out, code) == ("", 1)
    assert "1 of the backup's blobs are missing or damaged" in err
    assert not (tmp_path / "again/sites").exists()
    assert run("backup", "copy", "--verify")[2] == 0
    assert path.read_bytes() == content
    assert run("restore", "copy", "--data", "again")[2] == 0  # goes on where it was
    check_whole(tmp_path / "again")
    damaged = tmp_path / "data/blobs" / path.parent.name / path.name
    damaged.chmod(0o644)
    damaged.unlink()
    path.unlink()
    damaged.write_bytes(content[:-1] + b"?")
    out, err, code = run("backup", "copy", "--verify")
    assert (code, f"blob {path.name} of a release is damaged" in err) == (1, True)


def test_a_snapshot_that_was_altered_is_not_restored(run, backed, tmp_path):
    [state] = backed.glob("snapshots/*/sites/default/state.json")
    state.write_text(state.read_text().replace("first", "other") + " ")
    assert "is not what was written" in run("restore", "copy", "--data", "again")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("backup", "copy", "--data", "nowhere"), "there is no data folder nowhere; if it is elsewhere, name it with --data"),
        (("backup", "data/copy"), "hold one another; name a folder elsewhere, best on another disk"),
        (("backup", "site"), "site is not empty, and holds no backup; name an empty folder"),
        (("backup", "site/index.html"), "site/index.html is a file; name a folder"),
        (("restore", "site"), "site holds no backup; name the folder that assetserver backup wrote to"),
        (("restore", "copy", "--config", "elsewhere.toml", "--data", "again"), "other.sqlite3 is there already; move it away"),
        (("restore", "copy"), "data is not empty; restore into an empty folder, or one that is not there yet: --data"),
        (("restore", "copy", "--data", "site/index.html"), "is a file; name a folder with --data"),
    ],
)
def test_what_cannot_be_is_told(run, backed, words, message, tmp_path):
    (tmp_path / "other.sqlite3").touch()
    (tmp_path / "elsewhere.toml").write_text(f'[database]\nurl = "sqlite:///{tmp_path}/other.sqlite3"\n')
    out, err, code = run(*words)
    assert (out, code) == ("", 1)
    assert message in err


def test_a_backup_of_a_newer_version_is_told(run, backed):
    (backed / "backup.json").write_text('{"format": 2, "snapshot": "x"}')
    assert "has format 2, and this version knows 1" in run("restore", "copy", "--data", "again")[1]
    (backed / "backup.json").write_text('{"format": 1, "snapshot": ""}')
    assert "is not complete: its first run did not end" in run("restore", "copy", "--data", "again")[1]


def test_settings_are_kept_without_secrets(run, tmp_path):
    (tmp_path / "assetserver.toml").write_text(
        '[database]\nurl = "sqlite"\n[access]\nkeys = ["a:' + "s" * 32 + '"]\n[webhooks]\nurl = "https://a.example"\n'
        'secrets = ["whsec_' + "A" * 32 + '"]\n[[purge]]\nname = "c"\nservice = "cloudflare"\nzone = "z"\ntoken = "hushhush"\n'
        'origins = ["https://a.example"]\n'
    )
    run("publish", write_site(tmp_path / "site", "first"), "--prod")
    run("backup", "copy")
    [kept] = (tmp_path / "copy").glob("snapshots/*/settings.json")
    found = json.loads(kept.read_text())
    assert found["access"]["keys"] == ["…"]
    assert found["webhooks"]["secrets"] == ["…"]
    assert found["purge"][0]["token"] == "…"  # noqa: S105 - that is none
    url = "postgresql://me:secret@db/x"
    assert redact(load_settings(overrides={"database.url": url}))["database"]["url"] == "postgresql://…@db/x"
