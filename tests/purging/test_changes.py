"""What two releases have different answers for, and under which URLs."""

from __future__ import annotations

import msgspec
import pytest

from assetserver.purging.changes import find_changes
from assetserver.purging.orders import PurgeOrder, order_purge
from assetserver.purging.places import Place
from assetserver.releases.manifest import FileRecord, Manifest
from assetserver.releases.redirectsfile import parse_redirects
from assetserver.releases.siterules import SiteRules


def manifest(links=None, rules=None, **files):
    records = {
        path.replace("__", "/").replace("_", "."): FileRecord(content * 64, 1, "content" if "hash" in path else "")
        for path, content in files.items()
    }
    return Manifest(records, rules or SiteRules(), links or {})


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (manifest(a_html="1"), manifest(a_html="1"), set()),
        (manifest(a_html="1"), manifest(a_html="2"), {"a.html"}),
        (manifest(a_html="1"), manifest(b_html="1"), {"a.html", "b.html"}),
        (manifest(), manifest(a_html="1", app_hash_js="1"), {"a.html"}),
        (manifest(app_hash_js="1"), manifest(), set()),
        (manifest(app_hash_js="1"), manifest(app_hash_js="2"), {"app.hash.js"}),
        (manifest({"a.html": ("</x>",)}, a_html="1"), manifest({"a.html": ("</y>",)}, a_html="1"), {"a.html"}),
    ],
)
def test_changes_are_files_whose_answer_is_another(before, after, changed):
    assert find_changes(before, after) == changed


def test_other_rules_may_change_any_url():
    rules = SiteRules(redirects=parse_redirects("/a /b 302\n", "netlify")[0])
    assert rules != SiteRules()
    assert find_changes(manifest(a_html="1"), manifest(None, rules, a_html="1")) is None


def test_the_page_that_answers_unknown_paths_may_change_any_url():
    assert find_changes(manifest(app_html="1"), manifest(app_html="2"), "app.html") is None
    assert find_changes(manifest(app_html="1", b_html="1"), manifest(app_html="1", b_html="2"), "app.html") == {"b.html"}


WWW, DOCS = Place("https://www.example.com"), Place("https://www.example.com", "/docs", clean_urls=True)


@pytest.mark.parametrize(
    ("place", "path", "urls"),
    [
        (WWW, "index.html", ["/index.html", "/"]),
        (WWW, "a/index.html", ["/a/index.html", "/a/", "/a"]),
        (WWW, "about.html", ["/about.html"]),
        (WWW, "süß b.css", ["/s%C3%BC%C3%9F%20b.css"]),
        (DOCS, "index.html", ["/docs/index.html", "/docs/", "/docs"]),
        (DOCS, "about.html", ["/docs/about.html", "/docs/about"]),
    ],
)
def test_a_file_is_kept_under_its_canonical_urls(place, path, urls):
    assert list(place.urls_of(path)) == ["https://www.example.com" + one for one in urls]


def test_orders_are_cut_into_batches_each_with_a_key_and_id_of_its_own():
    urls = [f"https://www.example.com/{number:03}" for number in range(250)]
    jobs = list(order_purge("edge", "default 7", urls=urls, tags=["b", "a", "b"], batch=100, delay_s=2.0))
    orders = [msgspec.json.decode(job.payload, type=PurgeOrder) for job in jobs]
    assert [len(one.urls) for one in orders] == [0, 100, 100, 50]
    assert orders[0].tags == ("a", "b")
    assert sorted(url for one in orders for url in one.urls) == urls
    assert len({job.key for job in jobs}) == len({one.id for one in orders}) == 4
    assert {job.delay_s for job in jobs} == {2.0}
    again = list(order_purge("edge", "default 7", urls=urls, tags=["a", "b"], batch=100, delay_s=2.0))
    assert [job.key for job in again] == [job.key for job in jobs]
    assert not {job.key for job in order_purge("edge", "default 8", urls=urls)} & {job.key for job in jobs}
