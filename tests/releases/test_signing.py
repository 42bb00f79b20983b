"""Signatures in minisign's format, without minisign: what is accepted, and what each flaw is told."""

import sys
from base64 import b64decode, b64encode
from hashlib import blake2b, scrypt

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import SettingsError, SignatureError
from assetserver.releases.manifest import Manifest
from assetserver.releases.signing import (
    PublicKey,
    SecretKey,
    Signature,
    format_trusted_comment,
    load_secret_key,
    parse_public_key,
    parse_signature,
    sign,
    verify_signature,
)

KNOWN_KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
KNOWN_LEGACY = (
    "untrusted comment: signature from minisign secret key\n"
    "RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
    "trusted comment: timestamp:1555779966\tfile:test\n"
    "QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n"
)
CONTENT = Manifest().encode()
COMMENT = format_trusted_comment(Manifest().id, 1_800_000_000)
KEY_ID = bytes(range(8))


def make_key(seed: bytes = b"s" * 32, key_id: str = "0706050403020100") -> SecretKey:
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return SecretKey(PublicKey(key_id, public), seed)


KEY = make_key()
OTHER = make_key(b"t" * 32, "1716151413121110")
TEXT = sign(KEY, CONTENT, COMMENT)
LINES = TEXT.splitlines()


def write_key_file(path, *, password: bytes = b"", limits=(32768, 16 << 20), parameters=(1024, 8, 1), halves=None) -> str:
    """Write a secret key as minisign does. ``parameters`` are what its ``limits`` mean to scrypt."""
    seed, public = halves or (KEY.seed, KEY.public_key.key)
    pair = KEY_ID + seed + public
    pair += blake2b(b"Ed" + pair, digest_size=32).digest() if password else bytes(32)
    salt = b"salt" * 8 if password else bytes(32)
    if password:
        n, r, p = parameters
        stream = scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=1 << 28, dklen=len(pair))
        pair = bytes(one ^ other for one, other in zip(pair, stream, strict=True))
    sizes = b"".join(one.to_bytes(8, "little") for one in (limits if password else (0, 0)))
    content = b"Ed" + (b"Sc" if password else b"\0\0") + b"B2" + salt + sizes + pair
    path.write_bytes(b"untrusted comment: a key\n" + b64encode(content) + b"\n")
    return str(path)


def replaced(number: int, line: str) -> str:
    return "\n".join([*LINES[:number], line, *LINES[number + 1 :]]) + "\n"


def changed(line: str, at: int) -> str:
    """Change one bit of what a line of base64 encodes."""
    content = bytearray(b64decode(line))
    content[at] ^= 1
    return b64encode(content).decode()


def test_a_known_signature_of_the_legacy_kind_is_verified():
    key = parse_public_key(KNOWN_KEY)
    assert verify_signature([key], b"test", KNOWN_LEGACY) == key
    assert key.key_id == "E7620F1842B4E81F"


def test_what_is_signed_is_verified_and_says_by_which_key():
    assert verify_signature([OTHER.public_key, KEY.public_key], CONTENT, TEXT) == KEY.public_key


def test_signing_the_same_again_gives_the_same_text():
    assert sign(KEY, CONTENT, COMMENT) == TEXT


def test_a_signature_is_read_as_it_was_written():
    signature = parse_signature(TEXT)
    assert signature.key_id == KEY.public_key.key_id
    assert signature.is_prehashed
    assert signature.trusted_comment.decode() == f"timestamp:1800000000\tfile:{Manifest().id}.json\thashed"


def test_two_keys_of_the_same_id_are_both_tried():
    twin = make_key(b"u" * 32)
    assert verify_signature([twin.public_key, KEY.public_key], CONTENT, TEXT) == KEY.public_key


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_other_systems_and_a_missing_last_one_are_accepted(ending, last):
    text = ending.join(LINES) + (ending if last else "")
    assert verify_signature([KEY.public_key], CONTENT, text) == KEY.public_key


