"""Skew protection: a request that names a kept release gets the files of it, and no cache gives them to anybody else."""

from __future__ import annotations

import http.client
import json
import time
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from assetserver.app import create_app
from assetserver.cli import main
from assetserver.settings import load_settings

SCRIPT = "app." + sha256(b"1").hexdigest()[:12] + ".js"
SITE = {"404.html": b"lost", "_redirects": b"/from /data.json\n", SCRIPT: b"1"}
OLD = SITE | {"index.html": b"page 1", "data.json": b"[1]", "only.txt": b"old", "_headers": b"/*\n  x-rules: 1\n"}
NEW = SITE | {"index.html": b"page 2", "data.json": b"[2]"}
ALL = ["query", "header", "cookie"]
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def releases(tmp_path_factory) -> dict[str, str]:
    """A data folder, and the ids of two kept releases: ``old``, which an alias means, too, and ``new``, which is active."""
    folder = tmp_path_factory.mktemp("site")
    found = {"data": str(folder / "data")}
    for name, files, flags in (("old", OLD, ["--alias", "dpl-q8k3"]), ("new", NEW, [])):
        for path, content in files.items():
            (folder / name).mkdir(exist_ok=True)
            (folder / name / path).write_bytes(content)
        command = ["publish", str(folder / name), "--data", found["data"], "--json", "--prod", *flags]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        found[name] = json.loads(result.output)["id"]
    return found


@pytest.fixture
def client(releases):
    opened = []

    def open_client(previews=True, **site):
        settings = {"data.path": releases["data"], "server.access_log": "off", "sites": [site], "previews.enabled": previews}
        opened.append(TestClient(create_app(load_settings(None, {}, settings))))
        return opened[-1].__enter__()

    yield open_client
    for one in opened:
        one.__exit__(None, None, None)


def test_every_answer_says_of_which_release_it_is(releases, client):
    http = client()
    short = releases["new"][:12]
    for path in ("/", "/data.json", "/nothing", "/nothing.js", "/from", "/" + SCRIPT):
        for _ in range(2):
            assert http.get(path, follow_redirects=False).headers["x-release"] == short
    assert http.get("/", headers={"If-None-Match": http.get("/").headers["etag"]}).headers["x-release"] == short
    assert http.get(f"/-/releases/{releases['old']}/").headers["x-release"] == releases["old"][:12]
    assert "x-release" not in http.get("/-/healthy").headers
    assert "x-release" not in client(tell_release=False).get("/").headers


def test_an_alias_pins_nothing_where_there_are_no_previews(releases, client):
    http = client(previews=False)
    for name in ("dpl-q8k3", "@dpl-q8k3"):
        assert http.get("/data.json", params={"dpl": name}).text == "[2]"
    assert http.get("/data.json", params={"dpl": releases["old"]}).text == "[1]"


@pytest.mark.parametrize("name", ["{old}", "{short}", "dpl-q8k3", "dpl_Q8K3", "@dpl-q8k3"])
def test_a_url_that_names_a_kept_release_gets_the_files_of_it(releases, client, name):
    http = client()
    pin = name.format(old=releases["old"], short=releases["old"][:12])
    for _ in range(3):
        answers = {path: http.get(path, params={"dpl": pin}) for path in ("/data.json", "/only.txt", "/", "/" + SCRIPT)}
        assert [one.text for one in answers.values()] == ["[1]", "old", "page 1", "1"]
        assert {one.headers["x-release"] for one in answers.values()} == {releases["old"][:12]}
        assert {one.headers["x-rules"] for one in answers.values()} == {"1"}
        assert [http.get(path).text for path in ("/data.json", "/", "/" + SCRIPT)] == ["[2]", "page 2", "1"]
        assert http.get("/nothing.js", params={"dpl": pin}).status_code == 404
    assert answers["/data.json"].headers["cache-control"] == http.get("/data.json").headers["cache-control"]
    assert "vary" not in answers["/data.json"].headers


@pytest.mark.parametrize(
    "pin", ["", "nothing", "{short_one}", "0123456789ab", "a" * 64, "a" * 5000, "%00", "../x", "[", "{new}", "\x80", "@"]
)
def test_a_pin_that_means_no_other_release_is_ignored(releases, client, pin):
    http = client(pins=ALL)
    name = pin.format(short_one=releases["old"][:11], new=releases["new"])
    fields = {
        "x-deployment-id": name.encode("latin-1"),
        "sec-fetch-dest": "empty",
        "cookie": f"__vdpl={name}".encode("latin-1"),
    }
    http.get("/data.json")
    plain = http.get("/data.json")
    for _ in range(2):
        pinned = http.get("/data.json", params={"dpl": name}, headers=fields)
        without = [
            [one for one in answer.headers.items() if one[0] not in ("date", "x-request-id")] for answer in (plain, pinned)
        ]
        assert (pinned.text, without[1]) == ("[2]", without[0])
    assert http.get("/only.txt", params={"dpl": name}).status_code == 404


