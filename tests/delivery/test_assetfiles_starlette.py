"""What Starlette promises of ``StaticFiles`` holds of ``AssetFiles``, in Starlette, FastAPI and alone, on asyncio and trio."""

import sys
from importlib import invalidate_caches
from pathlib import Path

import anyio
import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from assetserver.delivery.assetfiles import AssetFiles

CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 100


@pytest.fixture
def site(make_site):
    return make_site(
        {"a.css": CSS, "index.html": "home", "404.html": "lost", "docs/index.html": "docs", "big.bin": bytes(3 << 20)}
    )


def mounted(app, path="/static", **options) -> Starlette:
    return Starlette(routes=[Mount(path, app, name="static")], **options)


class TestPromises:
    def test_it_is_a_static_files(self, site):
        assert isinstance(site.app, StaticFiles)

    def test_url_path_for_names_a_file(self, site):
        assert mounted(site.app).url_path_for("static", path="/a.css") == "/static/a.css"

    def test_starlettes_keywords_mean_what_they_mean(self, site, resources):
        files = AssetFiles(
            directory=site.root, packages=None, html=True, check_dir=True, follow_symlink=False, resources=resources
        )
        client = TestClient(mounted(files, "/"))
        assert client.get("/").text == "home"
        assert client.get("/docs").text == "docs"
        assert (client.get("/nothing").status_code, client.get("/nothing").text) == (404, "lost")
        assert (files.directory, files.html, files.follow_symlink) == (site.root, True, False)

    def test_a_missing_directory_is_an_error_at_once_unless_told_otherwise(self, tmp_path, resources, ask):
        with pytest.raises(RuntimeError, match="does not exist"):
            AssetFiles(directory=tmp_path / "nothing", resources=resources)
        files = AssetFiles(directory=tmp_path / "nothing", check_dir=False, resources=resources)
        files.folder.clock_s = lambda: 0.0
        assert ask(files, "/a.css").status == 404
        (tmp_path / "nothing").mkdir()
        (tmp_path / "nothing" / "a.css").write_bytes(CSS)
        files.folder.clock_s = lambda: 1.0
        assert ask(files, "/a.css").status == 200

    def test_a_directory_may_be_a_string_or_a_path(self, site, resources, ask):
        for directory in (site.root, str(site.root)):
            assert ask(AssetFiles(directory=directory, resources=resources), "/a.css").status == 200

    def test_package_directories_are_served_after_the_directory(self, site, tmp_path, monkeypatch, resources, ask):
        for name, folder in (("one", "statics"), ("two", "assets")):
            (tmp_path / "lib" / name / folder).mkdir(parents=True)
            (tmp_path / "lib" / name / "__init__.py").touch()
            (tmp_path / "lib" / name / folder / "a.css").write_text(name)
            (tmp_path / "lib" / name / folder / f"{name}.css").write_text(name)
        (tmp_path / "lib" / "two" / "assets" / "both.css").write_text("two")
        (tmp_path / "lib" / "one" / "statics" / "both.css").write_text("one")
        monkeypatch.syspath_prepend(tmp_path / "lib")
        invalidate_caches()
        files = AssetFiles(directory=site.root, packages=["one", ("two", "assets")], resources=resources)
        expected = {"/a.css": CSS, "/one.css": b"one", "/two.css": b"two", "/both.css": b"one"}
        assert {path: ask(files, path).body for path in expected} == expected
        assert ask(files, "/__init__.py").status == 404
        only = AssetFiles(packages=[("two", "assets")], resources=resources)
        assert ask(only, "/a.css").body == b"two"
        with pytest.raises(AssertionError, match="could not be found"):
            AssetFiles(packages=["no_such_package"], resources=resources)
        for name in ("one", "two"):
            sys.modules.pop(name, None)

    def test_a_subclass_may_choose_the_directories(self, site, tmp_path, resources, ask):
        class Themed(AssetFiles):
            def get_directories(self, directory=None, packages=None):
                return [tmp_path / "theme", *super().get_directories(directory, packages)]

        (tmp_path / "theme").mkdir()
        (tmp_path / "theme" / "a.css").write_text("theme")
        files = Themed(directory=site.root, resources=resources)
        assert [ask(files, path).body for path in ("/a.css", "/index.html")] == [b"theme", b"home"]

    def test_a_websocket_is_closed(self, site):
        with pytest.raises(WebSocketDisconnect), TestClient(mounted(site.app)).websocket_connect("/static/a.css"):
            pass

    @pytest.mark.parametrize("name", ["file_response", "lookup_path", "is_not_modified", "check_config"])
    def test_overriding_what_is_never_called_is_an_error(self, name):
        with pytest.raises(TypeError, match=f"Broken.{name} would never be called: override get_response"):
            type("Broken", (AssetFiles,), {name: lambda self, *_: None})

    def test_such_an_override_in_a_mixin_is_an_error_too(self):
        class Mixin:
            def file_response(self, *_):
                return None

        with pytest.raises(TypeError):
            type("Broken", (Mixin, AssetFiles), {})


