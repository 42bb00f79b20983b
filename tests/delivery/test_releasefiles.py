"""A release's own rules over HTTP: header blocks, redirects, rewrites, error pages, links; and what is counted."""

import anyio
import pytest

from assetserver.delivery import blobsources
from assetserver.delivery.claims import OFFER
from assetserver.delivery.livefolder import FRESH_S

PAGE = b'<!doctype html><link rel="stylesheet" href="/app.css"><script type="module" src="/app.js"></script><p>home'
SITE = {
    "index.html": PAGE,
    "app.css": b"a {}",
    "app.js": b"1",
    "404.html": b"lost",
    "old.html": b"still here",
    "docs/index.html": b"docs",
    "gone.html": b"it is gone",
}


@pytest.fixture
def site(served):
    """Activate ``SITE`` with rules and return how to ask it: ``site(headers=…, redirects=…)("/path")``."""

    def activate(headers="", redirects="", **more):
        rules = {"_headers": headers.encode(), "_redirects": redirects.encode()}
        served.activate(SITE | {name: content for name, content in rules.items() if content} | more)
        served.look()
        return served.get

    return activate


def test_header_rules_take_the_place_of_the_servers_own_fields(site):
    get = site("/app.css\n  Cache-Control: public, max-age=60\n  X-Frame-Options: DENY\n/*\n  x-all: 1\n")
    answer = get("/app.css")
    assert (answer["cache-control"], answer["x-frame-options"], answer["x-all"]) == ("public, max-age=60", "DENY", "1")
    assert get("/app.js").get("x-frame-options") is None
    assert get("/app.js")["x-all"] == "1"


@pytest.mark.parametrize("path", ["/app.css", "/", "/nothing", "/nothing.js"])
def test_header_rules_hold_for_every_answer_with_content_long_way_and_short(site, path):
    get = site("/*\n  x-all: 1\n")
    assert [get(path)["x-all"] for _ in range(3)] == ["1", "1", "1"]
    etag = get(path).get("etag")
    assert etag is None or (get(path, if_none_match=etag).status, get(path, if_none_match=etag)["x-all"]) == (304, "1")


def test_header_rules_are_about_the_url_that_was_asked_for(site):
    get = site("/\n  x-at: root\n/index.html\n  x-at: file\n", "/alias /index.html 200\n")
    for _ in range(2):
        assert [get(path).get("x-at") for path in ("/", "/index.html", "/alias")] == ["root", "file", None]


def test_a_miss_is_not_stored_whatever_the_rules_say(site):
    get = site("/*\n  Cache-Control: public, max-age=31536000, immutable\n")
    assert get("/nothing.0123456789ab.js")["cache-control"] == "no-store"
    assert get("/nothing")["cache-control"] == "no-cache"
    assert get("/app.css")["cache-control"] == "public, max-age=31536000, immutable"


def test_a_content_type_of_the_rules_is_the_one_that_is_sent(site):
    get = site("/app.js\n  Content-Type: text/plain\n")
    assert get("/app.js")["content-type"] == "text/plain"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_keeps_the_query_and_is_stored_only_if_it_is_permanent(site, status):
    get = site(redirects=f"/from /docs/ {status}\n")
    answer = get("/from", query=b"a=1")
    assert (answer.status, answer["location"]) == (status, "/docs/?a=1")
    assert answer["cache-control"] == ("public, max-age=300" if status in (301, 308) else "no-cache")


def test_a_file_wins_over_a_rule_and_a_forced_rule_over_the_file(site):
    get = site(redirects="/old.html /docs/\n/app.js /docs/ 301!\n")
    assert get("/old.html").body == b"still here"
    assert [get("/app.js").status for _ in range(2)] == [301, 301]


def test_a_rewrite_serves_another_file_at_the_url(site):
    get = site(redirects="/app/* /index.html 200\n")
    for _ in range(2):
        answer = get("/app/orders/7")
        assert (answer.status, answer.body, answer.get("location")) == (200, PAGE, None)
    assert get("/app/orders/7", if_none_match=answer["etag"]).status == 304


