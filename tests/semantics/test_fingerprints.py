from hashlib import md5, sha256

import pytest

from assetserver.semantics.fingerprints import (
    find_hex_fingerprint,
    is_immutable,
    is_proved,
    looks_fingerprinted,
    split_name,
)


@pytest.mark.parametrize(
    ("path", "fingerprint"),
    [
        ("app.3f2a91c0.js", "3f2a91c0"),
        ("assets/app-3f2a91c0d4e5.min.js", "3f2a91c0d4e5"),
        ("app_3f2a91c0.js.map", "3f2a91c0"),
        ("3f2a91c03f2a91c0.png", "3f2a91c03f2a91c0"),
        ("3f2a91c0", "3f2a91c0"),
        ("app~3f2a91c0.css", "3f2a91c0"),
        ("a" * 64 + ".css", "a" * 64),
    ],
)
def test_hex_run_before_the_extension_is_a_fingerprint(path, fingerprint):
    assert find_hex_fingerprint(path) == fingerprint
    assert looks_fingerprinted(path)


@pytest.mark.parametrize(
    "path", ["app.js", "app.3f2a91c.js", "app.3F2A91C0.js", "3f2a91c0/app.js", "x3f2a91c0.js", "3f2a91c0-app.js"]
)
def test_other_names_hold_no_hex_fingerprint(path):
    assert find_hex_fingerprint(path) is None


@pytest.mark.parametrize("path", ["index-BX2k9_fQ.js", "assets/logo.Dq3R-x8Z.svg", "main.a1B2c3D4.chunk.js"])
def test_mixed_digits_and_letters_look_like_a_bundler(path):
    assert looks_fingerprinted(path)
    assert find_hex_fingerprint(path) is None


@pytest.mark.parametrize(
    "path", ["about.html", "jquery-validate.js", "some-long-name.css", "a1b2.js", "my.component.js", "index-BX2k9_fQ/"]
)
def test_words_do_not(path):
    assert not looks_fingerprinted(path)


def test_fingerprint_is_proved_by_the_start_of_any_digest():
    content = b"console.log(1)"
    digests = {"sha256": sha256(content).hexdigest(), "md5": md5(content, usedforsecurity=False).hexdigest()}

    assert is_proved(digests["sha256"][:12], digests)
    assert is_proved(digests["md5"], digests)
    assert not is_proved(digests["sha256"][1:13], digests)
    assert not is_proved("deadbeef", digests)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("assets/app-BX2k9_fQ.js", ("assets", "app-", "BX2k9_fQ", ".js", "base64")),
        ("index--aB3_x9Z.js", ("", "index-", "-aB3_x9Z", ".js", "base64")),
        ("main.4f2a1b3c.chunk.js", ("", "main.", "4f2a1b3c", ".chunk.js", "hex")),
        ("4f2a1b3c.js", ("", "", "4f2a1b3c", ".js", "hex")),
        ("chunk-JXY2ABCD.js.map", ("", "chunk-", "JXY2ABCD", ".js.map", "base32")),
        ("about-contacts.js", ("", "about-", "contacts", ".js", "base36")),
        ("a~d41d8cd98f00b204e9800998ecf8427e.png", ("", "a~", "d41d8cd98f00b204e9800998ecf8427e", ".png", "hex")),
    ],
)
def test_a_name_falls_into_folder_stem_hash_and_extension(path, parts):
    assert split_name(path) == parts


@pytest.mark.parametrize(
    "path", ["app.js", "IMG_1234.jpg", "README", "jquery-3.7.1.min.js", "x-BX2k9fQ.js", "a_b.c", "", "-.js"]
)
def test_a_name_without_room_for_a_hash_has_no_parts(path):
    assert split_name(path) is None


@pytest.mark.parametrize("text", ["BX2k9_fQ", "DiwrgTda", "4f2a1b3c", "JXY2ABCD", "d41d8cd98f00", "-aB3_x9Z"])
def test_what_turns_often_is_random(text):
    assert split_name(f"app-{text}.js").is_random


@pytest.mark.parametrize("text", ["contacts", "20260101", "IMG_1234", "deadbeef", "Contacts", "JXYZABCD", "bootstrap"])
def test_words_dates_and_numbers_are_not(text):
    assert not split_name(f"app-{text}.js").is_random


def test_the_family_is_what_stays_when_the_content_changes():
    one, two = split_name("assets/app-BX2k9_fQ.js"), split_name("assets/app-Dq3Rx8Zt.js")
    assert one.family == two.family == ("assets", "app-", ".js")


@pytest.mark.parametrize(
    ("reason", "immutable"),
    [("proved", True), ("changed", True), ("declared by a", True), ("referenced", False), ("beside", False), ("", False)],
)
def test_only_good_reasons_make_a_name_immutable(reason, immutable):
    assert is_immutable(reason) is immutable
