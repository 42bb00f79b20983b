"""What settings and activations have purged, and the command ``purge``."""

from __future__ import annotations

import json
from contextlib import closing

import msgspec
import pytest
from click.testing import CliRunner

from assetserver.cli import main
from assetserver.data import open_library, open_records
from assetserver.ondemandurls import PictureUrls
from assetserver.purgeorders import PurgeDebts, plan_purges
from assetserver.purging.orders import PurgeOrder
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.publish import publish_folder
from assetserver.releases.sites import MOST_UNPURGED, SiteState, activate, add_release, settle_purge
from assetserver.settings import load_settings

CACHE = {"name": "edge", "service": "varnish", "url": "http://127.0.0.1:1"}


@pytest.fixture
def settings(tmp_path):
    """``settings(purge={…}, **overrides)`` returns settings with a cache in front of the data folder."""

    def make(purge=None, **overrides):
        cache = CACHE | {"origins": ["http://a.example"]} | (purge or {})
        return load_settings(overrides={"data.path": str(tmp_path / "data"), "purge": [cache], **overrides})

    return make


@pytest.fixture
def publish(tmp_path):
    """``publish(settings, site, {path: text})`` makes a release live."""

    def run(settings, name, files):
        folder = tmp_path / f"v{len(list(tmp_path.iterdir()))}"
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        library = open_library(settings)
        site = library.site(name)
        release = publish_folder(library, str(folder), lambda *_: None).release
        keep_release(library, site, release)
        activate_release(library, site, release, owes_purge=True)
        return site

    return run


def orders(settings, site):
    jobs = plan_purges(settings, open_library(settings), site.name, site.read())
    return [msgspec.json.decode(job.payload, type=PurgeOrder) for job in jobs]


def test_a_changed_picture_is_purged_as_pictures_on_demand_too(settings, publish):
    found = settings(**{"images.on_demand": True, "images.widths": [320]})
    publish(found, "default", {"my pics/a.png": "1", "b.txt": "1"})
    site = publish(found, "default", {"my pics/a.png": "2", "b.txt": "2"})
    urls = {url for order in orders(found, site) for url in order.urls}
    made = {f"http://a.example/image/{one}/my%20pics/a.png" for one in PictureUrls(found).list_free()}
    assert urls == {"http://a.example/my%20pics/a.png", "http://a.example/b.txt"} | made


def test_what_changed_since_the_last_purge_is_purged_and_no_more(settings, publish):
    found = settings()
    publish(found, "default", {"a.txt": "1", "b.txt": "1", "c.txt": "1"})
    site = publish(found, "default", {"a.txt": "2", "b.txt": "1", "c.txt": "1"})
    with closing(open_records(found)) as records:
        debts = PurgeDebts(found, open_library(found), records)
        assert debts.settle() == 1
        assert debts.settle() == 0
    publish(found, "default", {"a.txt": "1", "b.txt": "2", "c.txt": "1"})
    # Back again before anybody purged: caches may hold what was between.
    publish(found, "default", {"a.txt": "2", "b.txt": "1", "c.txt": "1"})
    [order] = orders(found, site)
    assert order.urls == ("http://a.example/a.txt", "http://a.example/b.txt")


def test_sites_are_purged_where_visitors_find_them(settings, publish):
    sites = [
        {"name": "docs", "prefix": "/docs"},
        {"name": "docs", "host": "docs.example"},
        {"name": "other", "host": "b.example"},
    ]
    found = settings({"origins": ["http://a.example", "https://docs.example"], "sites": ["docs"]}, sites=sites)
    publish(found, "docs", {"a.txt": "1"})
    site = publish(found, "docs", {"a.txt": "2"})
    [order] = orders(found, site)
    assert order.urls == ("http://a.example/docs/a.txt", "https://docs.example/a.txt", "https://docs.example/docs/a.txt")
    other = publish(found, "other", {"a.txt": "1"})
    assert orders(found, other) == []


def test_more_than_is_listed_is_the_whole_site(settings, publish):
    found = settings({"everything_above": 3})
    site = publish(found, "default", {f"{number}.txt": "1" for number in range(4)})
    [order] = orders(found, site)
    assert (order.urls, order.roots) == ((), ("http://a.example/",))


def test_a_release_that_is_gone_has_the_whole_site_purged(settings, publish, tmp_path):
    found = settings()
    old = publish(found, "default", {"a.txt": "1"}).read().active
    site = publish(found, "default", {"a.txt": "2"})
    (tmp_path / "data/releases" / f"{old}.json").unlink()
    assert [one.roots for one in orders(found, site)] == [("http://a.example/",)]


