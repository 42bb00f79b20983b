"""Debian's minisign and we accept each other's signatures and keys, and refuse the same."""

import re
import subprocess
from pathlib import Path

import pytest

from assetserver.errors import SignatureError
from assetserver.releases.manifest import FileRecord, Manifest
from assetserver.releases.signing import (
    SUFFIX,
    format_trusted_comment,
    load_secret_key,
    parse_public_key,
    parse_signature,
    sign,
    verify_signature,
)
from assetserver.storage.blobs import Digest

MANIFEST = Manifest({"index.html": FileRecord(Digest("ab" * 32), 12)})
COMMENT = format_trusted_comment(MANIFEST.id, 1_800_000_000)
PASSWORD = b"correct horse"
LIMIT_S = 200
"""A password costs scrypt with 1 GiB: seconds, and a minute beside others."""

pytestmark = pytest.mark.timeout(2 * LIMIT_S)


@pytest.fixture(scope="module")
def minisign(require):
    """``minisign(*arguments, passwords=())`` runs it and returns what it did; it reads passwords from its input."""
    program = require("minisign")

    def run(*arguments, passwords=()):
        lines = b"".join(one + b"\n" for one in passwords)
        return subprocess.run([program, *map(str, arguments)], input=lines, capture_output=True, check=False, timeout=LIMIT_S)

    return run


@pytest.fixture(scope="module")
def keys(minisign, tmp_path_factory) -> dict[str, Path]:
    """Key pairs that minisign made, by whether they want a password: ``plain.key`` and ``plain.pub`` and so on."""
    folder = tmp_path_factory.mktemp("keys")
    for name, options, passwords in (("plain", ["-W"], ()), ("encrypted", [], (PASSWORD, PASSWORD))):
        done = minisign("-G", *options, "-p", folder / f"{name}.pub", "-s", folder / f"{name}.key", passwords=passwords)
        assert done.returncode == 0, done.stderr
    return {file.name: file for file in folder.iterdir()}


@pytest.fixture
def manifest(tmp_path) -> Path:
    path = tmp_path / f"{MANIFEST.id}.json"
    path.write_bytes(MANIFEST.encode())
    return path


def signature_of(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def public_key(keys, name):
    return parse_public_key(keys[f"{name}.pub"].read_text())


def test_minisign_accepts_what_is_signed_here(minisign, keys, manifest):
    key = load_secret_key(str(keys["plain.key"]), None)
    signature_of(manifest).write_text(sign(key, manifest.read_bytes(), COMMENT))
    for trusted in (["-p", keys["plain.pub"]], ["-P", key.public_key]):
        done = minisign("-V", "-H", "-m", manifest, *trusted)
        assert done.returncode == 0, done.stderr
        assert f"Trusted comment: {COMMENT}".encode() in done.stdout


def test_the_longest_comment_that_is_signed_here_is_read_by_minisign(minisign, keys, manifest):
    key = load_secret_key(str(keys["plain.key"]), None)
    signature_of(manifest).write_text(sign(key, manifest.read_bytes(), "x" * 8173))
    done = minisign("-V", "-m", manifest, "-p", keys["plain.pub"])
    assert done.returncode == 0, done.stderr


def test_a_key_with_a_password_signs_the_same_on_both_sides(minisign, keys, manifest):
    key = load_secret_key(str(keys["encrypted.key"]), PASSWORD)
    assert key.public_key == public_key(keys, "encrypted")
    done = minisign("-S", "-s", keys["encrypted.key"], "-t", COMMENT, "-m", manifest, passwords=[PASSWORD])
    assert done.returncode == 0, done.stderr
    theirs = signature_of(manifest).read_text()
    assert verify_signature([key.public_key], manifest.read_bytes(), theirs) == key.public_key
    assert theirs.splitlines()[1:] == sign(key, manifest.read_bytes(), COMMENT).splitlines()[1:]


def test_a_wrong_password_is_refused(keys):
    with pytest.raises(SignatureError, match="not the password"):
        load_secret_key(str(keys["encrypted.key"]), b"wrong")


@pytest.mark.parametrize("options", [[], ["-l"], ["-t", "né ☃"], ["-t", ""], ["-c", "unt rusted é"]])
def test_what_minisign_signs_is_accepted_here(options, minisign, keys, manifest):
    done = minisign("-S", "-s", keys["plain.key"], *options, "-m", manifest)
    assert done.returncode == 0, done.stderr
    text = signature_of(manifest).read_text()
    key = public_key(keys, "plain")
    assert verify_signature([key], manifest.read_bytes(), text) == key
    assert parse_signature(text).is_prehashed == ("-l" not in options)
    with pytest.raises(SignatureError, match="other bytes"):
        verify_signature([key], manifest.read_bytes() + b" ", text)


def test_the_trusted_comment_is_what_minisign_would_write(minisign, keys, manifest):
    minisign("-S", "-s", keys["plain.key"], "-m", manifest)
    comment = parse_signature(signature_of(manifest).read_text()).trusted_comment.decode()
    assert re.sub(r"timestamp:\d+", "timestamp:1800000000", comment) == COMMENT


def test_key_ids_are_written_as_minisign_writes_them(keys):
    """But for zeros at the beginning: minisign 0.11 leaves them out, of one key in sixteen."""
    comment = keys["plain.pub"].read_text().splitlines()[0]
    assert comment.rpartition(" ")[2].rjust(16, "0") == public_key(keys, "plain").key_id


FLAWS = {
    "a changed comment": lambda lines: [*lines[:2], lines[2].replace("timestamp:18", "timestamp:19"), lines[3]],
    "a changed signature": lambda lines: [
        lines[0],
        lines[1][:40] + ("B" if lines[1][40] == "A" else "A") + lines[1][41:],
        *lines[2:],
    ],
    "another key id": lambda lines: [lines[0], "RUQAAAAAAAAA" + lines[1][12:], *lines[2:]],
    "a line missing": lambda lines: lines[:3],
    "no base64": lambda lines: [lines[0], "!" + lines[1][1:], *lines[2:]],
    "bytes behind": lambda lines: [*lines[:3], lines[3] + "AAAA"],
    "no comment": lambda lines: ["x", *lines[1:]],
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_both_refuse(flaw, minisign, keys, manifest):
    key = load_secret_key(str(keys["plain.key"]), None)
    text = "\n".join(FLAWS[flaw](sign(key, manifest.read_bytes(), COMMENT).splitlines())) + "\n"
    signature_of(manifest).write_text(text)
    assert minisign("-V", "-m", manifest, "-p", keys["plain.pub"]).returncode != 0
    with pytest.raises(SignatureError):
        verify_signature([key.public_key], manifest.read_bytes(), text)
