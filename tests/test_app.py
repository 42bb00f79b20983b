"""The whole application: mounts by prefix and host, errors in the client's form, request ids, exactly one Host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from assetserver.app import app, create_app
from assetserver.cli import main
from assetserver.errors import SettingsError
from assetserver.settings import load_settings


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("v1", "v2", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(f"<h1>{name}</h1>")
        (tmp_path / name / "app.js").write_text(f"console.log('{name}')")
    return tmp_path


def client_of(site: Path, text: str) -> TestClient:
    config = site / "assetserver.toml"
    config.write_text('[server]\naccess_log = "off"\n' + text)
    return TestClient(create_app(load_settings(config)), follow_redirects=False)


def mount(prefix: str, directory: str, more: str = "") -> str:
    return f'[[mounts]]\nprefix = "{prefix}"\ndirectory = "{directory}"\n{more}\n'


def test_the_longest_prefix_wins_whatever_the_order(site: Path) -> None:
    with client_of(site, mount("/", "v1") + mount("/static/v2", "v2") + mount("/static", "other")) as client:
        assert client.get("/app.js").text == "console.log('v1')"
        assert client.get("/static/app.js").text == "console.log('other')"
        assert client.get("/static/v2/app.js").text == "console.log('v2')"


def test_a_host_has_its_own_mounts_and_falls_back_on_the_general_ones(site: Path) -> None:
    text = mount("/", "v1") + mount("/static", "v2") + mount("/", "other", 'host = "other.test"')
    with client_of(site, text) as client:
        assert client.get("/app.js").text == "console.log('v1')"
        assert client.get("/app.js", headers={"host": "other.test"}).text == "console.log('other')"
        assert client.get("/static/app.js", headers={"host": "other.test"}).text == "console.log('v2')"


def test_a_prefix_without_its_slash_redirects_by_path_and_keeps_the_query(site: Path) -> None:
    with client_of(site, mount("/static/v1", "v1")) as client:
        answer = client.get("/static/v1?x=1")
        assert (answer.status_code, answer.headers["location"]) == (308, "/static/v1/?x=1")


def test_a_versioned_mount_is_immutable_and_a_plain_one_is_not(site: Path) -> None:
    with client_of(site, mount("/", "v1") + mount("/static/v1", "v1", 'cache = "immutable"')) as client:
        assert client.get("/static/v1/app.js").headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get("/app.js").headers["cache-control"] == "public, max-age=60, stale-while-revalidate=3600"
        assert client.get("/").headers["cache-control"] == "no-cache"


def test_rules_match_the_whole_url_path_and_carry_the_cdns_fields(site: Path) -> None:
    rule = '[[cache]]\nmatch = "/static/*.js"\nbrowser = "max-age=5"\ncdn = "max-age=99"\ntags = ["js"]\n'
    text = mount("/", "v1") + mount("/static", "v2") + rule + '[cdn]\nprofile = "fastly"\n'
    with client_of(site, text) as client:
        fields = client.get("/static/app.js").headers
        assert fields["cache-control"] == "max-age=5"
        assert fields["surrogate-control"] == "max-age=99"
        assert fields["surrogate-key"] == "js"
        assert "surrogate-control" not in client.get("/app.js").headers


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/html,*/*", "text/html; charset=utf-8"),
        ("application/json", "application/problem+json"),
        ("*/*", "text/plain; charset=utf-8"),
    ],
)
def test_errors_come_in_the_form_that_the_client_reads(site: Path, accept: str, media_type: str) -> None:
    with client_of(site, mount("/static", "v1")) as client:
        answer = client.get("/nowhere", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (404, media_type)
        assert answer.headers["cache-control"] == "no-store"
        if "json" in media_type:
            assert json.loads(answer.text)["status"] == 404


EMPTY = "Nothing is published here yet."


@pytest.mark.parametrize("accept", ["text/html", "application/json", "*/*"])
def test_the_root_of_an_empty_site_says_that_it_is_empty_and_nothing_of_the_machine(site: Path, accept: str) -> None:
    with client_of(site, '[data]\npath = "d"\n[[sites]]\nprefix = "/docs"\n') as client:
        root = client.get("/docs/", headers={"accept": accept})
        assert (root.status_code, EMPTY in root.text, str(site) in root.text) == (404, True, False)
        assert root.headers["cache-control"] == "no-cache"
        for path in ("/docs/a", "/docs/a/", "/docs/a.css", "/docs/%00", "/"):
            other = client.get(path, headers={"accept": accept})
            assert (other.status_code, EMPTY in other.text) == (404, False), path


def test_a_site_without_an_index_page_is_not_called_empty(site: Path) -> None:
    (site / "v1" / "index.html").unlink()
    words = ["publish", str(site / "v1"), "--prod", "--data", str(site / "d")]
    assert CliRunner().invoke(main, words).exit_code == 0
    with client_of(site, '[data]\npath = "d"\n[[sites]]\nprefix = "/"\n') as client:
        assert (client.get("/app.js").status_code, client.get("/").status_code) == (200, 404)
        assert EMPTY not in client.get("/").text


def test_nothing_under_the_servers_own_prefix_is_a_sites(site: Path) -> None:
    (site / "v1" / "-").mkdir()
    (site / "v1" / "-" / "secret").write_text("x")
    (site / "v1" / "404.html").write_text("the site's page")
    with client_of(site, mount("/", "v1")) as client:
        assert client.get("/-/healthy").text == "ok\n"
        assert client.get("/-/secret").status_code == 404
        assert "the site's page" not in client.get("/-/secret").text
        assert client.get("/other").text == "the site's page"


def test_every_answer_has_a_request_id_of_its_own(site: Path) -> None:
    with client_of(site, mount("/", "v1")) as client:
        ids = {client.get("/app.js").headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [("1.1", 0, 400), ("1.1", 1, 200), ("1.1", 2, 400), ("1.0", 0, 200), ("1.0", 2, 400), ("2", 0, 200)],
)
@pytest.mark.anyio
async def test_a_request_needs_exactly_one_host(
    site: Path, version: str, hosts: int, status: int, anyio_backend_name: str
) -> None:
    fields = [(b"host", b"a.test")] * hosts
    assert await status_of(site, {"http_version": version, "headers": fields}) == status


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("GET", 400)])
@pytest.mark.anyio
async def test_only_options_may_ask_about_the_server_as_a_whole(
    site: Path, method: str, status: int, anyio_backend_name: str
) -> None:
    assert await status_of(site, {"method": method, "path": "*", "raw_path": b"*"}) == status


async def status_of(site: Path, changes: dict[str, object]) -> object:
    """Return the status that the application answers a request of our own making with."""
    config = site / "assetserver.toml"
    config.write_text('[server]\naccess_log = "off"\n' + mount("/", "v1"))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/app.js",
        "raw_path": b"/app.js",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"a.test")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        **changes,
    }
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await create_app(load_settings(config))(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (mount("/", "gone"), ":5: there is no folder"),
        (mount("/-/x", "v1"), ":4: '/-/x' cannot be served: /- is the server's own"),
        (mount("/", "v1") + '[[cache]]\nmatch = "*.js"\nbrowser = "max-age"\n', ":9: cache[0].browser: max-age needs a number"),
        (mount("/", "v1") + '[[cache]]\nmatch = "[a"\n', ":8: cache[0].match: a set in a glob is not closed"),
        (
            mount("/", "v1") + '[[cache]]\nmatch = "*"\nbrowser = "s-maxage=1, stale-while-revalidate=1"\n',
            ":9: cache[0].browser: s-maxage forbids",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_with_their_line(site: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        client_of(site, text)
    assert f"assetserver.toml{message}" in str(error.value)


def test_names_that_the_package_has_not_are_not_made_up() -> None:
    import assetserver  # noqa: PLC0415 - the package's own __getattr__ is what is tested

    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        assetserver.nope  # noqa: B018 - looking it up is the point
    assert all(getattr(assetserver, name) is not None for name in assetserver.__all__)


@pytest.mark.anyio
async def test_a_server_that_starts_with_wrong_settings_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    monkeypatch.setenv("ASSETSERVER_CONFIG", str(tmp_path / "gone.toml"))
    sent: list[dict[str, str]] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, str]) -> None:
        sent.append(message)

    await type(app)()({"type": "lifespan"}, receive, send)
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert "gone.toml" in sent[0]["message"]