def test_tags_stand_for_what_has_them(settings, publish):
    found = settings({"by": "tag"}, cache=[{"match": "docs/**", "browser": "no-cache", "tags": ["docs"]}])
    publish(found, "default", {"docs/a.html": "1", "b.txt": "1"})
    site = publish(found, "default", {"docs/a.html": "2", "b.txt": "2"})
    assert [(one.tags, one.urls) for one in orders(found, site)] == [(("docs",), ()), ((), ("http://a.example/b.txt",))]


def test_a_debt_is_bounded_and_only_paid_if_it_is_still_the_same():
    state = SiteState()
    for number in range(MOST_UNPURGED + 20):
        state = add_release(state, f"{number:064}", "", "")
        state = activate(state, f"{number:064}", owes_purge=True)
    assert len(state.unpurged) == MOST_UNPURGED
    assert settle_purge(state, state).unpurged == ()
    assert settle_purge(state, SiteState(generation=7)).unpurged == state.unpurged
    first = add_release(state, "f" * 64, "", "")
    assert activate(first, "f" * 64).unpurged == ()  # nothing is in front any more


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("purge", …)`` runs a command where ``assetserver.toml`` has a cache in front."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "assetserver.toml").write_text(
        '[[purge]]\nname = "edge"\nservice = "varnish"\nurl = "http://127.0.0.1:1"\norigins = ["http://a.example"]\n'
    )
    return lambda *words: CliRunner().invoke(main, list(words))


def test_what_is_named_by_hand_is_queued(run):
    result = run("purge", "/docs/", "/a b.css", "--tag", "x", "--json")
    assert json.loads(result.stdout)["caches"] == ["edge"]
    listed = json.loads(run("jobs", "list", "--kind", "purge", "--json").stdout)
    assert [one["state"] for one in listed["jobs"]] == ["queued"] * 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "say what: PATHs such as /docs/, --tag T, or --all"),
        (("docs",), 1, "docs is no path of a URL; write one such as /docs/ or /a%20b.css, without host and query"),
        (("/a?b",), 1, "/a?b is no path of a URL"),
        (("/../x",), 1, "/../x is no path of a URL"),
        (("--all", "--site", "x"), 1, "there is no site 'x'"),
    ],
)
def test_what_cannot_be_purged_is_told(run, words, code, message):
    result = run("purge", *words)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_purge_without_a_cache_in_front_is_told(run, tmp_path):
    (tmp_path / "assetserver.toml").write_text("")
    assert "no cache has the site default: [[purge]] in the settings describes those in front" in run("purge", "--all").stderr


def test_a_worker_takes_only_kinds_that_are_there(run):
    result = run("worker", "--kinds", "image,mail")
    assert "--kinds: there is no kind of job 'mail'; there are image, webhook" in result.stderr
    assert result.exit_code == 78


def test_a_worker_with_nothing_to_do_of_its_kinds_ends_in_peace(run):
    result = run("worker", "--kinds", "webhook")
    assert (result.exit_code, "nothing to do: these settings cause no jobs of the kinds webhook" in result.stderr) == (0, True)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "a", "service": "fastly"}, 'purge[0] ("fastly") needs a zone: the id of the service'),
        ({"name": "a", "service": "varnish"}, 'purge[0] ("varnish") needs a url: where to send it'),
        ({"name": "a", "service": "webhook", "url": "http://a"}, 'purge[0] ("webhook") needs secrets = ["whsec_…"]'),
        ({**CACHE, "sites": ["b"]}, 'purge[0] (sites) names "b"; there are default'),
        (CACHE, 'purge[0] ("varnish") needs origins = ["https://…"], or server.public_url'),
        ({**CACHE, "token": "very secret"}, "purge[0].token is …; it must be printable ASCII without spaces"),
    ],
)
def test_a_cache_that_could_not_be_purged_is_refused(entry, problem):
    with pytest.raises(Exception, match="purge") as caught:
        load_settings(overrides={"purge": [entry]})
    assert problem in str(caught.value)
    assert "very secret" not in str(caught.value)


def test_an_activation_over_http_is_purged_by_the_worker_beside(run, tmp_path, origin, api, poll):
    config = (
        f'[data]\npath = "{tmp_path}/data"\n[images]\nenabled = false\n'
        f'[[purge]]\nname = "edge"\nservice = "varnish"\nurl = "{api.url}"\norigins = ["http://a.example"]\ndelay_s = 0\n'
    )
    token = run("token", "create", "--scope", "publish").stdout.split()[-1]
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("<!doctype html><title>x</title><p>first")
    base = origin(None, config=config)
    found = run("publish", "site", "--url", base, "--token", token, "--prod")
    assert found.exit_code == 0, found.stderr
    poll(lambda: len(api.got), lambda count: count == 2)
    asked = {(method, target, fields["host"]) for method, target, fields, _ in api.got}
    assert asked == {("PURGE", "/", "a.example"), ("PURGE", "/index.html", "a.example")}
    poll(lambda: run("jobs", "list", "--kind", "purge").stderr, lambda told: told == "1 done\n")
