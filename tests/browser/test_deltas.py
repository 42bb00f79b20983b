"""A visitor who comes back after a deployment, in a real browser: what changed arrives as the difference to what it holds.

The sample site twice, with Subresource Integrity, from release 1 to release 2; no TLS and no flags.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ..commands import run_command

SAMPLE = Path(__file__).parents[2] / "static"
DEADLINE_S = 60.0
POLL_S = 0.05
FIREFOX = {"Accept-Encoding": "gzip, deflate, br, zstd", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
ENCODINGS = """
Object.fromEntries([...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .filter((one) => one.initiatorType !== "fetch" && one.responseStatus === 200)
  .map((one) => [new URL(one.name).pathname, one.contentEncoding]))
"""
HASHED = re.compile(r'(?:src|href)="(assets/[^"]+\.(?:js|css))"')


def add_integrity(page: Path) -> None:
    """Let a page say what its scripts and style sheets are; a browser refuses others."""

    def name(match: re.Match[str]) -> str:
        digest = hashlib.sha384((page.parent / match[1]).read_bytes()).digest()
        return f'{match[0]} integrity="sha384-{base64.b64encode(digest).decode()}"'

    page.write_text(HASHED.sub(name, page.read_text("utf-8")), "utf-8")


@pytest.fixture
def versions(tmp_path) -> dict[str, Path]:
    """Both versions of the sample site, with integrity."""
    made = {version: Path(shutil.copytree(SAMPLE / version, tmp_path / version)) for version in ("v1", "v2")}
    for folder in made.values():
        add_integrity(folder / "index.html")
        assert (folder / "index.html").read_text("utf-8").count("integrity=") == 3
    return made


@pytest.fixture
def publish(tmp_path) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        run_command("publish", folder, "--prod", "--data", tmp_path / "data", cwd=tmp_path)

    return run


def ask(url: str, fields: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields of an answer, names in lower case."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(fields)), timeout=DEADLINE_S) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}


def wait_page(url: str, folder: Path) -> None:
    """Wait until the page is that of ``folder``: every worker sees an activation within a second."""
    expected = (folder / "index.html").read_bytes()
    deadline_s = time.monotonic() + DEADLINE_S
    while urllib.request.urlopen(url, timeout=DEADLINE_S).read() != expected:
        assert time.monotonic() < deadline_s, f"{url} is not what {folder} holds"
        time.sleep(POLL_S)


def offers_dictionary(browser, path: str) -> bool:
    """Ask for ``path``, which may be nothing, and tell whether the browser offered a dictionary for it."""
    browser.events.clear()
    browser.evaluate(f"fetch({path!r}, {{cache: 'no-store'}}).then((answer) => answer.text())")
    sent = browser.select("Network.requestWillBeSentExtraInfo")
    return any(name.lower() == "available-dictionary" for one in sent for name in one["headers"])


def wait_dictionaries(browser, *paths: str) -> None:
    """Wait until the browser has kept a dictionary for each path: it does so some time after the file came."""
    for path in paths:
        browser.wait_until(lambda path=path: offers_dictionary(browser, path), f"a dictionary for {path}")


def name_of(folder: Path, stem: str) -> str:
    [file] = (folder / "assets").glob(f"{stem}.*")
    return f"/assets/{file.name}"


def open_guide(browser) -> None:
    """Have the page load its lazy chunk, and wait until it has run."""
    browser.evaluate("document.querySelector('#explain').click()")
    shown = "!document.querySelector('#guide').hidden && document.querySelector('#guide').textContent.length > 100"
    browser.wait_until(lambda: browser.evaluate(shown) and not browser.unanswered(), "the guide")


def complaints(browser) -> list[str]:
    texts = [entry["entry"]["text"] for entry in browser.select("Log.entryAdded") if entry["entry"]["level"] == "error"]
    return texts + [str(one) for one in browser.select("Runtime.exceptionThrown")]


def test_what_changed_comes_as_the_difference_runs_and_is_what_integrity_says(browser, origin, publish, versions, tmp_path):
    publish(versions["v1"])
    url = origin(None, "--data", tmp_path / "data").replace("127.0.0.1", "localhost") + "/"
    wait_page(url, versions["v1"])
    browser.open(url)
    first = browser.evaluate(ENCODINGS)
    assert {first[path] for path in ("/", name_of(versions["v1"], "main"), name_of(versions["v1"], "site"))} == {"br"}
    assert complaints(browser) == []

    publish(versions["v2"])
    wait_page(url, versions["v2"])
    open_guide(browser)  # the lazy chunk of release 1
    assert browser.evaluate(ENCODINGS)[name_of(versions["v1"], "details")] == "br"
    assert complaints(browser) == []
    browser.open(url + "robots.txt")  # a page that asks for nothing itself
    wait_dictionaries(browser, "/", *(f"/assets/{name}" for name in ("main.0.js", "site.0.css", "details.0.js")))

    browser.open(url)
    open_guide(browser)
    assert complaints(browser) == []
    assert "RELEASE 2" in str(browser.evaluate("document.documentElement.outerHTML"))
    found = browser.evaluate(ENCODINGS)
    changed = {
        path: found.get(path) for path in ("/", *(name_of(versions["v2"], stem) for stem in ("main", "site", "details")))
    }
    assert changed == dict.fromkeys(changed, "dcz")

    for fields in (FIREFOX, {"Accept-Encoding": "gzip, br, zstd"}):
        answers = [ask(url.rstrip("/") + path, fields) for path in changed]
        assert [answer["content-encoding"] for answer in answers] == ["br"] * len(changed)
        assert {answer["vary"] for answer in answers} == {"accept-encoding, available-dictionary"}


def test_the_page_of_an_application_is_a_dictionary_at_every_path(browser, origin, publish, tmp_path):
    words = " ".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(60))
    versions = []
    for number in (1, 2):
        folder = tmp_path / f"app-{number}"
        folder.mkdir()
        (folder / "index.html").write_text(f'<!doctype html><link rel="icon" href="data:,"><h1>{number}</h1><p>{words}')
        versions.append(folder)
    publish(versions[0])
    config = '[[sites]]\nfallback = "index.html"\n'
    url = origin(None, "--data", tmp_path / "data", config=config).replace("127.0.0.1", "localhost") + "/"
    wait_page(url, versions[0])
    browser.open(url)
    wait_dictionaries(browser, "/orders/1")

    publish(versions[1])
    wait_page(url, versions[1])
    browser.open(url + "orders/2")
    browser.wait_until(lambda: "/" in browser.evaluate(ENCODINGS), "the dictionary for the next release")
    assert browser.evaluate("document.querySelector('h1').textContent") == "2"
    assert browser.evaluate(ENCODINGS) == {"/orders/2": "dcz", "/": "dcz"}  # the page, and what is kept of it for the next
    assert complaints(browser) == []
