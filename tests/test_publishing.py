"""Publish, switch and roll back from the command line, while a real server answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from assetserver.addresses import live_url, preview_url
from assetserver.cli import main
from assetserver.progress import format_progress
from assetserver.releases.manifest import ReleaseId
from assetserver.settings import load_settings

STATIC = Path(__file__).parent.parent / "static"
DEADLINE_S = 60


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(main, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    return call


def wait_for(url: str, text: str) -> httpx.Response:
    """Ask until ``text`` is in the answer: every worker sees an activation within a second."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = httpx.get(url, timeout=DEADLINE_S)
        if text in answer.text:
            return answer
        assert time.monotonic() < deadline, answer.text[:500]
        time.sleep(0.05)


def test_a_release_goes_live_and_back_under_a_running_server_and_old_tabs_live_on(
    run: Callable[..., str], tmp_path: Path, origin: Callable[..., str]
) -> None:
    data = str(tmp_path / "data")
    assert "live now" in run("publish", str(STATIC / "v1"), "--data", data, "--prod", "-m", "first")
    url = origin(None, "--data", data)
    page = wait_for(url + "/", "Release 1.")
    lazy = next(name for name in (STATIC / "v1/assets").iterdir() if name.name.startswith("details."))
    assert (page.headers["cache-control"], page.headers["content-encoding"]) == ("no-cache", "br")

    run("publish", str(STATIC / "v2"), "--data", data, "--prod", "-m", "second")
    wait_for(url + "/", "Release 2.")
    old = httpx.get(f"{url}/assets/{lazy.name}", timeout=DEADLINE_S)
    assert (old.content, old.headers["cache-control"]) == (lazy.read_bytes(), "public, max-age=31536000, immutable")

    assert "rolled back" in run("rollback", "--data", data)
    wait_for(url + "/", "Release 1.")
    assert httpx.get(f"{url}/assets/gone.0123456789ab.js", timeout=DEADLINE_S).headers["cache-control"] == "no-store"


def test_publishing_the_same_files_again_is_the_same_release(run: Callable[..., str]) -> None:
    first = json.loads(run("publish", str(STATIC / "v1"), "--json"))
    again = json.loads(run("publish", str(STATIC / "v1"), "--json", "--prod"))
    assert first["id"] == again["id"]
    assert (again["new"], again["active"], first["active"]) == (0, True, False)
    rows = json.loads(run("releases", "--json"))
    assert [(row["id"], row["active"]) for row in rows] == [(first["id"], True)]


def test_a_dry_run_stores_nothing(run: Callable[..., str], tmp_path: Path) -> None:
    assert "would publish" in run("publish", str(STATIC / "v1"), "--dry-run")
    assert not (tmp_path / "data").exists()


