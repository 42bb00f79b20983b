"""``publish --url`` from the command line to a real server: as locally, with a token, and clear words where it cannot."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from assetserver.cli import main
from assetserver.releases.signing import SUFFIX
from assetserver.remoteroutes import PATHS, open_releases_api
from assetserver.settings import load_settings

STATIC = Path(__file__).parent.parent / "static"
DEADLINE_S = 60
KEY = b"-----BEGIN PRIVATE KEY-----\n" + b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg" + b"\n-----END PRIVATE KEY-----\n"

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``call("publish", …)`` runs a command in an empty folder of a machine that keeps no releases."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASSETSERVER_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return lambda *arguments: CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def there(tmp_path: Path, call: Call, origin: Callable[..., str]) -> Callable[..., str]:
    """``there(config)`` starts a server with settings, sets a token that may publish, and returns its URL."""

    def start(config: str = "", scope: str = "publish") -> str:
        data = tmp_path / "there"
        made = call("token", "create", "--scope", scope, "--data", data)
        assert made.exit_code == 0, made.output
        token = made.stdout.splitlines()[-1]
        pytest.MonkeyPatch.setenv(patch, "ASSETSERVER_TOKEN", token)
        return origin(None, "--data", data, config=config)

    with pytest.MonkeyPatch.context() as patch:
        yield start


def wait_for(url: str, text: str) -> None:
    """Ask until ``text`` is in the answer: every worker sees an activation within a second."""
    deadline = time.monotonic() + DEADLINE_S
    while text not in (answer := httpx.get(url, timeout=DEADLINE_S)).text:
        assert time.monotonic() < deadline, answer.text[:500]
        time.sleep(0.05)


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_folder_goes_live_on_another_machine_and_is_the_same_release_as_here(call, there, tmp_path):
    url = there()
    here = json.loads(done(call("publish", STATIC / "v1", "--json")))
    said = done(call("publish", STATIC / "v1", "--url", url, "--prod", "--alias", "staging", "-m", "first"))
    assert f"published {here['id'][:12]}: 14 files" in said
    assert f"live now at {url}/" in said
    assert f"preview {url}/-/releases/@staging/" in said
    wait_for(url + "/", "Release 1.")
    assert httpx.get(f"{url}/-/releases/@staging/", timeout=DEADLINE_S).status_code == 200

    told = json.loads(done(call("publish", STATIC / "v2", "--url", url, "--json")))
    assert set(told) == set(here)
    assert 0 < told["new"] < told["files"]
    assert (told["active"], told["url"], told["preview"]) == (False, "", f"{url}/-/releases/{told['id'][:12]}/")
    again = json.loads(done(call("publish", STATIC / "v2", "--url", url, "--json", "--prod")))
    assert (again["id"], again["new"], again["new_bytes"], again["active"]) == (told["id"], 0, 0, True)
    wait_for(url + "/", "Release 2.")
    rows = json.loads(done(call("releases", "--data", tmp_path / "there", "--json")))
    assert [(row["message"], row["active"], row["aliases"]) for row in rows] == [("", True, []), ("first", False, ["staging"])]


def test_a_dry_run_tells_what_would_travel_and_changes_nothing(call, there, tmp_path):
    url = there()
    here = json.loads(done(call("publish", STATIC / "v1", "--json", "--dry-run")))
    told = json.loads(done(call("publish", STATIC / "v1", "--url", url, "--json", "--dry-run")))
    assert {name for name in here if here[name] != told[name]} == {"preview"}  # known when it is there
    done(call("publish", STATIC / "v1", "--url", url, "--prod"))
    said = done(call("publish", STATIC / "v2", "--url", url, "--dry-run", "--prod", "--alias", "next"))
    assert "would publish" in said
    assert f"would go live; now it is {here['id'][:12]}" in said
    assert "would set @next" in said
    assert "is live already" in done(call("publish", STATIC / "v1", "--url", url, "--dry-run", "--prod"))
    assert len(json.loads(done(call("releases", "--data", tmp_path / "there", "--json")))) == 1


def test_the_settings_there_decide(call, there, tmp_path):
    url = there(
        '[publish]\nsource_maps = "leave-out"\ndialect = "cloudflare"\n[[sites]]\nname = "main"\nimmutable = ["*.js"]\n'
    )
    (tmp_path / "dist").mkdir()
    for name in ("index.html", "app.js", "app.js.map"):
        (tmp_path / "dist" / name).write_bytes(b"content")
    told = json.loads(done(call("publish", tmp_path / "dist", "--url", url, "--json", "--prod")))
    assert (told["files"], told["site"], list(told["fingerprints"])) == (2, "main", ["app.js"])
    dry = json.loads(done(call("publish", tmp_path / "dist", "--url", url, "--json", "--dry-run")))
    assert dry["id"] == told["id"]
    wrong = call("publish", tmp_path / "dist", "--url", url, "--site", "other")
    assert wrong.exit_code == 1
    assert "there is no site 'other'" in wrong.stderr


def test_a_locked_site_keeps_the_release_and_does_not_serve_it(call, there, tmp_path):
    url = there()
    done(call("publish", STATIC / "v1", "--url", url, "--prod"))
    done(call("lock", "--data", tmp_path / "there", "-m", "holidays"))
    assert "would not go live: the site is locked: holidays" in done(
        call("publish", STATIC / "v2", "--url", url, "--prod", "--dry-run")
    )
    refused = call("publish", STATIC / "v2", "--url", url, "--prod")
    assert refused.exit_code == 1
    assert "the site is locked: holidays" in refused.stderr
    rows = json.loads(done(call("releases", "--data", tmp_path / "there", "--json")))
    assert [row["active"] for row in rows] == [False, True]


def test_a_secret_is_told_and_does_not_leave_this_machine(call, there, tmp_path):
    url = there()
    shutil.copytree(STATIC / "v1", tmp_path / "dist")
    (tmp_path / "dist" / "notes.txt").write_bytes(KEY)
    (tmp_path / "dist" / ".env").write_bytes(b"PASSWORD=x")
    refused = call("publish", tmp_path / "dist", "--url", url, "--json")
    assert refused.exit_code == 1
    told = json.loads(refused.stdout)
    assert [one["message"].split(" looks like ")[0] for one in told["findings"]] == [".env", "notes.txt"]
    assert not (tmp_path / "there" / "blobs").exists()


def test_a_signature_made_here_counts_there(call, there, tmp_path, require):
    pytest.importorskip("cryptography")
    minisign = require("minisign")
    subprocess.run([minisign, "-G", "-W", "-p", "key.pub", "-s", "secret.key"], check=True, capture_output=True)
    public = (tmp_path / "key.pub").read_text().splitlines()[-1]
    url = there(f'[data]\ntrusted_keys = ["{public}"]\n')
    refused = call("publish", STATIC / "v1", "--url", url, "--prod")
    assert refused.exit_code == 1
    assert "is not signed" in refused.stderr
    told = json.loads(done(call("publish", STATIC / "v1", "--url", url, "--prod", "--sign", "secret.key", "--json")))
    assert told["active"]
    manifest = tmp_path / "there" / "releases" / f"{told['id']}.json"
    subprocess.run([minisign, "-V", "-p", "key.pub", "-m", manifest, "-x", f"{manifest}{SUFFIX}"], check=True)


def test_integrity_is_that_of_a_local_publish(call, there):
    url = there()
    done(call("publish", STATIC / "v1", "--integrity", "here.json"))
    done(call("publish", STATIC / "v1", "--url", url, "--integrity", "there.json"))
    assert Path("here.json").read_bytes() == Path("there.json").read_bytes()
    result = call("publish", STATIC / "v1", "--url", url, "--integrity", "-")
    assert json.loads(result.stdout) == json.loads(Path("here.json").read_bytes())
    assert "published" in result.stderr


@pytest.mark.parametrize("scope", ["upload", "read"])
def test_a_token_of_another_scope_is_told(call, there, scope):
    refused = call("publish", STATIC / "v1", "--url", there(scope=scope))
    assert refused.exit_code == 1
    assert "does not let this token publish: this needs the scope publish" in refused.stderr


def test_a_token_with_every_scope_may_publish(call, there):
    done(call("publish", STATIC / "v1", "--url", there(scope="admin")))


def test_what_is_wrong_is_told_in_one_line(call, there, closed_port):
    url = there()
    wrong = call("publish", STATIC / "v1", "--url", url, "--token", "ast_0123456789ab_" + "0" * 48)
    assert "does not accept the token" in wrong.stderr
    gone = call("publish", STATIC / "v1", "--url", f"http://127.0.0.1:{closed_port}")
    assert "cannot be reached" in gone.stderr
    other = call("publish", STATIC / "v1", "--url", url + "/below")
    assert "not as an assetserver" in other.stderr
    folder = call("publish", "nowhere", "--url", url)
    assert "nowhere is not a folder" in folder.stderr
    for one in (wrong, gone, other, folder):
        assert one.exit_code == 1
        assert len(one.stderr.splitlines()) == 1


def test_several_workers_share_the_work(call, there, tmp_path):
    url = there("[server]\nworkers = 2\n")
    files = {f"{n}.html": b"<p>page %d" % n for n in range(60)}
    (tmp_path / "dist").mkdir()
    for name, content in files.items():
        (tmp_path / "dist" / name).write_bytes(content)
    told = json.loads(done(call("publish", tmp_path / "dist", "--url", url, "--prod", "--json")))
    assert (told["new"], told["active"]) == (60, True)
    assert json.loads(done(call("publish", tmp_path / "dist", "--url", url, "--json")))["new"] == 0


def test_ctrl_c_ends_it_and_says_how_things_stand(there, tmp_path):
    url = there()
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "large.bin").write_bytes(bytes(200 << 20))
    (tmp_path / "dist" / "index.html").write_bytes(b"<p>")
    command = [sys.executable, "-m", "assetserver", "publish", "dist", "--url", url, "--prod"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "there" / "blobs" / "tmp"
    deadline = time.monotonic() + DEADLINE_S
    while not (folder.exists() and any(folder.iterdir())) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "publishing again goes on from there" in said


def test_releases_are_taken_where_uploads_are_not(call, there):
    url = there("[uploads]\nenabled = false\n")
    done(call("publish", STATIC / "v1", "--url", url))
    assert httpx.post(url + "/uploads", timeout=DEADLINE_S).status_code == 405  # as anywhere on the site
    assert httpx.get(url + "/media/x/y", timeout=DEADLINE_S).status_code == 404


def test_releases_over_http_can_be_switched_off(call, there):
    refused = call("publish", STATIC / "v1", "--url", there("[publish]\nremote = false\n"))
    assert "publish.remote" in refused.stderr


@pytest.mark.parametrize("option", ["--data", "--config"])
def test_options_of_this_machine_do_not_go_with_a_url(call, option):
    refused = call("publish", STATIC / "v1", "--url", "https://example.com", option, "x")
    assert refused.exit_code == 2
    assert f"{option} is of this machine" in refused.stderr


def test_without_a_token_it_is_told_how_to_make_one(call):
    refused = call("publish", STATIC / "v1", "--url", "https://example.com")
    assert "assetserver token create --scope publish" in refused.stderr


def test_every_path_of_the_api_is_there_before_it_is_opened(tmp_path):
    api = open_releases_api(load_settings(None, {}, {"data.path": str(tmp_path)}))
    try:
        assert tuple(api.resources()) == PATHS
    finally:
        api.close()
