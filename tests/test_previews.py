"""Kept releases at addresses of their own, before they are live and after."""

import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from assetserver.app import create_app
from assetserver.cli import main
from assetserver.settings import load_settings

FIRST, SECOND = ({"index.html": b"<p>%d" % number, "docs/index.html": b"docs %d" % number} for number in (1, 2))


@pytest.fixture
def data(tmp_path):
    return str(tmp_path / "data")


@pytest.fixture
def publish(tmp_path, data):
    """``publish(files, *flags)`` returns what ``publish --json`` says."""

    def run(files, *flags):
        folder = tmp_path / "dist"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        result = CliRunner().invoke(main, ["publish", str(folder), "--data", data, "--json", *flags])
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    return run


@pytest.fixture
def client(data):
    """A client of the application; keywords are settings."""
    opened = []

    def open_client(**settings):
        app = create_app(load_settings(overrides={"data.path": data, "server.access_log": "off", **settings}))
        opened.append(TestClient(app))
        return opened[-1].__enter__()

    yield open_client
    for one in opened:
        one.__exit__(None, None, None)


def test_a_release_can_be_looked_at_before_it_is_live(publish, client):
    publish(FIRST, "--prod")
    second = publish(SECOND, "--alias", "staging")
    http = client()
    assert http.get("/").text == "<p>1"
    for name in (second["id"], second["id"][:12], "@staging"):
        page = http.get(f"/-/releases/{name}/")
        assert (page.text, page.headers["x-robots-tag"], page.headers["cache-control"]) == ("<p>2", "noindex", "no-cache")
        assert http.get(f"/-/releases/{name}/docs/").text == "docs 2"
        assert http.get(f"/-/releases/{name}/docs", follow_redirects=False).headers["location"] == f"/-/releases/{name}/docs/"
        bare = http.get(f"/-/releases/{name}?a=1", follow_redirects=False)
        assert (bare.status_code, bare.headers["location"]) == (308, f"/-/releases/{name}/?a=1")


def test_an_alias_follows_what_it_names(publish, client):
    publish(FIRST, "--alias", "staging")
    http = client()
    assert http.get("/-/releases/@staging/").text == "<p>1"
    publish(SECOND, "--alias", "staging")
    assert http.get("/-/releases/@staging/").text == "<p>2"


def test_the_rules_of_a_release_make_a_preview_neither_stored_nor_indexed(publish, client):
    headers = b"/*\n  Cache-Control: public, max-age=31536000, immutable\n  X-Robots-Tag: all\n  x-own: 1\n"
    publish(FIRST | {"404.html": b"lost", "_headers": headers, "_redirects": b"/from /docs/ 301\n"}, "--alias", "staging")
    http = client()
    for path in ("/", "/index.html", "/from", "/docs", ""):
        answer = http.get(f"/-/releases/@staging{path}", follow_redirects=False)
        assert (answer.headers["cache-control"], answer.headers["x-robots-tag"]) == ("no-cache", "noindex")
    assert http.get("/-/releases/@staging/").headers["x-own"] == "1"
    missing = http.get("/-/releases/@staging/nothing")
    assert (missing.status_code, missing.headers["x-robots-tag"], missing.headers["x-own"]) == (404, "noindex", "1")


def test_a_site_of_one_host_is_not_shown_at_another(publish, client):
    release = publish(FIRST, "--alias", "staging")["id"]
    http = client(sites=[{"host": "intranet.example"}, {"name": "other", "prefix": "/"}])
    for name in (release, release[:12], "@staging"):
        assert http.get(f"/-/releases/{name}/").status_code == 404
        for host in ("intranet.example", "INTRANET.example:8080", "intranet.example."):
            assert http.get(f"/-/releases/{name}/", headers={"Host": host}).text == "<p>1"


def test_a_release_cannot_be_found_by_trying(publish, client):
    release = publish(FIRST)["id"]
    http = client()
    assert {http.get(f"/-/releases/{release[:length]}/").status_code for length in range(1, 12)} == {404}


@pytest.mark.parametrize("name", ["@nothing", "0123456789ab", "abc", "a" * 64, "%00", "%FF", "..%2f..", "x" * 3000])
def test_a_release_that_nobody_keeps_is_a_miss_that_nobody_stores(publish, client, name):
    publish(FIRST, "--prod")
    answer = client().get(f"/-/releases/{name}/")
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")


def test_a_preview_can_have_a_host_of_its_own(publish, client):
    release = publish(FIRST)["id"]
    http = client(**{"previews.host": "preview.example.com"})
    for label in (release[:12], release[:12].upper()):
        page = http.get("/docs/", headers={"Host": f"{label}.preview.example.com"})
        assert (page.text, page.headers["x-robots-tag"]) == ("docs 1", "noindex")
    assert http.get("/", headers={"Host": "0123456789ab.preview.example.com"}).status_code == 404
    assert publish(FIRST)["preview"].startswith("http://127.0.0.1:8000/-/releases/")


def test_previews_can_be_switched_off(publish, client):
    release = publish(FIRST)["id"]
    assert client(**{"previews.enabled": False}).get(f"/-/releases/{release}/").status_code == 404


def test_a_websocket_to_a_preview_is_closed(publish, client):
    release = publish(FIRST)["id"]
    http = client()
    for name in (release, "nothing"):
        with pytest.raises(WebSocketDisconnect), http.websocket_connect(f"/-/releases/{name}/"):
            pass


def test_more_previews_than_are_held_open_still_answer(publish, client):
    releases = [publish({"index.html": b"<p>%d" % number})["id"] for number in range(20)]
    http = client()
    for _ in range(2):
        texts = [http.get(f"/-/releases/{release}/").text for release in releases]
        assert texts == [f"<p>{number}" for number in range(20)]


def test_the_address_that_publish_prints_is_where_the_release_is(publish, origin, data, free_port, tmp_path):
    port = free_port()
    config = tmp_path / "assetserver.toml"
    config.write_text(f"[server]\nport = {port}\n")
    url = publish(FIRST, "--config", str(config))["preview"]
    assert url.startswith(f"http://127.0.0.1:{port}/")
    assert origin(None, "--data", data, "--port", str(port))
    assert httpx.get(url, timeout=60).text == "<p>1"


def test_a_release_is_made_of_the_settings_of_its_site(tmp_path, data):
    config = tmp_path / "assetserver.toml"
    config.write_text('[[sites]]\nname = "docs"\nprefix = "/docs"\nimmutable = ["assets/*"]\n[publish]\nsource_maps = "stop"\n')
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "assets/app.js").write_text("1")

    def run(*flags):
        return CliRunner().invoke(main, ["publish", str(folder), "--data", data, "--config", str(config), *flags])

    told = json.loads(run("--site", "docs", "--json").output)
    assert told["fingerprints"] == {"assets/app.js": "declared by assets/*"}
    (folder / "assets/app.js.map").write_text("{}")
    stopped = run("--site", "docs")
    assert stopped.exit_code == 1
    assert "assets/app.js.map" in stopped.output
    assert "publish.source_maps" in stopped.output
    assert not Path(data, "sites", "docs", "lock.new").exists()


def test_a_preview_that_shows_files_of_the_live_site_is_told(tmp_path, data):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/app.css").write_text("a {}")
    told = []
    for page in ('<link rel="stylesheet" href="/app.css">', '<link rel="stylesheet" href="app.css">'):
        (tmp_path / "dist/index.html").write_text(page)
        told.append(CliRunner().invoke(main, ["publish", str(tmp_path / "dist"), "--data", data]).output)
    assert ["previews.host" in output for output in told] == [True, False]