def test_a_rewrite_to_nothing_is_a_miss(site):
    get = site(redirects="/app/* /nothing.html 200\n")
    assert (get("/app/x").status, get("/app/x").body) == (404, b"lost")


@pytest.mark.parametrize("status", [404, 410, 451])
def test_an_error_page_of_the_rules_has_its_status(site, status):
    get = site(redirects=f"/was/* /gone.html {status}\n")
    answer = get("/was/here")
    assert (answer.status, answer.body, answer["cache-control"]) == (status, b"it is gone", "no-cache")
    assert get("/was/here.js")["cache-control"] == "no-store"
    assert "etag" not in answer


def test_a_rule_that_looks_at_the_query_is_asked_every_time(site):
    get = site(redirects="/find id=:id /docs/:id.html 302\n/find /docs/index.html 200\n")
    for _ in range(2):
        assert get("/find").body == b"docs"
        assert get("/find", query=b"id=7")["location"] == "/docs/7.html"


def test_a_site_below_a_prefix_redirects_inside_it(served):
    served.activate(SITE | {"_redirects": b"/from /docs/\n/out https://example.com/x\n"})
    answers = [served.ask(served.app, path, root_path="/site") for path in ("/from", "/out")]
    assert [answer["location"] for answer in answers] == ["/site/docs/", "https://example.com/x"]


def test_the_rules_of_the_next_release_hold_at_once(served):
    served.activate(SITE | {"_headers": b"/*\n  x-release: one\n", "_redirects": b"/from /docs/\n"})
    assert (served.get("/app.css")["x-release"], served.get("/from").status) == ("one", 301)
    served.activate(SITE | {"_headers": b"/*\n  x-release: two\n"})
    served.look()
    assert (served.get("/app.css")["x-release"], served.get("/from").status) == ("two", 404)


def test_rule_files_are_not_served(site):
    get = site("/*\n  x-all: 1\n", "/from /docs/\n")
    assert [get(path).status for path in ("/_headers", "/_redirects")] == [404, 404]


@pytest.mark.parametrize("path", ["/nothing.js", "/was/here.js"])
def test_the_page_of_an_error_keeps_its_own_type(site, path):
    get = site("/*.js\n  Content-Type: text/javascript\n  x-all: 1\n", "/was/* /gone.html 410\n")
    answer = get(path)
    assert (answer["content-type"], answer["x-all"]) == ("text/html; charset=utf-8", "1")


def test_of_two_lifetimes_the_last_counts(site):
    get = site("/*\n  Cache-Control: public, max-age=9\n/app.css\n  Cache-Control: public, max-age=99\n")
    assert get("/app.css")["cache-control"] == "public, max-age=99"


def test_who_gets_a_cookie_gets_it_alone(site):
    get = site("/*\n  Set-Cookie: id=1\n/app.js\n  Cache-Control: public, max-age=9\n")
    assert get("/app.css")["cache-control"] == "private, no-cache"
    assert get("/app.js")["cache-control"] == "public, max-age=9"


def test_a_redirect_by_rule_can_be_followed_across_origins(site):
    answer = site(redirects="/font.woff2 /fonts/new.woff2\n")("/font.woff2")
    assert (answer.status, answer["access-control-allow-origin"]) == (301, "*")


@pytest.mark.parametrize(
    ("rule", "status", "body"),
    [
        ("/spa/* /index.html 200", 200, PAGE),
        ("/spa/* /old.html 200", 200, b"still here"),
        ("/spa/* /old 200", 200, b"still here"),
        ("/spa/* /docs 200", 200, b"docs"),
        ("/spa/* /docs/ 200", 200, b"docs"),
        ("/spa/* / 200", 200, PAGE),
        ("/spa/* /gone.html 410", 410, b"it is gone"),
    ],
)
@pytest.mark.parametrize("clean_urls", [True, False])
def test_what_a_rule_means_is_a_file_also_with_clean_urls(served, rule, status, body, clean_urls):
    served.app.clean_urls = clean_urls
    served.activate(SITE | {"_redirects": rule.encode()})
    answer = served.get("/spa/deep/link")
    assert (answer.status, answer.body) == (status, body)


