from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.caching import ASSET, IMMUTABLE, PAGE, check_cache_control
from assetserver.semantics.dictionaries import (
    LONG_LIVED_S,
    OfferedDictionary,
    check_pattern,
    cover_next_names,
    format_available_dictionary,
    format_use_as_dictionary,
    may_read,
    parse_available_dictionary,
    usable_s,
)
from assetserver.semantics.representation import ContentCoding

from .samples import ask, make_contents, make_delta, make_responses, read_fields

DIGEST = sha256(b"old").digest()


@given(st.binary(min_size=32, max_size=32))
def test_hash_is_read_as_it_is_written(digest):
    assert parse_available_dictionary(format_available_dictionary(digest)) == digest


@given(st.binary(max_size=70).filter(lambda digest: len(digest) != 32))
def test_only_32_bytes_are_a_hash(digest):
    assert parse_available_dictionary(f":{b64encode(digest).decode()}:") is None


@given(st.text(max_size=80))
def test_what_is_read_has_no_other_spelling(text):
    digest = parse_available_dictionary(text)

    assert digest is None or format_available_dictionary(digest) == text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[1:-1],
        lambda text: text.replace("=", ""),
        lambda text: f" {text}",
        lambda text: f"{text};a=1",
        lambda text: f"{text}, {text}",
        lambda text: text.replace("=:", "\n=:"),
        lambda text: text[:-3] + "B=:",
        lambda text: text.upper() + text,
        lambda text: f'"{text}"',
        lambda text: text + "\n",
    ],
)
def test_anything_but_a_padded_byte_sequence_is_no_hash(spoil):
    assert parse_available_dictionary(spoil(format_available_dictionary(DIGEST))) is None


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        (IMMUTABLE, 31_536_000),
        (ASSET, 3660),
        (PAGE, 0),
        ("", 0),
        ("max-age=86400", 86_400),
        ("max-age=0, stale-while-revalidate=86400", 86_400),
        ("Max-Age=5", 5),
        ("max-age=60, must-revalidate, stale-while-revalidate=600", 60),
        ("no-store, max-age=86400", 0),
        ("max-age=86400, no-cache", 0),
        ("max-age=x", 0),
        ("s-maxage=86400", 0),
    ],
)
def test_a_dictionary_is_usable_while_it_is_fresh_or_may_be_stale(cache_control, seconds):
    assert usable_s(cache_control) == seconds


def test_default_policies_of_pages_and_unhashed_files_make_no_dictionaries():
    for policy in (ASSET, PAGE, IMMUTABLE):
        check_cache_control(policy)
    assert usable_s(ASSET) < LONG_LIVED_S
    assert usable_s(PAGE) < LONG_LIVED_S <= usable_s(IMMUTABLE)


@pytest.mark.parametrize(
    ("path", "is_fingerprint", "pattern"),
    [
        ("assets/index-BX2k9_fQ.js", False, "/assets/index-*.js"),
        ("main.f68b9215ac96.js", False, "/main.*.js"),
        ("assets/app-BX2k9_fQ.js.map", False, "/assets/app-*.js.map"),
        ("static/js/787.1f0a2b3c.chunk.js", False, "/static/js/787.*.chunk.js"),
        ("assets/chunk-ABCDEFGH.js", True, "/assets/chunk-*.js"),
        ("a b/app-BX2k9_fQ.js", False, "/a%20b/app-*.js"),
        ("f68b9215ac96.css", True, "/*.css"),
        ("vendor/bootstrap.min.js", False, "/vendor/bootstrap.min.js"),
        ("v1/app.js", False, "/v1/app.js"),
        ("", False, "/"),
        ("a(b)/app-BX2k9_fQ.js", False, ""),
        ("a+b.js", False, ""),
        ("a:b/c.js", False, ""),
        ("what?.js", False, "/what%3F.js"),
    ],
)
def test_pattern_covers_the_next_names_of_a_file(path, is_fingerprint, pattern):
    assert cover_next_names(path, is_fingerprint=is_fingerprint) == pattern


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.booleans())
def test_pattern_is_an_absolute_path_with_one_star_at_most(path, is_fingerprint):
    pattern = cover_next_names(path, is_fingerprint=is_fingerprint)

    assert pattern == "" or (pattern.startswith("/") and pattern.count("*") < 2)
    assert not set('{}()?+:\\"') & set(pattern)
    assert check_pattern(pattern) == pattern


def test_use_as_dictionary_is_a_structured_dictionary_with_a_string():
    assert format_use_as_dictionary("/assets/app-*.js") == 'match="/assets/app-*.js"'
    assert format_use_as_dictionary("/*", ("document", "")) == 'match="/*", match-dest=("document" "")'


@pytest.mark.parametrize("site", [None, "same-origin", "same-site", "cross-site", "none", ""])
@pytest.mark.parametrize("mode", [None, "navigate", "same-origin", "cors", "no-cors", "websocket", ""])
@pytest.mark.parametrize("origin", [None, "https://a.example"])
@pytest.mark.parametrize("allowed", [None, "*", "https://a.example", "https://b.example", ""])
def test_who_may_read_is_decided_in_the_order_of_the_specification(site, mode, origin, allowed):
    if site is None or site == "same-origin" or mode is None or mode in ("navigate", "same-origin"):
        expected = True
    elif mode == "cors":
        expected = allowed is not None and origin is not None and allowed in ("*", origin)
    else:
        expected = False

    assert may_read(OfferedDictionary(DIGEST, site, mode, origin), allowed) is expected


FIELDS = {
    "available-dictionary": [format_available_dictionary(DIGEST), ":AAAA:", ""],
    "accept-encoding": ["br, dcz", "dcz", "dcz;q=0.1, br", "gzip", "*", "identity;q=0", ""],
    "sec-fetch-site": ["same-origin", "cross-site"],
    "sec-fetch-mode": ["cors", "no-cors", "navigate"],
    "origin": ["https://a.example"],
    "range": ["bytes=0-0", "bytes=x"],
    "if-none-match": ['"other"', "*"],
    "method": ["GET", "HEAD"],
}


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in FIELDS.items()}), st.booleans())
def test_delta_goes_only_to_who_offers_a_dictionary_and_names_dcz_and_wants_all_of_it(fields, takes_deltas):
    contents = make_contents(100, {"br": 40})
    responses = make_responses(contents, takes_deltas=takes_deltas)

    plan = ask(responses, fields, delta=make_delta(b"delta"))

    if plan.representation.coding is ContentCoding.DCZ:
        assert takes_deltas
        assert fields["available-dictionary"] == format_available_dictionary(DIGEST)
        assert "dcz" in fields["accept-encoding"]
        assert "range" not in fields
        assert fields.get("method") != "HEAD"
    else:
        assert plan == ask(responses, {name: text for name, text in fields.items() if name != "available-dictionary"})
    vary = "accept-encoding, available-dictionary" if takes_deltas else "accept-encoding"
    assert read_fields(plan)["vary"] == vary
