"""``CacheHeaders`` gives every answer of any app an explicit policy, and leaves alone what has one."""

import anyio
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient

from assetserver.delivery.assetfiles import AssetFiles
from assetserver.delivery.cacheheaders import CacheHeaders
from assetserver.semantics.caching import (
    ASSET,
    ERROR,
    IMMUTABLE,
    MISSING_PAGE,
    PAGE,
    REDIRECT,
    CachePolicy,
    CacheRule,
    CacheTable,
)


def answering(status: int = 200, **fields: str):
    """Return an app that answers everything alike."""
    return Response(b"" if status in (204, 304) else b"content", status, {k.replace("_", "-"): v for k, v in fields.items()})


@pytest.mark.parametrize(
    ("status", "policy"),
    [
        (200, ASSET),
        (203, ASSET),
        (206, ASSET),
        (301, REDIRECT),
        (302, ERROR),
        (303, ERROR),
        (307, ERROR),
        (308, REDIRECT),
        (404, MISSING_PAGE),
        (410, MISSING_PAGE),
        (400, ERROR),
        (403, ERROR),
        (405, ERROR),
        (412, ERROR),
        (416, ERROR),
        (429, ERROR),
        (500, ERROR),
        (503, ERROR),
        (204, None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_status_has_its_policy(ask, status, policy, method):
    answer = ask(CacheHeaders(answering(status)), "/app.js", method)
    assert (answer.status, answer.get("cache-control")) == (status, policy)


@pytest.mark.parametrize("status", [200, 206, 304, 308, 404, 500])
@pytest.mark.parametrize("name", ["Cache-Control", "cache-control", "CACHE-CONTROL"])
def test_an_answer_that_says_what_may_be_kept_is_left_alone(ask, status, name):
    table = CacheTable(profile="generic", tags=("all",))
    answer = ask(CacheHeaders(answering(status, **{name: "private, max-age=5"}), table), "/app.js")
    assert answer["cache-control"] == "private, max-age=5"
    assert answer.get("cache-tag") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "DELETE"])
def test_other_methods_are_left_alone(ask, method):
    assert "cache-control" not in ask(CacheHeaders(answering()), "/app.js", method)


@pytest.mark.parametrize(
    ("path", "fields", "policy"),
    [
        ("/app.js", {"content_type": "text/javascript"}, ASSET),
        ("/page", {"content_type": "text/html; charset=utf-8"}, PAGE),
        ("/page.html", {}, PAGE),
        ("/", {}, PAGE),
        ("/docs/", {}, PAGE),
        ("/data", {"content_type": "application/json"}, ASSET),
    ],
)
@pytest.mark.parametrize("status", [200, 206])
def test_pages_are_asked_for_again_and_assets_are_kept_a_while(ask, path, fields, policy, status):
    assert ask(CacheHeaders(answering(status, **fields)), path)["cache-control"] == policy


def test_a_304_without_a_type_never_makes_a_page_fresh(ask):
    """The 200 of a page under a clean URL says no-cache; its 304 must not lengthen that."""
    assert ask(CacheHeaders(answering(200, content_type="text/html")), "/about")["cache-control"] == PAGE
    assert ask(CacheHeaders(answering(304)), "/about")["cache-control"] == PAGE
    assert ask(CacheHeaders(answering(304)), "/app.css")["cache-control"] == ASSET


@pytest.mark.parametrize("status", [200, 206, 304])
def test_rules_targeted_fields_and_tags_go_on_200_206_and_304_alike(ask, status):
    rule = CacheRule("static/v1/**", CachePolicy("max-age=5", "max-age=50", ("v1",)))
    app = CacheHeaders(answering(status), CacheTable(rules=(rule,), profile="generic", tags=("site",)))
    answer = ask(app, "/static/v1/app.js")
    assert (answer["cache-control"], answer["cdn-cache-control"], answer["cache-tag"]) == ("max-age=5", "max-age=50", "site,v1")
    assert ask(app, "/static/v2/app.js")["cache-control"] == ASSET


def test_declared_fingerprints_and_versions_are_immutable(ask):
    assert ask(CacheHeaders(answering(), CacheTable(immutable=("assets/*",))), "/assets/x.js")["cache-control"] == IMMUTABLE
    assert ask(CacheHeaders(answering(), CacheTable(versioned=True)), "/x.js")["cache-control"] == IMMUTABLE
    assert ask(CacheHeaders(answering(404), CacheTable(versioned=True)), "/x.js")["cache-control"] == MISSING_PAGE


@pytest.mark.parametrize(("status", "policy"), [(200, "private, no-cache"), (301, "private, no-cache"), (404, ERROR)])
def test_what_is_for_one_visitor_is_not_shared(ask, status, policy):
    """``public`` would hand it to the next one (RFC 9111 §3.5, §7.3)."""
    with_cookie = ask(CacheHeaders(answering(status, set_cookie="session=1")), "/app.js")
    authorized = ask(CacheHeaders(answering(status)), "/app.js", authorization="Bearer x")
    assert with_cookie["cache-control"] == authorized["cache-control"] == policy


def test_the_apps_own_list_of_fields_is_not_changed(ask):
    fields = [(b"content-type", b"text/css")]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"x"})

    for _ in range(2):
        assert ask(CacheHeaders(app), "/a.css")["cache-control"] == ASSET
    assert fields == [(b"content-type", b"text/css")]