def test_the_untrusted_comment_may_be_changed():
    assert verify_signature([KEY.public_key], CONTENT, replaced(0, "untrusted comment: anything ☃")) == KEY.public_key


def test_a_trusted_comment_that_is_not_utf_8_is_verified_as_the_bytes_that_it_is():
    comment = b"timestamp:1\tfile:caf\xe9"
    key = ed25519.Ed25519PrivateKey.from_private_bytes(KEY.seed)
    signature = parse_signature(TEXT).signature
    lines = [line.encode() for line in LINES]
    lines[2:] = [b"trusted comment: " + comment, b64encode(key.sign(signature + comment))]
    text = b"\n".join(lines).decode(errors="surrogateescape")
    assert verify_signature([KEY.public_key], CONTENT, text) == KEY.public_key


@pytest.mark.parametrize("content", [CONTENT + b"\n", CONTENT[:-1], b""])
def test_other_bytes_are_refused(content):
    with pytest.raises(SignatureError, match=r"is of other bytes than these.*sign it again"):
        verify_signature([KEY.public_key], content, TEXT)


def test_every_bit_that_is_signed_counts():
    for at in range(10, 74):
        with pytest.raises(SignatureError, match="is of other bytes than these"):
            verify_signature([KEY.public_key], CONTENT, replaced(1, changed(LINES[1], at)))
    for at in range(64):
        with pytest.raises(SignatureError, match="trusted comment was changed"):
            verify_signature([KEY.public_key], CONTENT, replaced(3, changed(LINES[3], at)))


def test_a_changed_trusted_comment_is_refused():
    with pytest.raises(SignatureError, match=r"trusted comment was changed after key 0706050403020100 signed it; bring back"):
        verify_signature([KEY.public_key], CONTENT, TEXT.replace("timestamp:18", "timestamp:19"))


def test_a_key_that_is_not_trusted_is_named_with_those_that_are():
    with pytest.raises(SignatureError, match=r"key 0706050403020100 .* not among the trusted keys \(1716151413121110\)"):
        verify_signature([OTHER.public_key], CONTENT, TEXT)
    with pytest.raises(SignatureError, match="none are given"):
        verify_signature([], CONTENT, TEXT)


def test_another_key_under_a_trusted_id_is_refused():
    forged = sign(make_key(b"u" * 32), CONTENT, COMMENT)
    with pytest.raises(SignatureError, match="another key with this id"):
        verify_signature([KEY.public_key], CONTENT, forged)


FLAWED_SIGNATURES = {
    "nothing": ("", "1 lines, not 4"),
    "too few lines": ("\n".join(LINES[:3]), "3 lines, not 4"),
    "a line behind": (TEXT + "x\n", "5 lines, not 4"),
    "an empty line behind": (TEXT + "\n", "5 lines, not 4"),
    "no untrusted comment": (replaced(0, "comment"), "line 1 .* 'untrusted comment: '"),
    "no trusted comment": (replaced(2, "comment"), "line 3 .* 'trusted comment: '"),
    "no base64": (replaced(1, "!" + LINES[1][1:]), "line 2 .* is not base64"),
    "a space behind": (replaced(1, LINES[1] + " "), "line 2 .* is not base64"),
    "characters behind": (replaced(3, LINES[3] + "AAAA"), "line 4 .* is not base64"),
    "no padding": (replaced(3, LINES[3].rstrip("=")), "line 4 .* is not base64"),
    "stray bits": (replaced(3, LINES[3][:-3] + chr(ord(LINES[3][-3]) + 1) + "=="), "line 4 .* as it is written"),
    "not ASCII": (replaced(1, "é" + LINES[1]), "line 2 .* is not base64"),
    "too short": (replaced(1, b64encode(b"ED" + bytes(71)).decode()), "line 2 .* 73 bytes long, not 74"),
    "global too long": (replaced(3, b64encode(bytes(65)).decode()), "line 4 .* 65 bytes long, not 64"),
    "another algorithm": (replaced(1, b64encode(b"XX" + bytes(72)).decode()), "unknown algorithm 'XX'"),
    "a terminal's escape": (replaced(2, "trusted comment: \x1b[2J"), "control characters"),
    "a lone surrogate": (TEXT.replace("file", "\ud800"), "is not text"),
    "a huge comment": (replaced(2, "trusted comment: " + "x" * 8192), "8192 bytes long"),
}


