from base64 import b64encode
from hashlib import sha256, sha512

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.digestfields import format_digests, parse_digests

SHA256 = sha256(b"hello").digest()
SHA512 = sha512(b"hello").digest()
TEXT = b64encode(SHA256).decode()
LONG = b64encode(SHA512).decode()


@pytest.mark.parametrize(
    ("text", "digests"),
    [
        (f"sha-256=:{TEXT}:", {"sha-256": SHA256}),
        (f"sha-256=:{TEXT}:, sha-512=:{LONG}:", {"sha-256": SHA256, "sha-512": SHA512}),
        (f"sha-512=:{LONG}:;p=1 ", {"sha-512": SHA512}),
        (f"sha-256=:{b64encode(bytes(32)).decode()}:,sha-256=:{TEXT}:", {"sha-256": SHA256}),
        ("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:, unixsum=:AAA=:", {}),
        (f"sha=:AAAA:, sha-256=:{TEXT}:", {"sha-256": SHA256}),
    ],
)
def test_known_algorithms_are_read(text, digests):
    assert parse_digests(text) == digests


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "sha-256",
        f"sha-256={TEXT}",
        f'sha-256="{TEXT}"',
        f"SHA-256=:{TEXT}:",
        f"sha-256=:{TEXT}",
        "sha-256=:AAAA:",
        f"sha-256=:{LONG}:",
        "sha-256=:A:",
        f"sha-256=:{TEXT}:, 1",
        f"sha-256=:{TEXT}:" * 400,
    ],
)
def test_malformed_field_is_none(text):
    assert parse_digests(text) is None


def test_digests_are_written_as_they_are_read():
    digests = {"sha-256": SHA256, "sha-512": SHA512}

    assert parse_digests(format_digests(digests)) == digests


@given(st.text())
def test_no_text_makes_the_parser_raise(text):
    parse_digests(text)
    parse_digests(f"sha-256=:{text}:")
