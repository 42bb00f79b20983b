"""The first starts, while nobody has a token."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing, suppress

import pytest
from click.testing import CliRunner

from assetserver.cli import main
from assetserver.firststart import is_first_start, welcome
from assetserver.settings import load_settings

LINK = re.compile(r"console (http://127\.0\.0\.1:\d+)/-/console/#token=(ast_\w+)")


def settings_of(**overrides):
    return load_settings(None, {}, {key.replace("__", "."): value for key, value in overrides.items()})


def read_log(tmp_path):
    return next(tmp_path.glob("assetserver-*.log")).read_text()


def ask_anything(base):
    """Have a request answered: who does that has said all that a start says."""
    with suppress(urllib.error.HTTPError):
        urllib.request.urlopen(base, timeout=60).close()


def test_the_link_opens_the_console_and_its_token_may_everything(origin, tmp_path):
    base = origin(None, "--data", tmp_path / "data")
    ask_anything(base)
    link = LINK.search(read_log(tmp_path))
    with urllib.request.urlopen(f"{base}/-/console/", timeout=60) as page:
        assert b"console.js" in page.read()
        assert "script-src 'self'" in page.headers["content-security-policy"]
    for path in ("/uploads", "/-/api/releases"):
        request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {link[2]}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
    listed = CliRunner().invoke(main, ["token", "list", "--json", "--data", str(tmp_path / "data")])
    record = json.loads(listed.stdout)[0]
    assert (record["scopes"], record["note"]) == (["admin"], "first start")
    assert record["expires"] - record["created"] == 86_400


def test_there_is_no_link_at_the_second_start(origin, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    created = CliRunner().invoke(main, ["token", "create", "--scope", "upload", "--data", str(data)])
    assert created.exit_code == 0
    ask_anything(origin(None, "--data", data))
    assert "token=" not in read_log(tmp_path)


def test_without_a_token_the_console_shows_nothing_of_anybody(origin, tmp_path):
    base = origin(None, "--data", tmp_path / "data")
    for path in ("/uploads", "/-/api/releases"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(base + path, timeout=60)


def test_who_serves_a_folder_gets_no_data_folder(origin, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    ask_anything(origin(site))
    assert "token=" not in read_log(tmp_path)
    assert not (tmp_path / "data").exists()


def test_what_is_published_does_not_matter(origin, tmp_path):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("hello")
    words = ["publish", str(tmp_path / "dist"), "--prod", "--data", str(tmp_path / "data")]
    assert CliRunner().invoke(main, words).exit_code == 0
    ask_anything(origin(None, "--data", tmp_path / "data"))
    assert LINK.search(read_log(tmp_path))


def test_a_start_without_records_does_not_wait_for_the_database(tmp_path):
    code = (
        "import sys\nfrom assetserver.firststart import is_first_start\nfrom assetserver.settings import load_settings\n"
        "assert is_first_start(load_settings(None, {}, {'data.path': sys.argv[1]}))\nassert 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def test_a_start_with_records_does_not_wait_for_what_opens_them(tmp_path):
    created = CliRunner().invoke(main, ["token", "create", "--scope", "upload", "--data", str(tmp_path)])
    assert created.exit_code == 0
    code = (
        "import sys\nimport assetserver.serving\nfrom assetserver.app import create_app\n"
        "from assetserver.firststart import is_first_start\nfrom assetserver.settings import load_settings\n"
        "settings = load_settings(None, {}, {'data.path': sys.argv[1]})\n"
        "create_app(settings)\nassert not is_first_start(settings)\n"
        "print(*(one for one in ('sqlalchemy', 'wsproto', 'assetserver.releases.publish') if one in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60, capture_output=True, text=True)
    assert found.stdout.strip() == ""


def test_a_file_that_nobody_has_filled_is_a_first_start(tmp_path):
    (tmp_path / "records.sqlite3").touch()
    assert is_first_start(settings_of(data__path=str(tmp_path)))


def test_another_programs_database_is_no_first_start_and_stays_as_it_is(tmp_path):
    path = tmp_path / "records.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    before = path.read_bytes()
    assert not is_first_start(settings_of(data__path=str(tmp_path)))
    assert path.read_bytes() == before


def test_it_is_a_first_start_until_there_is_a_token(tmp_path):
    folder = tmp_path / "data"
    assert is_first_start(settings_of(data__path=str(folder)))
    folder.mkdir()
    assert is_first_start(settings_of(data__path=str(folder)))
    assert not is_first_start(settings_of(data__path=str(folder), uploads__enabled=False))
    assert not is_first_start(settings_of(mounts=[{"prefix": "/", "directory": str(folder)}]))
    (folder / "sites").mkdir()
    assert is_first_start(settings_of(data__path=str(folder)))
    assert len(list(welcome(settings_of(data__path=str(folder)), "http://127.0.0.1:1"))) == 2
    assert not is_first_start(settings_of(data__path=str(folder)))


def test_records_that_cannot_be_read_are_no_first_start(tmp_path):
    (tmp_path / "records.sqlite3").write_bytes(b"no database" * 1000)
    assert not is_first_start(settings_of(data__path=str(tmp_path)))


def test_a_folder_that_cannot_be_made_is_said_and_no_reason_not_to_serve(tmp_path):
    (tmp_path / "file").write_text("")
    lines = list(welcome(settings_of(data__path=str(tmp_path / "file" / "data")), "http://127.0.0.1:1"))
    assert len(lines) == 1
    assert lines[0].startswith("no console link: ")


@pytest.mark.parametrize(
    ("server", "address", "link"),
    [
        ({"public_url": "https://www.example.com"}, "http://127.0.0.1:1", "https://www.example.com/-/console/#token=ast_"),
        ({"host": "0.0.0.0", "port": 81}, "http://0.0.0.0:81", "http://127.0.0.1:81/-/console/#token=ast_"),
        ({"port": 0}, "http://127.0.0.1:4711", "http://127.0.0.1:4711/-/console/#token=ast_"),
        ({"uds": "/run/a.sock"}, "unix:/run/a.sock", "/-/console/#token=ast_"),
    ],
)
def test_the_link_is_where_the_server_is_reached(tmp_path, server, address, link):
    overrides = {f"server__{name}": value for name, value in server.items()}
    lines = list(welcome(settings_of(data__path=str(tmp_path / "data"), **overrides), address))
    assert lines[0].startswith(f"console {link}")
