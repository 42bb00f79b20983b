"""Which names of several releases are fingerprints: what evidence counts, and what speaks against it."""

from hashlib import sha256

import pytest

from assetserver.releases.catalog import CatalogEntry
from assetserver.releases.names import judge_names

REFERENCED = "referenced"


def release(reason=REFERENCED, **files):
    """A release of entries: ``release(**{"assets/app-BX2k9_fQ.js": "content"})``."""
    return [CatalogEntry(path, sha256(content.encode()).digest(), len(content), reason) for path, content in files.items()]


def judge(*releases):
    return {path: entry.reason for path, entry in judge_names(releases).items()}


def test_what_one_release_shows_is_not_enough():
    assert judge(release(**{"assets/app-BX2k9_fQ.js": "one"})) == {}


def test_names_that_changed_with_their_content_are_fingerprints_in_both_releases():
    one = release(**{"assets/app-BX2k9_fQ.js": "one", "index.html": "1"})
    two = release(**{"assets/app-Dq3Rx8Zt.js": "two", "index.html": "2"})
    assert judge(one, two) == {"assets/app-BX2k9_fQ.js": "changed", "assets/app-Dq3Rx8Zt.js": "changed"}


def test_a_chunk_without_successor_stays_beside_those_that_have_one():
    one = release(**{"assets/app-BX2k9_fQ.js": "one", "assets/gone-Cz4Tq1Lw.js": "lazy"})
    two = release(**{"assets/app-Dq3Rx8Zt.js": "two"})
    assert judge(one, two)["assets/gone-Cz4Tq1Lw.js"] == "beside"


def test_a_name_of_another_folder_or_length_does_not():
    one = release(**{"assets/app-BX2k9_fQ.js": "one", "img/gone-Cz4Tq1Lw.png": "1", "assets/gone-Cz4Tq1Lw5x.js": "2"})
    two = release(**{"assets/app-Dq3Rx8Zt.js": "two"})
    assert set(judge(one, two)) == {"assets/app-BX2k9_fQ.js", "assets/app-Dq3Rx8Zt.js"}


def test_words_dates_and_numbers_are_no_evidence():
    one = release(**{"about-contacts.js": "1", "report-20240101.pdf": "2", "photo-IMG_1234.jpg": "3", "x-deadbeef.js": "4"})
    two = release(**{"about-services.js": "5", "report-20240202.pdf": "6", "photo-IMG_1235.jpg": "7", "x-cafebabe.js": "8"})
    assert judge(one, two) == {}


def test_a_name_with_two_contents_is_none_and_its_family_follows_the_others():
    one = release(**{"app-BX2k9_fQ.js": "one", "lib-Cz4Tq1Lw.js": "first"})
    two = release(**{"app-Dq3Rx8Zt.js": "two", "lib-Cz4Tq1Lw.js": "second"})
    assert set(judge(one, two)) == {"app-BX2k9_fQ.js", "app-Dq3Rx8Zt.js"}


def test_a_content_that_takes_another_name_speaks_against_its_family():
    one = release(**{"app-v2beta1A.js": "same"})
    two = release(**{"app-v2beta2B.js": "same"})
    assert judge(one, two) == {}


def test_letters_alone_count_where_their_like_has_shown_it():
    """A fifth of esbuild's names holds no digit."""
    one = release(**{"app-JXY2ABCD.js": "one", "chunk-QWERTYUI.js": "lazy one"})
    two = release(**{"app-K3ZZQABC.js": "two", "chunk-ASDFGHJK.js": "lazy two"})
    assert set(judge(one, two).values()) == {"changed"}
    assert judge(one[1:], two[1:]) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("products/sku-AB12CD34.jpg", "products/sku-EF56GH78.jpg"),
        ("d/Invoice-INV2024A0017.pdf", "d/Invoice-INV2024B0031.pdf"),
        ("d/nightly-20231105b2.zip", "d/nightly-20231212c3.zip"),
        ("p/photo-20240101T120000Z.jpg", "p/photo-20240202T130000Z.jpg"),
        ("p/mountain-dQw4w9WgXcQ.jpg", "p/mountain-aB3dE6gH9jK.jpg"),
        ("u/550e8400e29b41d4a716446655440000.png", "u/6ba7b8109dad11d180b400c04fd430c8.png"),
        ("icons/icon-192x192.png", "icons/icon-512x512.png"),
        ("fonts/inter-latin400.woff2", "fonts/inter-latin700.woff2"),
        ("lib/jquery-3.7.1.min.js", "lib/jquery-3.8.0.min.js"),
        ("assets/about-contacts.js", "assets/about-services.js"),
    ],
)
def test_what_people_name_so_is_never_immutable_and_goes_with_its_release(before, after):
    bundle = ({"assets/app-BX2k9_fQ.js": "one"}, {"assets/app-Dq3Rx8Zt.js": "two"})
    kept = judge(release(**bundle[0], **{before: "old"}), release(**bundle[1], **{after: "new"}))
    assert set(kept) == {"assets/app-BX2k9_fQ.js", "assets/app-Dq3Rx8Zt.js"}


def test_hashed_pictures_beside_hashed_code_stay_reachable_and_are_not_immutable():
    one = release(**{"assets/app-BX2k9_fQ.js": "one", "assets/logo-Cz4Tq1Lw.svg": "1", "assets/hero-portrait.jpg": "2"})
    two = release(**{"assets/app-Dq3Rx8Zt.js": "two", "assets/logo-Qw3Er5Ty.svg": "3", "assets/hero-landscap.jpg": "4"})
    kept = judge(one, two)
    assert {kept.get(path) for path in ("assets/logo-Cz4Tq1Lw.svg", "assets/logo-Qw3Er5Ty.svg")} == {"beside"}
    assert len(kept) == 4


@pytest.mark.parametrize("reason", ["proved", "declared by .vite/manifest.json"])
def test_proved_and_declared_names_need_no_evidence(reason):
    assert judge(release(reason, **{"assets/app-contacts.js": "one"})) == {"assets/app-contacts.js": reason}


def test_unhashed_names_never_stay():
    one = release("", **{"assets/app-BX2k9_fQ.js": "one", "app.js": "one"})
    two = release("", **{"assets/app-Dq3Rx8Zt.js": "two", "app.js": "two"})
    assert judge(one, two) == {}


def test_the_newer_file_of_a_declared_name_wins():
    one, two = (release("declared by *", **{"app.js": content}) for content in ("one", "two"))
    assert judge_names([one, two])["app.js"].digest == sha256(b"two").digest()