@pytest.mark.parametrize("flaw", FLAWED_SIGNATURES)
def test_a_flawed_signature_is_told_its_flaw(flaw):
    text, message = FLAWED_SIGNATURES[flaw]
    with pytest.raises(SignatureError, match=message):
        parse_signature(text)


PUB = f"untrusted comment: minisign public key 0706050403020100\n{KEY.public_key}\n"
FLAWED_PUBLIC_KEYS = {
    "nothing": ("", "0 bytes long, not 42; give the line that begins with RW"),
    "only the comment": (PUB.splitlines()[0], "is not base64"),
    "a line behind": (PUB + "x\n", "3 lines"),
    "two keys": (f"{KEY.public_key}\n{OTHER.public_key}", "2 lines"),
    "characters behind": (f"{KEY.public_key}=", "not base64"),
    "too short": (b64encode(b"Ed" + bytes(39)).decode(), "41 bytes long, not 42"),
    "another algorithm": (b64encode(b"ED" + bytes(40)).decode(), "unknown algorithm 'ED'"),
    "a secret key": (b64encode(b"Ed\0\0B2" + bytes(152)).decode(), "this is a secret key.*keep this one secret"),
}


@pytest.mark.parametrize("text", [str(KEY.public_key), f"{KEY.public_key}\n", PUB, PUB.replace("\n", "\r\n")])
def test_a_public_key_is_a_line_or_a_whole_file(text):
    assert parse_public_key(text) == KEY.public_key


@pytest.mark.parametrize("flaw", FLAWED_PUBLIC_KEYS)
def test_a_flawed_public_key_is_told_its_flaw(flaw):
    text, message = FLAWED_PUBLIC_KEYS[flaw]
    with pytest.raises(SignatureError, match=message) as caught:
        parse_public_key(text)
    assert text == "" or text not in str(caught.value)  # it may be a secret


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("\n\r=+/ABCrutsedomnt: ")


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    at = draw(st.integers(0, len(text)))
    until = draw(st.integers(at, min(len(text), at + 8)))
    return text[:at] + draw(ANY_TEXT) + text[until:]


def told(parse, text):
    """Return what ``parse`` makes of the text, or the message of its error; any other error is a failure."""
    try:
        return parse(text)
    except SignatureError as error:
        return str(error)


@given(ANY_TEXT | damaged(TEXT))
def test_any_text_is_a_signature_or_a_signature_error_that_can_be_shown(text):
    found = told(parse_signature, text)
    assert isinstance(found, Signature) or found.isprintable()


@given(ANY_TEXT | damaged(PUB))
def test_any_text_is_a_public_key_or_a_signature_error_that_can_be_shown(text):
    found = told(parse_public_key, text)
    assert found.isprintable() if isinstance(found, str) else parse_public_key(str(found)) == found


@given(damaged(TEXT))
def test_no_damage_makes_a_signature_that_says_something_else(text):
    try:
        verify_signature([KEY.public_key], CONTENT, text)
    except SignatureError:
        return
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    assert lines[1:] == LINES[1:]


@given(st.binary(max_size=300))
def test_any_content_is_verified_as_signed(content):
    assert verify_signature([KEY.public_key], content, sign(KEY, content, "a comment, né ☃")) == KEY.public_key


@pytest.mark.parametrize("comment", ["two\nlines", "a\rreturn", "\x1b[2J", "\x7f", "nul\0"])
def test_a_comment_that_would_break_the_line_or_a_terminal_is_not_signed(comment):
    with pytest.raises(SignatureError, match="control characters"):
        sign(KEY, CONTENT, comment)


