from hashlib import md5, sha256

import pytest

from assetserver.semantics.fingerprints import find_hex_fingerprint, is_proved, looks_fingerprinted


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