class TestErrors:
    def test_inside_starlette_a_miss_is_the_apps_own_page(self, site, make_site):
        def handle(request, error):
            return JSONResponse({"error": error.detail}, error.status_code, error.headers)

        client = TestClient(mounted(site.app, exception_handlers={404: handle, 405: handle}))
        missing, refused = client.get("/static/gone.js"), client.post("/static/a.css")
        assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})
        assert missing.headers["cache-control"] == "no-store"
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")

    def test_inside_starlette_it_is_an_http_exception(self, site, make_scope, exchange):
        scope = make_scope("/nothing") | {"starlette.exception_handlers": ({}, {})}
        with pytest.raises(HTTPException) as caught:
            anyio.run(exchange, site.app, scope)
        assert caught.value.status_code == 404

    def test_alone_it_is_a_plain_answer(self, site):
        answer = site.get("/nothing")
        assert (answer.status, answer.body) == (404, b"Not Found\n")


class TestSubclasses:
    @pytest.fixture
    def build(self, site, resources):
        return lambda base, **options: TestClient(
            mounted(base(directory=site.root, resources=resources, **options), "/"), follow_redirects=False
        )

    def test_the_usual_single_page_pattern_works(self, build):
        class SinglePage(AssetFiles):
            async def get_response(self, path, scope):
                try:
                    return await super().get_response(path, scope)
                except HTTPException as error:
                    if error.status_code != 404:
                        raise
                    return await super().get_response("index.html", scope)

        client = build(SinglePage)
        for _ in range(2):
            assert client.get("/users/42").text == "home"
            assert client.get("/a.css").content == CSS
            assert client.post("/a.css").status_code == 405
        tag = client.get("/users/42").headers["etag"]
        assert client.get("/users/43", headers={"If-None-Match": tag}).status_code == 304

    def test_the_other_usual_single_page_pattern_works(self, build):
        class SinglePage(AssetFiles):
            async def get_response(self, path, scope):
                response = await super().get_response(path, scope)
                if response.status_code == 404:
                    response = await super().get_response(".", scope)
                return response

        client = build(SinglePage, html=True)
        assert (client.get("/users/42").status_code, client.get("/users/42").text) == (200, "home")

    def test_fields_may_be_changed_every_time(self, build):
        class Own(AssetFiles):
            count = 0

            async def get_response(self, path, scope):
                response = await super().get_response(path, scope)
                type(self).count += 1
                response.headers["cache-control"] = "private"
                response.headers["x-count"] = str(self.count)
                response.headers.append("x-path", path)
                response.set_cookie("seen", "1")
                return response

        client = build(Own)
        for count in (1, 2, 3):
            answer = client.get("/a.css", headers={"Accept-Encoding": "identity"})
            assert (answer.headers["x-count"], answer.headers["cache-control"]) == (str(count), "private")
            assert (answer.headers["x-path"], answer.content) == ("a.css", CSS)
        assert client.get("/big.bin").headers["cache-control"] == "private"

    def test_another_status_may_be_set(self, build):
        class Teapot(AssetFiles):
            async def get_response(self, path, scope):
                response = await super().get_response(path, scope)
                response.status_code = 418
                return response

        assert build(Teapot).get("/a.css").status_code == 418

    def test_background_work_runs_after_the_answer(self, build):
        ran = []

        class Counting(AssetFiles):
            async def get_response(self, path, scope):
                response = await super().get_response(path, scope)
                response.background = BackgroundTask(ran.append, path)
                return response

        client = build(Counting)
        client.get("/a.css")
        client.get("/big.bin")
        assert ran == ["a.css", "big.bin"]

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_an_answer_may_be_replaced_without_leaking_the_file(self, build, site, count_descriptors, wait_until):
        class Private(AssetFiles):
            async def get_response(self, path, scope):
                response = await super().get_response(path, scope)
                return PlainTextResponse("no", 403) if path == "big.bin" else response

        def is_free():  # threads read the file as well, to identify it
            site.resources.open_files.clear()
            return count_descriptors(site.root) == 0

        assert build(Private).get("/big.bin").status_code == 403
        wait_until(is_free, "the end of the file")

    def test_the_path_may_be_chosen_per_request(self, build, site):
        site.write("en/a.css", "english")
        site.write("de/a.css", "deutsch")

        class Localized(AssetFiles):
            def get_path(self, scope):
                language = dict(scope["headers"]).get(b"accept-language", b"en").decode()
                return f"{language}/{super().get_path(scope)}"

        client = build(Localized)
        for language, text in (("en", "english"), ("de", "deutsch")) * 2:
            assert client.get("/a.css", headers={"Accept-Language": language}).text == text

    @pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a\0b", "x" * 5000, "//a.css", "..", ".env"])
    def test_a_path_from_a_subclass_leads_out_no_more_than_one_from_a_client(self, build, path):
        class Fixed(AssetFiles):
            async def get_response(self, _, scope):
                return await super().get_response(path, scope)

        assert build(Fixed).get("/x").status_code in (200, 404)
        assert b"root:" not in build(Fixed).get("/x").content


