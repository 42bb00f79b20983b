"""Two neighbouring versions of a well-known npm package as releases: published, switched, rolled back, byte by byte."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from shutil import ignore_patterns
from urllib.parse import urlsplit

import pytest

PACKAGES = {"older": "bootstrap@5.3.2", "newer": "bootstrap@5.3.3"}
CODINGS = (None, "br", "gzip", "zstd")
SURELY_COMPRESSED_BYTES = 1024
LIMIT_S = 200

pytestmark = pytest.mark.timeout(500)  # two versions are compressed as well as can be, beside other tests


@pytest.fixture(scope="module")
def folders(unpack_npm, tmp_path_factory) -> dict[str, Path]:
    """The files of each version, without source maps: two thirds of the bytes, and minutes of compressing."""
    return {
        name: Path(shutil.copytree(unpack_npm(one), tmp_path_factory.mktemp(name) / "site", ignore=ignore_patterns("*.map")))
        for name, one in PACKAGES.items()
    }


@pytest.fixture(scope="module")
def contents(folders) -> dict[str, dict[str, bytes]]:
    """The files of each version, by path: ``dist``, each of whose files names the version, and sources, many the same."""
    return {
        name: {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
        for name, folder in folders.items()
    }


@pytest.fixture(scope="module")
def run_command(tmp_path_factory):
    """``run_command("publish", ...)`` runs the program on the data folder of this module, and returns what it says."""
    folder = tmp_path_factory.mktemp("releases")

    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "assetserver", *map(str, arguments), "--data", str(folder / "data")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.data = folder / "data"
    return run


@pytest.fixture(scope="module")
def reports(run_command, folders) -> dict[str, dict[str, object]]:
    """What publishing each version said, the older first."""
    return {name: json.loads(run_command("publish", folder, "--alias", name, "--json")) for name, folder in folders.items()}


@pytest.fixture
def ask(origin, run_command):
    """``ask(path, coding, **fields)`` returns status, fields and content from a server of the data folder."""
    parts = urlsplit(origin(None, "--data", run_command.data))
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)) as connection:

        def run(path, coding=None, **fields):
            connection.putrequest("GET", path, skip_accept_encoding=True)
            for name, value in ({"accept-encoding": coding} if coding else {}).items() | fields.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.headers, response.read()

        yield run


def check_served(ask, decode, files: dict[str, bytes], gone: set[str]) -> None:
    """Every file is there in every coding, whole, in part and not again; and nothing of the other version."""
    for path, content in files.items():
        tags = {}
        for coding in CODINGS:
            status, fields, coded = ask(f"/{path}", coding)
            used = fields["content-encoding"]
            assert status == 200, path
            assert used == coding or (used is None and len(content) < SURELY_COMPRESSED_BYTES), (path, coding, used)
            assert decode(coded, used) == content, (path, coding)
            assert int(fields["content-length"]) == len(coded)
            assert ask(f"/{path}", coding, if_none_match=fields["etag"])[0] == 304
            status, part, piece = ask(f"/{path}", coding, range="bytes=10-19", if_range=fields["etag"])
            assert (status, part["etag"], piece) == (206, fields["etag"], coded[10:20]), path
            tags[used] = fields["etag"]
        assert len(set(tags.values())) == len(tags), path
    assert {path: ask(f"/{path}")[0] for path in gone} == dict.fromkeys(gone, 404)


def test_the_second_version_reuses_what_it_has_in_common_with_the_first(contents, reports):
    older, newer = contents["older"], contents["newer"]
    assert len(older) > 150
    known = set(older.values())
    new = {content for content in newer.values() if content not in known}
    assert 0 < len(new) < len(set(newer.values()))
    assert reports["older"]["files"] == len(older)
    assert reports["older"]["new"] == len(known)
    assert (reports["newer"]["files"], reports["newer"]["new"]) == (len(newer), len(new))
    assert reports["newer"]["new_bytes"] == sum(map(len, new))
    assert set(reports["newer"]["saved"]) == {"br", "zstd", "gzip"}


def test_publishing_a_version_again_stores_nothing(reports, run_command, folders):
    def list_data() -> set[Path]:
        return {file for file in run_command.data.rglob("*") if file.is_file() and file.name != "state.json"}

    before = list_data()
    again = json.loads(run_command("publish", folders["newer"], "--json"))
    assert (again["id"], again["new"], again["new_bytes"]) == (reports["newer"]["id"], 0, 0)
    assert list_data() == before


def test_each_version_is_served_byte_by_byte_before_and_after_a_switch_and_a_rollback(
    ask, contents, reports, run_command, decode, poll
):
    older, newer = contents["older"], contents["newer"]
    changed = "dist/css/bootstrap.css"

    def switch(name: str, *arguments: object) -> None:
        run_command(*arguments)
        poll(lambda: ask(f"/{changed}")[2], lambda content: content == contents[name][changed])

    switch("older", "promote", "@older")
    assert (run_command.data / f"releases/{reports['older']['id']}.index").stat().st_size > 0
    check_served(ask, decode, older, newer.keys() - older.keys())
    old_tag = ask(f"/{changed}")[1]["etag"]

    switch("newer", "promote", str(reports["newer"]["id"])[:8])
    check_served(ask, decode, newer, older.keys() - newer.keys())
    status, fields, content = ask(f"/{changed}", range="bytes=100-199", if_range=old_tag)
    assert (status, content) == (200, newer[changed])  # never the end of one version after the beginning of another
    assert fields["etag"] != old_tag

    switch("older", "rollback")
    check_served(ask, decode, older, newer.keys() - older.keys())
    assert ask(f"/{changed}", if_none_match=old_tag)[0] == 304
    rows = json.loads(run_command("releases", "--json"))
    assert {row["id"]: row["active"] for row in rows} == {reports["newer"]["id"]: False, reports["older"]["id"]: True}
