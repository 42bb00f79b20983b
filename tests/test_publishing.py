"""Publish, switch and roll back from the command line, while a real server answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from assetserver.cli import main

STATIC = Path(__file__).parent.parent / "static"
DEADLINE_S = 10


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
        answer = httpx.get(url)
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
    old = httpx.get(f"{url}/assets/{lazy.name}")
    assert (old.content, old.headers["cache-control"]) == (lazy.read_bytes(), "public, max-age=31536000, immutable")

    assert "rolled back" in run("rollback", "--data", data)
    wait_for(url + "/", "Release 1.")
    assert httpx.get(f"{url}/assets/gone.0123456789ab.js").headers["cache-control"] == "no-store"


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


def test_releases_are_listed_newest_first_with_their_aliases(run: Callable[..., str]) -> None:
    assert "nothing is published to default yet" in run("releases")
    run("publish", str(STATIC / "v1"), "--prod", "-m", "first")
    run("publish", str(STATIC / "v2"), "--alias", "staging", "-m", "second")
    newest, oldest = run("releases").splitlines()
    assert newest.startswith("  ")
    assert newest.endswith("@staging second")
    assert oldest.startswith("* ")
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
    assert (refused.exit_code, "nothing to roll back to" in refused.output) == (1, True)
    assert f"{ids[2]} is active" in run("promote", ids[2])
    assert run("rollback") == f"rolled back from {ids[2]} to {ids[0]}\n"
