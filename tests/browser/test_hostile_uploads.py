"""What strangers upload does not run, in a real browser: not opened, not framed, not loaded by a page.

Each hostile file asks for ``/ran`` when it runs. The same files served as the operator's own do run: so the test would notice.
"""

from __future__ import annotations

import json
import time
import urllib.request
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from assetserver.cli import main

SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20" onload="fetch('/ran?svg-onload')">
<style>rect { fill: green }</style><rect width="30" height="20"/>
<script>fetch('/ran?svg-script')</script>
<foreignObject width="30" height="20">
<iframe xmlns="http://www.w3.org/1999/xhtml" src="javascript:fetch('/ran?svg-frame')"/>
</foreignObject>
</svg>"""
HTML = """<!doctype html><title>x</title><script>fetch('/ran?html-script')</script>
<img src="x:" onerror="fetch('/ran?html-onerror')">"""
XHTML = """<?xml version="1.0"?>
<html xmlns="http://www.w3.org/1999/xhtml"><body><script>fetch("/ran?xhtml")</script></body></html>"""
XML = """<?xml version="1.0"?><x><script xmlns="http://www.w3.org/1999/xhtml">fetch('/ran?xml')</script></x>"""
SCRIPT = "fetch('/ran?script');"
GIF = b"GIF89a=1;fetch('/ran?polyglot')//" + bytes(40)

HOSTILE = {
    "a.svg": SVG.encode(),
    "a.html": HTML.encode(),
    "picture.png": HTML.encode(),
    "notes.txt": HTML.encode(),
    "a.xhtml": XHTML.encode(),
    "a.xml": XML.encode(),
    "a.js": SCRIPT.encode(),
    "a.gif": GIF,
    "nameless": HTML.encode(),
    "utf-7.txt": b"+ADw-script+AD4-fetch('/ran')+ADw-/script+AD4-",
    "padded.html": b" " * 2000 + HTML.encode(),
}
TYPES = {
    "a.svg": "image/svg+xml",
    "a.js": "text/javascript",
    "a.xhtml": "application/xhtml+xml",
    "a.xml": "text/xml",
    "a.gif": "image/gif",
}
PAGE = "<!doctype html><title>page of the operator</title><link rel=icon href=data:,><body></body>"
SETTLE_S = 0.5


@pytest.fixture(scope="module")
def site(shared_origin, tmp_path_factory):
    """Base URL of a site with a page and the hostile files as its own, and the URLs of the same files uploaded."""
    folder, data = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("data") / "data"
    (folder / "page.html").write_text(PAGE)
    for name, content in HOSTILE.items():
        (folder / name).write_bytes(content)
    created = CliRunner().invoke(main, ["token", "create", "--scope", "upload", "--data", str(data)])
    assert created.exit_code == 0, created.output
    base = shared_origin(None, config=f'[[mounts]]\nprefix = "/"\ndirectory = "{folder}"\n[data]\npath = "{data}"\n')
    token = created.stdout.split()[-1]
    return base, {name: base + upload(base, token, name, content) for name, content in HOSTILE.items()}


def upload(base, token, name, content):
    fields = {"Authorization": f"Bearer {token}", "Content-Type": TYPES.get(name, "text/html")}
    request = urllib.request.Request(f"{base}/uploads?name={quote(name)}", content, fields)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["uploads"][0]["url"]


def what_ran(browser):
    time.sleep(SETTLE_S)  # nothing announces that a script does not run
    browser.evaluate("1")
    return seen_running(browser)


def seen_running(browser):
    """Return what was asked for by hostile files that run, as far as the browser has told it."""
    return [
        event["request"]["url"] for event in browser.select("Network.requestWillBeSent") if "/ran" in event["request"]["url"]
    ]


def load(browser, url, make, patience_ms=50_000):
    """Load ``url`` into the open page by a script that makes ``make`` of it; return how that ended: "load" or "error"."""
    expression = f"""new Promise(done => {{
      const element = {make};
      element.onload = () => done("load");
      element.onerror = () => done("error");
      setTimeout(() => done("nothing"), {patience_ms});
      element[element.tagName === "OBJECT" ? "data" : "src"] = {json.dumps(url)};
      document.body.append(element);
    }})"""
    return browser.evaluate(expression)


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a.xhtml"])
def test_the_same_files_run_where_they_are_the_operators_own(browser, site, name):
    browser.open(f"{site[0]}/{name}")
    browser.wait_until(lambda: seen_running(browser), "something that runs")


def test_nothing_runs_when_it_is_opened(browser, site):
    for url in site[1].values():
        browser.open(f"{site[0]}/page.html")
        browser.call("Page.navigate", url=url)
        assert what_ran(browser) == [], url


@pytest.mark.parametrize("kind", ["iframe", "object", "embed"])
def test_nothing_runs_when_it_is_framed_or_embedded(browser, site, kind):
    browser.open(f"{site[0]}/page.html")
    for url in site[1].values():
        load(browser, url, f"document.createElement('{kind}')", 400)  # what is saved never loads
    assert what_ran(browser) == []


@pytest.mark.parametrize("kind", ["text/javascript", "module"])
def test_nothing_runs_when_a_page_loads_it_as_a_script(browser, site, kind):
    browser.open(f"{site[0]}/page.html")
    make = f"Object.assign(document.createElement('script'), {{ type: {json.dumps(kind)} }})"
    assert load(browser, f"{site[0]}/a.js", make) == "load"
    browser.wait_until(lambda: seen_running(browser), "something that runs")
    for url in site[1].values():
        assert load(browser, url, make) == "error", url
    assert len(what_ran(browser)) == 1


def test_nothing_becomes_a_service_worker(browser, site):
    browser.open(f"{site[0]}/page.html")
    for url in site[1].values():
        register = f"navigator.serviceWorker.register({json.dumps(url)}).then(() => 'taken', error => error.name)"
        assert browser.evaluate(register) == "SecurityError", url


def test_pictures_are_still_pictures(browser, site):
    browser.open(f"{site[0]}/page.html")
    assert load(browser, site[1]["a.svg"], "document.createElement('img')") == "load"
    assert browser.evaluate("document.querySelector('img').naturalWidth") == 30
    assert what_ran(browser) == []