class TestPlaces:
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_it_runs_on_both_event_loops_one_after_another(self, site, ask, backend):
        site.app.html = True
        for _ in range(2):
            for path, status in (("/a.css", 200), ("/big.bin", 200), ("/docs", 308), ("/nothing", 404), ("/../x", 404)):
                assert ask(site.app, path, backend=backend, accept_encoding="br").status == status
            site.forget()

    @pytest.mark.anyio
    @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
    async def test_it_answers_an_asynchronous_client(self, site, anyio_backend):
        transport = httpx.ASGITransport(app=mounted(site.app))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get("/static/a.css", headers={"Accept-Encoding": "gzip"})
            assert (answer.status_code, answer.headers["content-encoding"], answer.content) == (200, "gzip", CSS)
            assert (await client.get("/static/big.bin")).content == bytes(3 << 20)
            assert (await client.get("/static/nothing")).status_code == 404

    def test_one_instance_may_be_mounted_twice(self, site):
        site.write("static/a.css", "nested")
        client = TestClient(Starlette(routes=[Mount("/static", site.app), Mount("/", site.app)]))
        for _ in range(2):
            assert client.get("/static/a.css").content == CSS
            assert client.get("/a.css").content == CSS
            assert client.get("/static/static/a.css").text == "nested"

    def test_nested_mounts_know_their_whole_prefix(self, site):
        site.app.html = True
        client = TestClient(mounted(mounted(site.app, "/inner"), "/outer"), follow_redirects=False)
        assert client.get("/outer/inner/a.css").content == CSS
        assert client.get("/outer/inner/docs?x=1").headers["location"] == "/outer/inner/docs/?x=1"

    def test_a_server_with_a_root_path_is_answered_below_it(self, site, make_scope, exchange):
        site.app.html = True
        app = mounted(site.app)
        scope = make_scope("/static/docs", root_path="/api")
        answer = anyio.run(exchange, app, scope)
        assert (answer.status, answer["location"]) == (308, "/api/static/docs/")

    def test_middleware_that_rewrites_the_path_is_obeyed_every_time(self, site, make_scope, exchange):
        site.write("b.css", "other")

        class Rewrite:
            def __init__(self, app):
                self.app = app

            async def __call__(self, scope, receive, send):
                if any(name == b"x-b" for name, _ in scope["headers"]):
                    scope = scope | {"path": "/b.css"}
                await self.app(scope, receive, send)

        app = Rewrite(site.app)
        for _ in range(2):
            assert anyio.run(exchange, app, make_scope("/a.css")).body == CSS
            assert anyio.run(exchange, app, make_scope("/a.css", headers=[(b"x-b", b"1")])).body == b"other"

    def test_middleware_with_a_stream_in_between_works(self, site):
        class Passing(BaseHTTPMiddleware):
            async def dispatch(self, request, call_next):
                response = await call_next(request)
                response.headers["x-passed"] = "1"
                return response

        client = TestClient(mounted(site.app, middleware=[Middleware(Passing)]))
        for path in ("/static/a.css", "/static/big.bin"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["x-passed"]) == (200, "1")
        assert client.get("/static/big.bin", headers={"Range": "bytes=1-2"}).content == b"\0\0"

    def test_a_route_beside_it_keeps_working(self, site):
        routes = [Route("/api", lambda request: PlainTextResponse("api")), Mount("/", site.app)]
        client = TestClient(Starlette(routes=routes))
        assert (client.get("/api").text, client.get("/a.css").content) == ("api", CSS)


class TestFastAPI:
    @pytest.fixture
    def client(self, site):
        app = FastAPI()

        @app.get("/items")
        def read_items() -> list[str]:
            return ["one"]

        app.mount("/static", site.app, name="static")
        return TestClient(app, follow_redirects=False)

    def test_files_and_routes_live_side_by_side(self, client):
        assert client.get("/items").json() == ["one"]
        answer = client.get("/static/a.css", headers={"Accept-Encoding": "br"})
        assert (answer.headers["content-encoding"], answer.content) == ("br", CSS)
        assert (
            client.get("/static/a.css", headers={"If-None-Match": answer.headers["etag"], "Accept-Encoding": "br"}).status_code
            == 304
        )

    def test_a_miss_is_answered_as_fastapi_answers(self, client):
        answer = client.get("/static/nothing.js")
        assert (answer.status_code, answer.json(), answer.headers["cache-control"]) == (
            404,
            {"detail": "Not Found"},
            "no-store",
        )
        assert client.post("/static/a.css").headers["allow"] == "GET, HEAD, OPTIONS"

    def test_the_url_of_a_file_is_known(self, client):
        assert client.app.url_path_for("static", path="/a.css") == "/static/a.css"


def test_the_folder_of_this_package_is_not_needed(tmp_path: Path, monkeypatch, site):
    monkeypatch.chdir(tmp_path)
    assert site.get("/a.css").status == 200
