"""The console in a real browser: what its link shows, and that names are text."""

from __future__ import annotations

import urllib.parse
import urllib.request

import pytest
from click.testing import CliRunner

from assetserver.cli import main

NAME = '<img src=x onerror="document.title=1">.txt'


@pytest.fixture
def token_of(tmp_path):
    def create(*scopes):
        words = [word for scope in scopes for word in ("--scope", scope)]
        created = CliRunner().invoke(main, ["token", "create", *words, "--data", str(tmp_path / "data")])
        assert created.exit_code == 0, created.output
        return created.stdout.split()[-1]

    return create


@pytest.fixture
def base(origin, token_of, tmp_path):
    token = token_of("upload")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "index.html").write_text("hello")
    words = ["publish", str(tmp_path / "dist"), "--prod", "--data", str(tmp_path / "data"), "-m", "first <b>one</b>"]
    published = CliRunner().invoke(main, words)
    assert published.exit_code == 0, published.output
    base = origin(None, "--data", tmp_path / "data")
    url = f"{base}/uploads?name={urllib.parse.quote(NAME)}"
    request = urllib.request.Request(url, b"hello", {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201
    return base


def texts(browser, section):
    return browser.evaluate(f"[...document.querySelectorAll('#{section} tbody td')].map(cell => cell.textContent)")


def test_the_link_shows_what_was_published_and_uploaded(browser, base, token_of):
    browser.open(f"{base}/-/console/#token={token_of('admin')}")
    browser.wait_until(lambda: texts(browser, "uploads") and texts(browser, "releases"), "both tables")
    name, media_type, size, collection, owner, _ = texts(browser, "uploads")
    assert (name, media_type, size, collection, len(owner)) == (NAME, "text/plain", "5\N{NO-BREAK SPACE}B", "default", 12)
    assert texts(browser, "releases")[2:] == ["first <b>one</b>", "live"]
    assert browser.evaluate("location.hash") == ""
    assert browser.evaluate("document.title") == "Releases and uploads · assetserver"
    assert browser.evaluate("document.querySelector('#told').textContent") == ""
    sent = [event["request"]["url"] for event in browser.select("Network.requestWillBeSent")]
    assert not any("ast_" in url.partition("#")[0] for url in sent)
    assert browser.select("Runtime.exceptionThrown") == []


def test_a_token_sees_what_its_scopes_let_it_see(browser, base, token_of):
    browser.open(f"{base}/-/console/#token={token_of('read')}")
    browser.wait_until(lambda: texts(browser, "uploads"), "the uploads")
    told = "document.querySelector('#told').textContent"
    browser.wait_until(lambda: "scope publish" in browser.evaluate(told), "what it may not see")
    assert browser.evaluate("document.querySelector('#releases').hidden") is True


def test_what_cannot_be_opened_has_no_link_and_says_why(browser, origin, token_of, tmp_path):
    base = origin(None, "--data", tmp_path / "data", config='[[collections]]\nname = "invoices"\naccess = "signed"\n')
    token = token_of("admin")
    headers = {"Authorization": f"Bearer {token}"}
    begun = {**headers, "Tus-Resumable": "1.0.0", "Upload-Length": "9", "Upload-Metadata": "filename YS50eHQ="}
    for path, body, fields in (
        ("/uploads?name=c.txt", b"hello", headers),
        ("/uploads?name=b.pdf&collection=invoices", b"hello", headers),
        ("/uploads", b"", begun),
    ):
        with urllib.request.urlopen(urllib.request.Request(base + path, body, fields), timeout=60) as answer:
            assert answer.status == 201
    browser.open(f"{base}/-/console/#token={token}")
    browser.wait_until(lambda: texts(browser, "uploads"), "the uploads")
    assert texts(browser, "uploads")[::6] == ["a.txt uploading", "b.pdf signed", "c.txt"]
    assert texts(browser, "uploads")[3::6] == ["default", "invoices", "default"]
    assert browser.evaluate("[...document.querySelectorAll('#uploads a')].map(link => link.textContent)") == ["c.txt"]


@pytest.mark.parametrize("width", [500, 1200])
def test_no_width_hides_what_matters_or_breaks_words(browser, base, token_of, width):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(f"{base}/-/console/#token={token_of('admin')}")
    browser.wait_until(lambda: texts(browser, "uploads"), "the uploads")
    assert browser.evaluate("getComputedStyle(document.querySelector('td.type')).display === 'none'") is (width < 600)
    assert browser.evaluate("[...document.querySelectorAll('section')].every(one => one.scrollWidth <= one.clientWidth)")
    lines = "one => { const all = new Range(); all.selectNodeContents(one); return all.getClientRects().length; }"
    assert set(browser.evaluate(f"[...document.querySelectorAll('#uploads td.id, #uploads td.number')].map({lines})")) == {1}


def test_a_token_that_does_not_count_is_forgotten_and_asked_for_again(browser, base):
    browser.open(f"{base}/-/console/#token=ast_{'0' * 12}_{'0' * 48}")
    browser.wait_until(lambda: browser.evaluate("!document.querySelector('#enter').hidden"), "the form")
    assert browser.evaluate("sessionStorage.length") == 0
    browser.wait_until(lambda: "not valid" in browser.evaluate("document.querySelector('#told').textContent"), "the reason")
