"""The short way for known URLs repeats what the long way decided, byte for byte, and only while it is certain."""

import gzip
import os
from hashlib import shake_256
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assetserver.delivery.assetfiles import AssetFiles


def noise(seed: int, size: int) -> bytes:
    """Return bytes that no coding makes smaller, the same for the same seed."""
    return shake_256(bytes([seed])).digest(size)


CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 100
FILES = {
    "a.css": CSS,
    "b.css": CSS + b"/* b */",
    "small.txt": b"hello world",
    "empty.css": b"",
    "image.png": noise(1, 5000),
    "big.bin": noise(2, (2 << 20) + 10),
    "index.html": b"<p>home</p>" * 100,
    "about.html": b"<p>about</p>" * 100,
    "docs/index.html": b"<p>docs</p>" * 100,
    "404.html": b"<p>lost</p>" * 100,
}
PATHS = [
    "/a.css",
    "/b.css",
    "/small.txt",
    "/empty.css",
    "/image.png",
    "/big.bin",
    "/",
    "/about",
    "/docs/",
    "/docs",
    "/nothing",
    "/nothing.js",
    "//a.css",
    "/%61.css",
    "/a.css?x",
]


@pytest.fixture
def pair(make_site):
    """Two apps on one folder: one takes the short way where it can, the other never."""
    options = {"html": True, "clean_urls": True}
    warm, cold = make_site(FILES, **options), make_site(**options)
    for name in FILES:
        os.utime(warm.root / name, (10**9, 10**9))
    cold.app._may_be_hot = False
    for site in (warm, cold):
        for name in FILES:
            site.settle(name)
    return warm, cold


def tags_of(site) -> list[str]:
    found = []
    for path in ("/a.css", "/b.css", "/image.png", "/"):
        for coding in ("identity", "br", "zstd", "gzip"):
            answer = site.get(path, accept_encoding=coding)
            found.append(answer["etag"])
    return found


def fields_strategy(tags: list[str]):
    tag = st.sampled_from(
        [*tags[:6], *("W/" + one for one in tags[:2]), '"other"', "*", "", "garbage", f"{tags[0]}, {tags[1]}"]
    )
    coding = st.sampled_from(
        [
            "br",
            "gzip",
            "zstd",
            "gzip, br",
            "br;q=0.1, gzip",
            "*",
            "identity",
            "identity;q=0",
            "*;q=0",
            "",
            "br;q=0",
            "GZIP",
            "\xff",
            "x" * 2000,
        ]
    )
    date = st.sampled_from(
        ["Sun, 09 Sep 2001 01:46:40 GMT", "Sun, 09 Sep 2001 01:46:39 GMT", "Fri, 01 Jan 2100 00:00:00 GMT", "never", ""]
    )
    span = st.sampled_from(
        ["bytes=0-4", "bytes=-1", "bytes=5-6,0-1", "bytes=999999999-", "bytes=abc", "items=0-1", "", "bytes=0-"]
    )
    digest = st.sampled_from(["sha-256=1", "sha-256=0", "sha-512=1", ""])
    line = st.one_of(
        st.tuples(st.just("accept-encoding"), coding),
        st.tuples(st.just("accept-encoding"), coding),
        st.tuples(st.just("if-none-match"), tag),
        st.tuples(st.just("if-none-match"), tag),
        st.tuples(st.just("if-match"), tag),
        st.tuples(st.sampled_from(["if-modified-since", "if-unmodified-since"]), date),
        st.tuples(st.just("range"), span),
        st.tuples(st.just("if-range"), st.one_of(tag, date)),
        st.tuples(st.just("want-repr-digest"), digest),
        st.tuples(st.sampled_from(["accept", "cookie", "user-agent"]), st.just("x")),
    )
    return st.lists(line, max_size=4)


def comparable(answer):
    fields = sorted(field for field in answer.fields if field[0] not in (b"date", b"cache-status"))
    return answer.status, fields, answer.body


@settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_sequence_of_requests_is_answered_as_on_the_long_way(pair, make_scope, exchange, data):
    warm, cold = pair
    if not hasattr(warm, "tags"):
        warm.tags = tags_of(cold)
    request = st.tuples(
        st.sampled_from(["GET", "GET", "GET", "GET", "HEAD", "POST", "OPTIONS"]),
        st.sampled_from([*PATHS, "/a.css", "/a.css"]),
        fields_strategy(warm.tags),
    )
    requests = data.draw(st.lists(request, min_size=2, max_size=12))

    async def replay() -> None:
        for method, path, fields in requests:
            scope = make_scope(path, method, [(name.encode(), value.encode("latin-1")) for name, value in fields])
            assert comparable(await exchange(warm.app, scope)) == comparable(await exchange(cold.app, scope)), (
                method,
                path,
                fields,
            )

    anyio.run(replay)


@pytest.mark.parametrize("coding", ["identity", "br", "zstd", "gzip"])
def test_a_known_url_is_answered_from_memory_alone(pair, coding):
    warm, _ = pair
    first = warm.get("/a.css", accept_encoding=coding)
    warm.app.get_response = None  # the long way is closed
    again = warm.get("/a.css", accept_encoding=coding)
    assert (again.status, again.body, again["etag"]) == (200, first.body, first["etag"])
    assert again["cache-status"] == "assetserver; hit"
    unchanged = warm.get("/a.css", accept_encoding=coding, if_none_match=first["etag"], if_modified_since="whenever")
    assert (unchanged.status, unchanged.body) == (304, b"")
    assert unchanged.get("content-length") is None


def test_an_empty_if_none_match_does_not_change_later_304s(pair):
    warm, _ = pair
    tag = warm.get("/a.css")["etag"]
    assert warm.get("/a.css", if_none_match="").status == 200
    answer = warm.get("/a.css", if_none_match=tag)
    assert (answer.status, answer.get("content-length"), answer.get("content-type")) == (304, None, None)


@pytest.mark.parametrize("change", ["replace", "delete", "sidecar"])
def test_a_change_is_noticed_after_the_freshness_time(pair, change):
    warm, _ = pair
    before = warm.get("/image.png", accept_encoding="gzip")
    match change:
        case "replace":
            warm.write("image.png", b"new")
        case "delete":
            (warm.root / "image.png").unlink()
        case "sidecar":
            warm.write("image.png.gz", gzip.compress(FILES["image.png"]))
    assert warm.get("/image.png", accept_encoding="gzip").body == before.body
    warm.forget()
    after = warm.get("/image.png", accept_encoding="gzip")
    assert after.body != before.body
    expected = {"replace": (200, None), "delete": (404, "gzip"), "sidecar": (200, "gzip")}
    assert (after.status, after.get("content-encoding")) == expected[change]


def test_what_is_no_longer_trusted_is_not_repeated(pair):
    warm, _ = pair
    warm.get("/image.png")
    warm.write("image.png", b"new")
    warm.app.folder.distrust("image.png")
    assert warm.get("/image.png").body == b"new"


def test_what_is_changed_in_one_answer_does_not_show_in_the_next(pair, make_scope):
    warm, _ = pair
    warm.get("/a.css")
    seen = []

    async def run():
        async def send(message):
            if message["type"] == "http.response.start":
                seen.append(len(message["headers"]))
                message["headers"].append((b"x-added", b"1"))

        async def receive():
            await anyio.sleep_forever()

        for _ in range(3):
            await warm.app(make_scope("/a.css"), receive, send)

    anyio.run(run)
    assert len(set(seen)) == 1


def test_a_subclass_that_decides_itself_never_takes_it(site_root: Path, resources, ask):
    class Own(AssetFiles):
        asked = 0

        async def get_response(self, path, scope):
            type(self).asked += 1
            return await super().get_response(path, scope)

    app = Own(directory=site_root, resources=resources)
    for _ in range(3):
        ask(app, "/a.css")
    assert (Own.asked, len(app._hot)) == (3, 0)


@pytest.fixture
def site_root(make_site) -> Path:
    return make_site({"a.css": CSS}).root
