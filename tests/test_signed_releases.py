"""Signed releases from the command line: only what a trusted key has signed goes live."""

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from assetserver.cli import main


@pytest.fixture
def key(require, tmp_path):
    """Path of a secret key that minisign made, without a password; its public key lies beside it."""
    path = tmp_path / "release.key"
    command = [require("minisign"), "-G", "-W", "-p", str(tmp_path / "release.pub"), "-s", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture
def run(tmp_path, key, monkeypatch):
    """Run a command on a site that trusts the key; ``run(*arguments)`` returns exit code and output."""
    monkeypatch.delenv("ASSETSERVER_SIGN_PASSWORD", raising=False)
    public = key.with_suffix(".pub").read_text().splitlines()[1]
    config = tmp_path / "assetserver.toml"
    config.write_text(f'[data]\npath = "data"\ntrusted_keys = ["{public}"]\n')

    def call(*arguments):
        result = CliRunner().invoke(main, [*arguments, "--config", str(config)])
        return result.exit_code, result.output

    return call


@pytest.fixture
def dist(tmp_path):
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "index.html").write_text("<p>one")
    return folder


def manifest_of(tmp_path: Path) -> Path:
    [path] = (tmp_path / "data/releases").glob("*.json")
    return path


def test_an_unsigned_release_is_kept_and_does_not_go_live(run, dist, tmp_path):
    code, output = run("publish", str(dist), "--prod")
    assert code == 1
    config = tmp_path / "assetserver.toml"
    assert f"is not signed, and data.trusted_keys wants it: assetserver publish --config {config} --sign KEY" in output
    assert json.loads(run("releases", "--json")[1])[0]["active"] is False


def test_a_signed_release_goes_live_and_minisign_agrees(run, dist, tmp_path, key, require):
    code, output = run("publish", str(dist), "--prod", "--sign", str(key))
    assert (code, "live now" in output) == (0, True), output
    command = [require("minisign"), "-V", "-m", str(manifest_of(tmp_path)), "-p", str(key.with_suffix(".pub"))]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert verified.returncode == 0, verified.stderr
    assert manifest_of(tmp_path).stem in verified.stdout


def test_a_release_that_minisign_signed_later_goes_live(run, dist, tmp_path, key, require):
    run("publish", str(dist))
    command = [require("minisign"), "-S", "-m", str(manifest_of(tmp_path)), "-s", str(key)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    code, output = run("promote", manifest_of(tmp_path).stem[:12])
    assert code == 0, output


def test_a_signature_of_another_release_does_not_do(run, dist, tmp_path, key):
    run("publish", str(dist), "--sign", str(key))
    first = manifest_of(tmp_path)
    (dist / "index.html").write_text("<p>two")
    run("publish", str(dist))
    [second] = [one for one in first.parent.glob("*.json") if one != first]
    shutil.copy(f"{first}.minisig", f"{second}.minisig")
    code, output = run("promote", second.stem)
    assert code == 1
    assert second.stem[:12] in output


def test_verify_names_a_release_whose_signature_is_missing(run, dist, tmp_path, key):
    run("publish", str(dist), "--prod", "--sign", str(key))
    assert run("verify")[0] == 0
    Path(f"{manifest_of(tmp_path)}.minisig").unlink()
    code, output = run("verify")
    assert code == 1
    assert "is not signed" in output


def test_the_integrity_of_every_file_is_written_down(dist, tmp_path):
    target = tmp_path / "integrity.json"
    arguments = ["publish", str(dist), "--data", str(tmp_path / "data"), "--integrity", str(target)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    digest = base64.b64encode(hashlib.sha384(b"<p>one").digest()).decode()
    assert json.loads(target.read_text()) == {"index.html": f"sha384-{digest}"}
