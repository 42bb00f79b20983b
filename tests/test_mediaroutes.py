"""Where uploads are served, joined: what is opened, and what happens when records or keys cannot be read."""

from __future__ import annotations

import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from assetserver.app import create_app
from assetserver.errors import SettingsError
from assetserver.settings import load_settings

ID = "A" * 24
KEY = "k:" + "s" * 32
SECRET = f"ast_{'0' * 12}_{'0' * 48}"
OPENS = """
import sys
from starlette.testclient import TestClient
from assetserver.app import create_app
from assetserver.settings import load_settings
with TestClient(create_app(load_settings(None, {}, {"data.path": sys.argv[1]}))) as client:
    for path in ("/", "/media/AAAAAAAAAAAAAAAAAAAAAAAA/a.png", "/media/by-name/a.png", "/media/x", "/-/console/"):
        client.get(path)
    assert client.post("/uploads", headers={"Authorization": "Bearer " + sys.argv[2]}).status_code == 401
assert "sqlalchemy" not in sys.modules
"""


@pytest.fixture
def open_app(tmp_path):
    def make(**overrides):
        named = {name.replace("__", "."): value for name, value in overrides.items()}
        return create_app(load_settings(None, {}, {"data.path": str(tmp_path / "data"), **named}))

    return make


def test_looking_opens_no_database_and_makes_no_folder(tmp_path):
    command = [sys.executable, "-c", OPENS, str(tmp_path / "data"), SECRET]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "data").exists()


def test_records_that_cannot_be_read_are_503(open_app, tmp_path, caplog):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "records.sqlite3").write_bytes(b"no database at all" * 100)
    with TestClient(open_app()) as client:
        answer = client.get(f"/media/{ID}/a.png")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "uploads cannot be looked up" in caplog.text


def test_keys_that_cannot_be_read_are_503_for_grants(open_app, tmp_path, caplog):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keys").write_text("nothing\n")
    with TestClient(open_app()) as client:
        answer = client.post("/uploads", headers={"Authorization": "Bearer asg_e30.k." + "s" * 43})
    assert answer.status_code == 503
    assert "keys:1: " in caplog.text


def test_keys_of_one_name_are_told_at_the_start(open_app):
    with pytest.raises(SettingsError, match="different names"):
        open_app(access__keys=[KEY, KEY])


def test_without_uploads_there_is_no_media(open_app):
    with TestClient(open_app(uploads__enabled=False, publish__remote=False)) as client:
        for path in (f"/media/{ID}/a.png", "/-/console/", "/uploads"):
            assert client.get(path).status_code == 404


def test_a_folder_of_a_site_called_media_is_served_beside_uploads(open_app, tmp_path):
    folder = tmp_path / "site"
    (folder / "media" / "deep").mkdir(parents=True)
    (folder / "media" / "tone.wav").write_bytes(b"tone")
    (folder / "media" / "deep" / "a.png").write_bytes(b"deep")
    with TestClient(open_app(mounts=[{"prefix": "/", "directory": str(folder)}])) as client:
        assert client.get("/media/tone.wav").content == b"tone"
        assert client.get("/media/deep/a.png").content == b"deep"
        assert client.get(f"/media/{ID}/a.png").status_code == 404


def test_a_folder_of_a_site_called_uploads_is_served_beside_uploads(open_app, tmp_path):
    folder = tmp_path / "site"
    (folder / "uploads" / "deep").mkdir(parents=True)
    (folder / "uploads" / "tone.wav").write_bytes(b"tone")
    (folder / "uploads" / "index.html").write_text("index")
    (folder / "uploads" / "deep" / "a.png").write_bytes(b"deep")
    with TestClient(open_app(mounts=[{"prefix": "/", "directory": str(folder)}])) as client:
        for path, content in (("tone.wav", b"tone"), ("deep/a.png", b"deep"), ("", b"index")):
            assert client.get(f"/uploads/{path}").content == content
        assert client.head("/uploads/tone.wav").headers["content-length"] == "4"
        assert {client.get(f"/uploads{path}").status_code for path in ("", f"/{ID}", "/by-name/tone.wav")} == {401}
        refused = client.put("/uploads/tone.wav", content=b"mine", headers={"Authorization": "Bearer x"})
        assert (refused.status_code, refused.headers["content-type"]) == (405, "application/problem+json")
        assert client.put("/uploads/deep/a.png", content=b"mine").status_code == 404
