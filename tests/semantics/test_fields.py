import pytest

from assetserver.semantics.fields import (
    LIMIT_BYTES,
    is_token,
    parse_integer_dictionary,
    parse_list,
    parse_weight,
    parse_weighted_list,
)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("a, b,c", ["a", "b", "c"]),
        ("\ta \t,  b ", ["a", "b"]),
        ("", []),
        (" , ,, ", []),
        (",a,,b,", ["a", "b"]),
        ('"a,b", c', ['"a,b"', "c"]),
        (r'"a\",b", c', [r'"a\",b"', "c"]),
        ('x="a,b";y, z', ['x="a,b";y', "z"]),
        ('"a, b', ['"a, b']),
        ('a, "', ["a", '"']),
    ],
)
def test_list_splits_at_commas_outside_quotes(text, members):
    assert list(parse_list(text)) == members


def test_value_longer_than_the_limit_has_no_members():
    assert list(parse_list("a" * LIMIT_BYTES)) == ["a" * LIMIT_BYTES]
    assert list(parse_list("a" * (LIMIT_BYTES + 1))) == []


@pytest.mark.parametrize("text", ["gzip", "*", "x-gzip", "!#$%&'*+-.^_`|~09azAZ"])
def test_token_is_any_of_its_characters(text):
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "a b", "a;", "ä", '"a"', "a\n", "a/b", "a=b"])
def test_anything_else_is_not_a_token(text):
    assert not is_token(text)


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("0", 0), ("0.", 0), ("0.5", 500), ("0.001", 1), ("0.999", 999), ("1", 1000), ("1.000", 1000), ("1.", 1000)],
)
def test_weight_is_counted_in_thousandths(text, thousandths):
    assert parse_weight(text) == thousandths


@pytest.mark.parametrize(
    "text", ["", ".5", "0.1234", "1.001", "2", "00", "-0", "+1", "1e0", "0,5", " 0.5", "\u0660", "nan", "inf"]
)
def test_weight_has_three_decimals_at_most_and_no_other_form(text):
    assert parse_weight(text) is None


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("gzip", [("gzip", 1000)]),
        ("GZip ; Q=0.5", [("gzip", 500)]),
        ("gzip;\tq=0.5", [("gzip", 500)]),
        ("*;q=0, br", [("*", 0), ("br", 1000)]),
    ],
)
def test_weighted_list_has_lower_case_tokens_and_weights(text, members):
    assert list(parse_weighted_list(text)) == members


@pytest.mark.parametrize(
    "member", ["gz ip", "gzip;q=2", "gzip;level=9", "gzip;", "gzip;q", "gzip;q = 0.5", "gzip;q=0.5;x=1", ";q=1"]
)
def test_malformed_member_is_dropped_and_the_others_stand(member):
    assert list(parse_weighted_list(f"{member}, br")) == [("br", 1000)]


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("sha-256=1", {"sha-256": 1}),
        ("sha-256=1, sha-512=10", {"sha-256": 1, "sha-512": 10}),
        ("a=1, a=2", {"a": 2}),
        ("*a.b_c-d*=0", {"*a.b_c-d*": 0}),
        ("a=999999999999999", {"a": 999_999_999_999_999}),
        ("", {}),
    ],
)
def test_dictionary_of_integers_is_read_the_last_of_a_key_wins(text, members):
    assert parse_integer_dictionary(text) == members


@pytest.mark.parametrize("text", ["a", "a=", "A=1", "a=1.5", "a=x", "1a=1", "a=1000000000000000", "a=1 b=2", "a=²"])
def test_one_malformed_member_voids_the_whole_dictionary(text):
    assert parse_integer_dictionary(f"sha-256=1, {text}") == {}