def test_an_app_that_sends_no_field_list_is_served(ask):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    assert ask(CacheHeaders(app), "/a.css")["cache-control"] == ASSET


def test_a_stream_passes_piece_by_piece_as_it_comes(make_scope):
    events = []

    async def pieces():
        for number in range(3):
            events.append(f"made {number}")
            yield b"%d" % number

    async def send(message):
        if message.get("body"):
            events.append(f"sent {message['body'].decode()}")

    async def receive():
        await anyio.sleep_forever()

    anyio.run(CacheHeaders(StreamingResponse(pieces())), make_scope("/stream"), receive, send)
    assert events == ["made 0", "sent 0", "made 1", "sent 1", "made 2", "sent 2"]


def test_extensions_of_the_protocol_pass_untouched(ask):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.pathsend", "path": "/x", "body": b""})
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": False, "body": b""})

    answer = ask(CacheHeaders(app), "/a.css")
    kinds = [message["type"] for message in answer.messages]
    assert kinds == ["http.response.start", "http.response.pathsend", "http.response.trailers"]
    assert answer.messages[0]["trailers"] is True


def test_errors_of_the_app_pass_through(ask):
    async def app(scope, receive, send):
        raise LookupError("the app's own")

    with pytest.raises(LookupError):
        ask(CacheHeaders(app), "/")


def test_websockets_and_lifespan_pass_through():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    for kind in ("websocket", "lifespan"):
        anyio.run(CacheHeaders(app), {"type": kind}, None, None)
    assert seen == ["websocket", "lifespan"]


def test_stock_static_files_get_the_same_policy_on_200_206_and_304(tmp_path):
    (tmp_path / "a.css").write_text("a {}")
    app = Starlette(routes=[Mount("/static", StaticFiles(directory=tmp_path))])
    app.add_middleware(CacheHeaders, cache=CacheTable(rules=(CacheRule("static/*", CachePolicy("max-age=7")),)))
    client = TestClient(app)
    whole = client.get("/static/a.css")
    part = client.get("/static/a.css", headers={"Range": "bytes=0-1"})
    unchanged = client.get("/static/a.css", headers={"If-None-Match": whole.headers["etag"]})
    assert [answer.status_code for answer in (whole, part, unchanged)] == [200, 206, 304]
    assert {answer.headers["cache-control"] for answer in (whole, part, unchanged)} == {"max-age=7"}
    assert client.get("/static/nothing").headers["cache-control"] == MISSING_PAGE


def test_asset_files_behind_it_keep_their_own_policy(tmp_path, resources):
    (tmp_path / "a.css").write_text("a {}")
    files = AssetFiles(directory=tmp_path, cache=CacheTable(versioned=True), resources=resources)
    routes = [Mount("/static", files), Route("/", lambda request: PlainTextResponse("x"))]
    client = TestClient(Starlette(routes=routes))
    client.app.add_middleware(CacheHeaders)
    assert client.get("/static/a.css").headers["cache-control"] == IMMUTABLE
    assert client.get("/static/nothing.js").headers["cache-control"] == ERROR
    assert client.get("/").headers["cache-control"] == PAGE