def test_a_comment_that_minisign_would_not_read_is_not_signed():
    assert parse_signature(sign(KEY, CONTENT, "x" * 8173))
    with pytest.raises(SignatureError, match="8174 bytes long; minisign reads 8173"):
        sign(KEY, CONTENT, "x" * 8174)


def test_a_key_without_a_password_is_loaded_whatever_the_password(tmp_path):
    path = write_key_file(tmp_path / "a.key")
    assert load_secret_key(path, None) == load_secret_key(path, b"unused") == KEY


LIMITS = {
    "short of time": ((32768, 16 << 20), (1024, 8, 1)),
    "short of memory": ((1 << 20, 1 << 20), (1024, 8, 32)),
    "libsodium's interactive": ((1 << 19, 1 << 24), (1 << 14, 8, 1)),
    "next to nothing": ((0, 0), (2, 8, 512)),
}


@pytest.mark.parametrize("kind", LIMITS)
def test_an_encrypted_key_is_loaded_with_its_password_alone(kind, tmp_path):
    limits, parameters = LIMITS[kind]
    path = write_key_file(tmp_path / "a.key", password=b"horse", limits=limits, parameters=parameters)
    assert load_secret_key(path, b"horse") == KEY
    with pytest.raises(SignatureError, match=r"not the password of .*a\.key"):
        load_secret_key(path, b"house")


@pytest.mark.parametrize("password", [None, b""])
def test_an_encrypted_key_without_a_password_says_where_to_give_it(password, tmp_path):
    path = write_key_file(tmp_path / "a.key", password=b"horse")
    with pytest.raises(SignatureError, match=r"a\.key is encrypted; give its password in ASSETSERVER_SIGN_PASSWORD"):
        load_secret_key(path, password)


@pytest.mark.parametrize("limits", [(1 << 63, 1 << 20), (1 << 20, 1 << 40)])
def test_a_key_that_asks_for_minutes_or_for_all_memory_is_refused(limits, tmp_path):
    path = write_key_file(tmp_path / "a.key", password=b"horse", limits=limits)
    with pytest.raises(SignatureError, match="more than minisign ever does"):
        load_secret_key(path, b"horse")


def test_a_key_whose_halves_do_not_belong_together_is_damaged(tmp_path):
    path = write_key_file(tmp_path / "a.key", halves=(KEY.seed, OTHER.public_key.key))
    with pytest.raises(SignatureError, match="is damaged"):
        load_secret_key(path, None)


FLAWED_KEY_FILES = {
    "nothing": (b"", "is not a key file"),
    "a public key": (PUB.encode(), "is a public key"),
    "no base64": (b"untrusted comment: \n!!!!\n", "is not base64"),
    "too short": (b"untrusted comment: \nAAAA\n", "is 3 bytes long, not 158"),
    "another kind": (b"untrusted comment: \n" + b64encode(b"EdXxB2" + bytes(152)), "is of an unknown kind .'EdXxB2'."),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(9000), "is not a key file"),
}


@pytest.mark.parametrize("flaw", FLAWED_KEY_FILES)
def test_a_flawed_key_file_is_told_its_flaw_and_named(flaw, tmp_path):
    content, message = FLAWED_KEY_FILES[flaw]
    (tmp_path / "a.key").write_bytes(content)
    with pytest.raises(SignatureError, match=rf"a\.key {message}.*minisign -G"):
        load_secret_key(str(tmp_path / "a.key"), b"password")


def test_a_key_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SignatureError, match=r"b\.key cannot be read \(No such file or directory\)"):
        load_secret_key(str(tmp_path / "b.key"), None)


def test_what_is_secret_is_not_shown():
    assert repr(KEY.seed) not in repr(KEY)


def test_without_cryptography_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(SettingsError, match=r"pip install 'assetserver\[signing\]'"):
        verify_signature([KEY.public_key], CONTENT, TEXT)