def test_releases_are_listed_newest_first_with_their_aliases(run: Callable[..., str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    assert "nothing is published to default yet: assetserver publish ./dist --prod" in run("releases")
    run("publish", str(STATIC / "v1"), "--prod", "-m", "first")
    run("publish", str(STATIC / "v2"), "--alias", "staging", "-m", "second")
    newest, oldest = run("releases").splitlines()
    assert newest.startswith("  ")
    assert newest.endswith("@staging second")
    assert oldest.startswith("* ")
    assert re.search(r"  20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ  first$", oldest)
    assert "is active; before it was" in run("promote", "@staging")
    assert "as it was" in run("promote", "staging")


def test_rolling_back_twice_goes_further_back_and_never_forward(run: Callable[..., str], tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    dist.mkdir()
    ids = []
    for text in ("one", "two", "three"):
        (dist / "index.html").write_text(text)
        ids.append(json.loads(run("publish", str(dist), "--prod", "--json"))["id"][:12])

    assert run("rollback") == f"rolled back from {ids[2]} to {ids[1]}\n"
    assert run("rollback") == f"rolled back from {ids[1]} to {ids[0]}\n"
    refused = CliRunner().invoke(main, ["rollback"])
    assert refused.exit_code == 1
    assert f"nothing older was active; to go forward: assetserver promote {ids[2]}\n" in refused.output
    assert f"{ids[2]} is active" in run("promote", ids[2])
    assert run("rollback") == f"rolled back from {ids[2]} to {ids[0]}\n"


def refuse(*arguments: str) -> str:
    result: Result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == 1, result.output
    assert result.output.startswith("error: ")
    return result.output


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/index.html").write_text("one")
    return tmp_path / "dist"


def test_of_several_sites_one_has_to_be_named_and_none_is_made_up(run: Callable[..., str], dist: Path) -> None:
    config = dist.parent / "assetserver.toml"
    config.write_text('[[sites]]\nname = "shop"\nprefix = "/shop"\n')
    told = json.loads(run("publish", "dist", "--prod", "--json"))
    assert (told["site"], told["url"]) == ("shop", "http://127.0.0.1:8000/shop/")
    assert "there is no site 'shp'; did you mean shop? the settings name shop\n" in refuse("lock", "--site", "shp")
    config.write_text('[[sites]]\nname = "shop"\n[[sites]]\nname = "blog"\nhost = "blog.example.com"\n')
    for command in (["publish", "dist"], ["promote", told["id"]], ["releases"], ["unlock"]):
        assert "there are 2 sites; say which with --site: shop, blog\n" in refuse(*command)
    assert "live now at http://blog.example.com:8000/\n" in run("publish", "dist", "--prod", "--site", "blog")


def test_whoever_serves_only_folders_is_told_that_nobody_sees_the_release(run: Callable[..., str], dist: Path) -> None:
    (dist.parent / "assetserver.toml").write_text('[[mounts]]\nprefix = "/"\ndirectory = "dist"\n')
    told = run("publish", "dist", "--prod")
    assert "live now" not in told
    assert "preview" not in told
    assert "  warning: no site is served, for the settings have [[mounts]] and no [[sites]]" in told
    assert "warning: no site is served" in run("promote", told.split()[1].rstrip(":"))


def test_hints_can_be_typed_as_they_stand(run: Callable[..., str], dist: Path) -> None:
    config = dist.parent / "my settings.toml"
    config.write_text('[[sites]]\nname = "shop"\n[[sites]]\nname = "blog"\nprefix = "/blog"\n')
    options = ("--config", str(config), "--data", "my data", "--site", "blog")
    shown = f"--config '{config}' --data 'my data' --site blog"
    told = run("publish", "dist", *options)
    assert told.splitlines()[-1].startswith(f"  not live yet: assetserver promote {shown} ")
    run("lock", *options)
    assert f"assetserver unlock {shown}\n" in refuse("publish", "dist", "--prod", *options)
    run("unlock", *options)
    (dist.parent / "none").mkdir()
    told = run("releases", "--data", "none", "--config", str(config), "--site", "shop")
    assert told.endswith(f"assetserver publish --config '{config}' --data none --site shop ./dist --prod\n")


def test_an_alias_has_an_address_and_no_odd_name(run: Callable[..., str], dist: Path) -> None:
    lines = run("publish", "dist", "--alias", "@staging").splitlines()
    assert lines[0].endswith(": 1 file, 3 B")
    assert "  preview http://127.0.0.1:8000/-/releases/@staging/" in lines
    assert "cannot be an alias" in refuse("publish", "gone", "--alias", "2024")  # before the work, even before the folder
    assert json.loads(run("publish", "dist", "--json"))["aliases"] == ["staging"]


@pytest.mark.parametrize(
    ("settings", "live", "preview", "alias"),
    [
        ({}, "http://127.0.0.1:8000/", "http://127.0.0.1:8000/-/releases/ID/", "http://127.0.0.1:8000/-/releases/@qa/"),
        ({"server.host": "::"}, "http://[::1]:8000/", "http://[::1]:8000/-/releases/ID/", "http://[::1]:8000/-/releases/@qa/"),
        ({"server.uds": "/s"}, "/", "/-/releases/ID/", "/-/releases/@qa/"),
        (
            {"server.public_url": "https://a.example", "sites": [{"prefix": "/ü b"}]},
            "https://a.example/%C3%BC%20b/",
            "https://a.example/-/releases/ID/",
            "https://a.example/-/releases/@qa/",
        ),
        (
            {"server.public_url": "http://a.example:8080", "sites": [{"host": "b.example", "prefix": "/b"}]},
            "http://b.example:8080/b/",
            "http://a.example:8080/-/releases/ID/",
            "http://a.example:8080/-/releases/@qa/",
        ),
        ({"previews.host": "p.example"}, "http://127.0.0.1:8000/", "https://ID.p.example/", "https://qa.p.example/"),
        (
            {"previews.host": "p.example", "server.public_url": "http://a.example:80"},
            "http://a.example:80/",
            "http://ID.p.example:80/",
            "http://qa.p.example:80/",
        ),
        ({"previews.enabled": False, "previews.host": "p.example"}, "http://127.0.0.1:8000/", "", ""),
        ({"mounts": [{"prefix": "/", "directory": "x"}]}, "", "", ""),
    ],
)
def test_addresses_follow_the_settings(settings: dict[str, object], live: str, preview: str, alias: str) -> None:
    loaded = load_settings(overrides=settings)
    release = ReleaseId("0123456789ab" + "f" * 52)
    assert live_url(loaded, "default") == live
    assert preview_url(loaded, "default", release).replace("0123456789ab", "ID") == preview
    assert preview_url(loaded, "default", release, "qa") == alias


def test_a_dry_run_says_what_would_go_live_and_move(run: Callable[..., str], dist: Path) -> None:
    plan = ("publish", "dist", "--prod", "--alias", "qa", "--dry-run")
    assert run(*plan).endswith("  would set @qa\n  would go live at http://127.0.0.1:8000/; now it is nothing\n")
    first = json.loads(run("publish", "dist", "--prod", "--alias", "qa", "--json"))["id"][:12]
    assert run(*plan).endswith("  @qa means it already\n  is live already\n")
    (dist / "index.html").write_text("two")
    assert run(*plan).endswith(f"  would move @qa from {first}\n  would go live at http://127.0.0.1:8000/; now it is {first}\n")
    run("lock", "-m", "audit")
    assert "  would not go live: the site is locked: audit; assetserver unlock\n" in run(*plan)
    told = run("publish", "dist", "--dry-run", "--integrity", "i.json")
    assert "  the integrity would be written, too; a dry run writes nothing\n" in told
    assert not (dist.parent / "i.json").exists()
    assert json.loads(run(*plan, "--json"))["dry_run"] is True


def test_integrity_values_can_go_to_stdout_alone(run: Callable[..., str], dist: Path) -> None:
    result = CliRunner().invoke(main, ["publish", "dist", "--integrity", "-"])
    assert json.loads(result.stdout)["index.html"].startswith("sha384-")
    assert result.stderr.startswith("published ")


def test_json_says_what_was_published_where_and_how_it_can_be_seen(run: Callable[..., str], dist: Path) -> None:
    told = json.loads(run("publish", "dist", "--json", "--alias", "b", "-m", "first"))
    run("alias", "a", told["id"])
    told = json.loads(run("publish", "dist", "--json", "--prod"))
    wanted = {"ok": True, "site": "default", "message": "first", "dry_run": False, "aliases": ["a", "b"], "active": True}
    assert {name: told[name] for name in wanted} == wanted
    assert told["url"] == "http://127.0.0.1:8000/"


def test_what_is_published_again_is_the_newest_and_says_the_newest_words(run: Callable[..., str], dist: Path) -> None:
    run("publish", "dist", "-m", "one")
    (dist / "index.html").write_text("two")
    run("publish", "dist", "-m", "two")
    (dist / "index.html").write_text("one")
    run("publish", "dist", "-m", "one\nagain")
    newest, older = run("releases").splitlines()
    assert newest.endswith("Z  one\\nagain")
    assert older.endswith("Z  two")


def test_a_narrow_line_of_progress_loses_whole_fields() -> None:
    fields = ["1 of 301 files", "1.0 kB of 2.0 MB", "3 s left"]
    assert format_progress("storing", 0.5, fields, 100).endswith("50%  1 of 301 files, 1.0 kB of 2.0 MB, 3 s left")
    assert format_progress("storing", 0.5, fields, 75).endswith(" 50%  1.0 kB of 2.0 MB, 3 s left")
    assert format_progress("storing", 0.5, fields, 60).endswith(" 50%  3 s left")
    assert format_progress("storing", 0.5, fields, 45).endswith("─  50%")
    assert format_progress("storing", 0.5, fields, 20) == "storing 50%"
    assert format_progress("storing", 0.5, fields, 5) == ""
