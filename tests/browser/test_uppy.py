"""Uppy in a real browser, its page from another origin than the uploads: it uploads, breaks off, and goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from click.testing import CliRunner

from assetserver.cli import main

PACKAGES = ("@uppy/core@6.3.1", "@uppy/tus@6.0.0", "@uppy/xhr-upload@6.0.0", "esbuild@0.28.2")
SCRIPT = Path(__file__).parent / "uppy_page.mjs"
NAME = "größe 1.bin"
SIZE = 3_000_000
MIB = 1 << 20
STRANGER = {"token": "none"}


def make_content(size):
    """Return the bytes of the file that the page makes."""
    return bytes((place * 31 + (place >> 8)) % 251 for place in range(size))


@pytest.fixture(scope="session")
def bundle(require, install_npm, tmp_path_factory):
    """A folder with a page that has Uppy."""
    folder, target = install_npm(*PACKAGES), tmp_path_factory.mktemp("page")
    shutil.copy(SCRIPT, folder)
    command = [
        folder / "node_modules/.bin/esbuild",
        SCRIPT.name,
        "--bundle",
        "--format=iife",
        f"--outfile={target / 'page.js'}",
    ]
    subprocess.run([str(word) for word in command], cwd=folder, check=True, capture_output=True, timeout=60)
    (target / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>Uppy</title><script src="page.js"></script>'
    )
    return target


@pytest.fixture(scope="module")
def uploads(shared_origin, tmp_path_factory):
    """A server that takes uploads: its ``endpoint`` and a ``token``."""
    data = tmp_path_factory.mktemp("data")
    created = CliRunner().invoke(main, ["token", "create", "--scope", "upload", "--data", str(data)])
    assert created.exit_code == 0, created.output
    url = shared_origin(None, "--data", data)
    return SimpleNamespace(url=url, endpoint=f"{url}/uploads", token=created.stdout.split()[-1])


@pytest.fixture(scope="module")
def page_url(shared_origin, bundle):
    """Where the page is: another origin than that of the uploads."""
    return f"{shared_origin(bundle)}/"


@pytest.fixture
def page(page_url, browser):
    """A browser that shows the page; ``page()`` loads it again."""
    browser.open(page_url)
    return lambda: browser.open(page_url)


@pytest.fixture
def run(browser, uploads):
    """``run(kind, **more)`` uploads a file in the page and returns what became of it."""

    def upload(kind, **more):
        job = {"kind": kind, "endpoint": uploads.endpoint, "token": uploads.token, "name": NAME, "size": SIZE, "options": {}}
        browser.evaluate("window.result = null")
        browser.evaluate(f"begin({json.dumps(job | more)})")
        browser.wait_until(lambda: browser.evaluate("window.result") is not None, "a result of Uppy")
        return browser.evaluate("window.result")

    return upload


def look(uploads, url):
    """Return an upload as its JSON says it, and its bytes."""
    headers = {"Authorization": f"Bearer {uploads.token}"}
    seen = httpx.get(urljoin(uploads.url, urlsplit(url).path), headers=headers, timeout=60).json()
    return seen, httpx.get(urljoin(uploads.url, seen["url"]), timeout=60).content


def patches(browser):
    """Return the offsets at which the page has sent PATCHes since it was loaded."""
    requests = [event["request"] for event in browser.select("Network.requestWillBeSent")]
    fields = [{name.lower(): value for name, value in one["headers"].items()} for one in requests if one["method"] == "PATCH"]
    return [int(one["upload-offset"]) for one in fields]


@pytest.mark.parametrize(
    "options",
    [{}, {"chunkSize": 500_000}, {"parallelUploads": 2}, {"uploadDataDuringCreation": True}, {"overridePatchMethod": True}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_uppy_uploads_by_tus(page, run, uploads, options):
    result = run("tus", options=options)

    assert result["failed"] == []
    seen, content = look(uploads, result["urls"][0])
    assert (seen["state"], seen["name"]) == ("complete", NAME)
    assert content == make_content(SIZE)


def test_uppy_goes_on_where_it_was_after_the_page_was_left(page, run, browser, uploads):
    stopped = run("tus", options={"chunkSize": 256 << 10}, stopAt=MIB)["stopped"]
    page()

    result = run("tus")

    assert result["failed"] == []
    assert MIB <= stopped < SIZE
    assert min(patches(browser)) >= MIB - (256 << 10)
    assert look(uploads, result["urls"][0])[1] == make_content(SIZE)


def test_uppy_uploads_a_form(page, run, uploads):
    result = run("xhr")

    assert result["failed"] == []
    seen, content = look(uploads, f"/uploads/{result['urls'][0]}")
    assert seen["name"] == NAME
    assert content == make_content(SIZE)


def test_uppy_that_has_no_token_is_told_so(page, run):
    result = run("tus", **STRANGER)

    assert "401" in result["failed"][0]
