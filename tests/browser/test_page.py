"""The sample site in a real browser: br on the wire, and the second visit asks for nothing but the page."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from assetserver.cli import main

ROOT = Path(__file__).parent.parent.parent
FINGERPRINTED = re.compile(r"/assets/[^/]+\.[0-9a-f]{12}\.\w+$")
TEXT = re.compile(r"(/|\.(html|css|js|svg))$")


@pytest.fixture
def sample(origin, tmp_path):
    """Base URL of the sample site, its second version live, served as ``make serve`` does."""
    config, data = str(ROOT / "static/assetserver.toml"), str(tmp_path / "data")
    published = CliRunner().invoke(main, ["publish", str(ROOT / "static/v2"), "--prod", "--config", config, "--data", data])
    assert published.exit_code == 0, published.output
    return origin(None, "--config", config, "--data", data)


def collect(browser):
    """Return what the page loaded with GET, by URL: status on the wire (None: no request was made) and response."""
    requests = {
        event["requestId"] for event in browser.select("Network.requestWillBeSent") if event["request"]["method"] == "GET"
    }
    extra = {event["requestId"]: event["statusCode"] for event in browser.select("Network.responseReceivedExtraInfo")}
    return {
        event["response"]["url"]: (extra.get(event["requestId"]), event["response"])
        for event in browser.select("Network.responseReceived")
        if event["requestId"] in requests and event["response"]["url"].startswith("http")
    }


def coding_of(response):
    fields = {name.lower(): value for name, value in response["headers"].items()}
    return fields.get("content-encoding")


def complaints(browser):
    """Return what stands in the console, what got an error, and what got no answer at all."""
    texts = [entry["entry"]["text"] for entry in browser.select("Log.entryAdded")]
    texts += [str(call["args"]) for call in browser.select("Runtime.consoleAPICalled")]
    texts += [str(thrown["exceptionDetails"]) for thrown in browser.select("Runtime.exceptionThrown")]
    answered = {event["requestId"]: event["response"] for event in browser.select("Network.responseReceived")}
    texts += [f"{answer['status']} {answer['url']}" for answer in answered.values() if answer["status"] >= 400]
    # The answer to a HEAD whose script reads no content "fails" as aborted after it has come.
    failures = browser.select("Network.loadingFailed")
    return texts + [failure["errorText"] for failure in failures if failure["requestId"] not in answered]


def test_first_visit_is_compressed_and_the_second_comes_from_the_cache(browser, sample):
    page = f"{sample}/"
    browser.open(page)
    assert complaints(browser) == []
    first = collect(browser)
    assert first[page][0] == 200
    assets = {url for url in first if FINGERPRINTED.search(url)}
    assert {".css", ".js", ".svg"} <= {os.path.splitext(url)[1] for url in assets}
    assert {first[url][0] for url in assets} == {200}
    plain = [url for url, (_, response) in first.items() if TEXT.search(url) and coding_of(response) != "br"]
    assert plain == []

    browser.open(page)
    assert complaints(browser) == []
    second = collect(browser)
    assert second[page][0] == 304
    assert assets & second.keys() == assets
    assert [url for url in assets if second[url][0] is not None] == []


def test_a_version_with_an_address_of_its_own_is_not_even_asked_for(browser, sample):
    page = f"{sample}/static/v1/"
    for status in (200, None):
        browser.open(page)
        assert complaints(browser) == []
        assert collect(browser)[page][0] == status