def test_a_request_is_answered_from_one_release_whatever_is_activated_meanwhile(served):
    """The rule of one release must not lead to a file of another."""
    one = served.publish({"one.html": b"one", "_redirects": b"/j/* /one.html 200", "_headers": b"/*\n  x-release: one"})
    two = served.publish({"two.html": b"two", "_redirects": b"/j/* /two.html 200", "_headers": b"/*\n  x-release: two"})
    served.activate(one)
    real = served.app._file

    async def switch_and_find(path):
        if served.site.read().active == one:
            served.activate(two)
            served.look()
        return await real(path)

    served.app._file = switch_and_find
    answer = served.get("/j/x")
    assert (answer.status, answer.body, answer["x-release"]) == (200, b"two", "two")


@pytest.mark.parametrize(
    ("path", "rules", "claimed"),
    [
        ("/", "", "until another one is served"),
        ("/docs", "", "until another one is served"),
        ("/from", "/from /docs/ 301", "until another one is served"),
        ("/nothing", "", "for a moment"),
        ("/chunk.0123456789ab.js", "", "for a moment"),
        ("/was", "/was /gone.html 410", "for a moment"),
        ("/from", "/find id=:id /docs/ 301", "not at all"),
        ("/find", "/find id=:id /docs/ 301", "not at all"),
    ],
)
def test_every_answer_may_be_repeated_until_another_one_is_served_and_an_error_for_a_moment(
    served, path, rules, claimed, exchange, make_scope
):
    """Where rules look at queries, no answer may."""
    one, two = served.publish(SITE | ({"_redirects": rules.encode()} if rules else {})), served.publish(SITE | {"a": b"a"})
    served.activate(one)

    def ask():
        offered = []
        anyio.run(exchange, served.app, {**make_scope(path), OFFER: offered.append})
        return offered[-1:]

    offered = ask()
    assert [claim.holds() for claim in offered] == [True] * (claimed != "not at all")
    served.clock.pass_s(FRESH_S)
    assert [claim.holds() for claim in offered] == [claimed != "for a moment"] * len(offered)
    offered = ask()
    assert [claim.holds() for claim in offered] == [True] * (claimed != "not at all")
    served.activate(two)
    served.look()
    assert not any(claim.holds() for claim in offered)


def test_a_page_announces_what_it_needs(site, served):
    get = site()
    assert get("/")["link"] == "</app.css>; rel=preload; as=style, </app.js>; rel=modulepreload"
    assert get("/app.css").get("link") is None
    assert get("/nothing").get("link") is None


def test_fingerprinted_names_that_nobody_keeps_are_counted_and_told_now_and_then(site, served, caplog):
    get = site()
    for path in ("/chunk-BX2k9_fQ.js", "/chunk.0123456789ab.js", "/nothing", "/nothing.js"):
        assert get(path).status == 404
    assert served.app.missed_fingerprints == 2
    assert [record.message for record in caplog.records if "missed" in record.message] == [
        "fingerprinted files missed so far: 1, the last '/chunk-BX2k9_fQ.js'; keep releases longer if these are old tabs"
    ]


def test_a_large_blob_is_hashed_once_whatever_is_activated(served, monkeypatch):
    hashed = []
    real = blobsources.hash_pieces
    monkeypatch.setattr(blobsources, "hash_pieces", lambda pieces: hashed.append(1) or real(pieces))
    large = SITE | {"film.mp4": bytes(blobsources.REMEMBERED_BYTES + 1)}
    one, two = served.publish(large), served.publish(large | {"more.txt": b"more"})
    for release in (one, two, one):
        served.activate(release)
        served.look()
        assert len(served.get("/film.mp4").body) == blobsources.REMEMBERED_BYTES + 1
    assert len(hashed) == 1