def test_where_pins_are_switched_off_nothing_is_pinned(releases, client):
    fields = {"x-deployment-id": releases["old"], "sec-fetch-dest": "empty", "cookie": "__vdpl=" + releases["old"]}
    assert client(pins=[]).get("/data.json", params={"dpl": releases["old"]}).text == "[2]"
    assert client().get("/data.json", headers=fields).text == "[2]"


@pytest.mark.parametrize("way", ["header", "cookie"])
def test_what_a_field_chose_is_for_nobody_else(releases, client, way):
    http = client(pins=ALL)
    header = {"x-deployment-id": releases["old"]}
    fields = header if way == "header" else {"cookie": f'a="b"; __vdpl={releases["old"]}; c=d', "sec-fetch-dest": "script"}
    for _ in range(3):
        answer = http.get("/data.json", headers=fields)
        assert (answer.text, answer.headers["cache-control"]) == ("[1]", "private, no-cache")
        assert http.get("/" + SCRIPT, headers=fields).headers["cache-control"] == "public, max-age=31536000, immutable"
        plain = http.get("/data.json")
        assert (plain.text, plain.headers["vary"]) == ("[2]", "x-deployment-id, cookie")
        assert "vary" not in http.get("/" + SCRIPT).headers


@pytest.mark.parametrize("fields", [{"sec-fetch-dest": "document"}, {"sec-fetch-dest": "iframe"}, {}])
def test_a_cookie_never_pins_what_may_be_a_document(releases, client, fields):
    answer = client(pins=ALL).get("/", headers={"cookie": "__vdpl=" + releases["old"], **fields})
    assert answer.text == "page 2"


@pytest.mark.parametrize("cookie", ["__vdpl", "__vdpl=", '__vdpl="', "=;__vdpl=\xff", "__vdpl=a b", "x=__vdpl"])
def test_a_malformed_cookie_pins_nothing(client, cookie):
    answer = client(pins=ALL).get("/data.json", headers={"cookie": cookie.encode("latin-1"), "sec-fetch-dest": "empty"})
    assert (answer.status_code, answer.text) == (200, "[2]")


def test_a_field_wins_over_the_url(releases, client):
    answer = client(pins=ALL).get("/data.json", params={"dpl": releases["new"]}, headers={"x-deployment-id": releases["old"]})
    assert answer.text == "[1]"


def test_a_way_that_nobody_knows_is_refused_with_the_ones_there_are(releases):
    with pytest.raises(Exception, match='"query", "header" or "cookie"'):
        load_settings(None, {}, {"data.path": releases["data"], "sites": [{"pins": ["url"]}]})


def test_pins_hold_on_the_hot_path_and_end_with_what_they_name(tmp_path, origin):
    """Served as it is in production: answers come from the hot path, and an alias that moves is noticed."""
    data = tmp_path / "data"

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(main, [*map(str, arguments), "--data", str(data)])
        assert result.exit_code == 0, result.output
        return result.output

    def write(name: str, files: dict[str, bytes]) -> Path:
        for path, content in files.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / path).write_bytes(content)
        return tmp_path / name

    run("publish", write("one", OLD), "--prod", "--alias", "mine")
    run("publish", write("two", NEW), "--prod")
    address = origin(None, "--data", data, config='[[sites]]\npins = ["query", "header", "cookie"]\n').removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)

    def ask(target: str, **fields: str) -> str:
        connection.request("GET", target, headers={name.replace("_", "-"): value for name, value in fields.items()})
        return connection.getresponse().read().decode()

    for _ in range(8):
        assert (ask("/data.json"), ask("/data.json?dpl=mine"), ask("/data.json?dpl=other")) == ("[2]", "[1]", "[2]")
        assert ask("/data.json", X_Deployment_Id="mine") == "[1]"
        assert ask("/data.json", Cookie="a=b; __vdpl=mine", Sec_Fetch_Dest="empty") == "[1]"
        assert ask("/data.json", Cookie="a=b", Sec_Fetch_Dest="empty") == "[2]"
    run("publish", write("two", NEW), "--alias", "mine")
    deadline_s = time.monotonic() + DEADLINE_S
    while ask("/data.json?dpl=mine") != "[2]":
        assert time.monotonic() < deadline_s, "the alias is pinned to what it meant before"
        time.sleep(0.05)
    connection.close()
