"""``integrity.json``: the values that browsers compare, from the blobs, in one spelling."""

import json
import os
import shutil
import subprocess

import pytest

from assetserver.errors import PublishError
from assetserver.releases.integrity import format_integrity, integrity_of

HELLO = b"alert('Hello, world.');"
HELLO_INTEGRITY = "sha384-H8BRh8j48O9oYatfu5AZzq6A9RINhZO5H16dQZngK7T62em8MUt1FLm52t+eX6xO"
"""The example of integrity metadata in W3C's Subresource Integrity."""


@pytest.fixture
def files_of(library, publish):
    """``files_of({"a.js": b"…"})`` publishes, and returns the files of the manifest."""
    return lambda files: library.load_manifest(publish(files).release).files


def test_the_specifications_example_has_the_specifications_value(library, files_of):
    assert integrity_of(library.blobs, files_of({"hello.js": HELLO})) == {"hello.js": HELLO_INTEGRITY}


def test_every_file_has_what_openssl_says(library, files_of, missing):
    openssl = shutil.which("openssl") or missing("openssl")
    files = {"empty.txt": b"", "a/b.css": b"p {}\n", "big.bin": os.urandom(3_000_000), "é ü.js": b"1"}
    found = integrity_of(library.blobs, files_of(files))
    assert set(found) == set(files)
    for name, content in files.items():
        digest = subprocess.run([openssl, "dgst", "-sha384", "-binary"], input=content, capture_output=True, check=True).stdout
        text = subprocess.run([openssl, "base64", "-A"], input=digest, capture_output=True, check=True).stdout.decode()
        assert found[name] == f"sha384-{text}"


def test_equal_files_at_two_paths_have_equal_values(library, files_of):
    assert integrity_of(library.blobs, files_of({"a.js": HELLO, "b/c.js": HELLO})) == {
        "a.js": HELLO_INTEGRITY,
        "b/c.js": HELLO_INTEGRITY,
    }


def test_no_files_have_no_values(library):
    assert integrity_of(library.blobs, {}) == {}


def test_the_same_files_give_the_same_bytes_in_whatever_order():
    forward, backward = {"a": "sha384-1", "b": "sha384-2"}, {"b": "sha384-2", "a": "sha384-1"}
    assert format_integrity(forward) == format_integrity(backward) == b'{\n "a": "sha384-1",\n "b": "sha384-2"\n}\n'


def test_what_is_written_is_json_in_utf_8():
    assert json.loads(format_integrity({"é ü.js": HELLO_INTEGRITY}).decode()) == {"é ü.js": HELLO_INTEGRITY}
    assert "é ü.js".encode() in format_integrity({"é ü.js": HELLO_INTEGRITY})


def test_a_damaged_blob_is_named_not_vouched_for(library, files_of):
    files = files_of({"a.js": HELLO, "b.js": b"fine"})
    path = library.blobs.path_of(files["a.js"].digest)
    os.chmod(path, 0o644)
    with open(path, "wb") as file:
        file.write(HELLO.replace(b"Hello", b"Hacko"))
    with pytest.raises(PublishError, match=r"a\.js has no integrity: its blob [0-9a-f]{12} is damaged; publish it again"):
        integrity_of(library.blobs, files)


def test_a_missing_blob_is_named(library, files_of):
    files = files_of({"a.js": HELLO})
    library.blobs.delete(files["a.js"].digest)
    with pytest.raises(PublishError, match=r"a\.js has no integrity: its blob [0-9a-f]{12} is gone; publish it again"):
        integrity_of(library.blobs, files)
