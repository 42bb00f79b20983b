import pytest

from assetserver.semantics import negotiation
from assetserver.semantics.negotiation import (
    LIMIT_BYTES,
    accepts_compression,
    accepts_deltas,
    parse_accept_encoding,
    select_representation,
)
from assetserver.semantics.representation import ContentCoding, Representation


def make(**lengths):
    return tuple(Representation(ContentCoding(name), "text/css", length, None) for name, length in lengths.items())


ALL = make(identity=100, gzip=40, zstd=38, br=30)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (None, (0, 0, 0, 0, -1)),
        ("", (0, 0, 0, 0, -1)),
        ("gzip, deflate, br, zstd", (0, 1000, 1000, 1000, -1)),
        ("gzip;q=0.5", (0, 0, 0, 500, -1)),
        ("*", (0, 1000, 1000, 1000, 1000)),
        ("*;q=0", (0, 0, 0, 0, 0)),
        ("identity;q=0", (0, 0, 0, 0, 0)),
        ("*;q=0, identity", (0, 0, 0, 0, 1000)),
        ("*;q=0.2, br;q=0", (0, 0, 200, 200, 200)),
        ("x-gzip;q=0.3", (0, 0, 0, 300, -1)),
        ("gzip;q=0.2, x-gzip;q=0.3, gzip;q=0.1", (0, 0, 0, 300, -1)),
        ("dcz", (1000, 0, 0, 0, -1)),
        ("dcz;q=0.5, *", (500, 1000, 1000, 1000, 1000)),
        ("dcb, br", (0, 1000, 0, 0, -1)),
        ("deflate", (0, 0, 0, 0, -1)),
        ("br".ljust(LIMIT_BYTES), (0, 1000, 0, 0, -1)),
        ("br".ljust(LIMIT_BYTES + 1), (0, 0, 0, 0, -1)),
    ],
)
def test_field_gives_each_coding_a_weight(text, weights):
    assert parse_accept_encoding(text) == weights


@pytest.mark.parametrize(
    ("text", "accepts"), [(None, False), ("identity", False), ("gzip;q=0", False), ("zstd", True), ("*", True), ("dcz", False)]
)
def test_compression_is_acceptable_if_any_coding_weighs_something(text, accepts):
    assert accepts_compression(parse_accept_encoding(text)) is accepts


@pytest.mark.parametrize(
    ("text", "accepts"), [(None, False), ("*", False), ("dcz;q=0", False), ("dcb", False), ("dcz;q=0.001", True), ("DCZ", True)]
)
def test_deltas_are_acceptable_only_where_they_are_named(text, accepts):
    assert accepts_deltas(parse_accept_encoding(text)) is accepts


@pytest.mark.parametrize(
    ("text", "available", "coding"),
    [
        ("gzip, br, zstd", ALL, "br"),
        ("gzip, zstd", ALL, "zstd"),
        ("gzip, br;q=0.9", ALL, "gzip"),
        ("gzip, br, zstd", make(identity=100, gzip=30, zstd=30, br=30), "br"),
        ("gzip, zstd", make(identity=100, gzip=30, zstd=30), "zstd"),
        ("br", make(identity=100, gzip=40), "identity"),
        ("gzip;q=0.001", ALL, "gzip"),
        ("gzip;q=0.5, identity", ALL, "identity"),
        ("*", make(identity=10, gzip=40), "identity"),
        ("identity;q=0, gzip;q=0.1", ALL, "gzip"),
        (None, ALL, "identity"),
        (None, make(identity=1), "identity"),
        ("gzip", make(identity=1), "identity"),
    ],
)
def test_highest_weight_wins_then_size_then_preference(text, available, coding):
    assert select_representation(available, parse_accept_encoding(text)).coding is ContentCoding(coding)


@pytest.mark.parametrize("available", [ALL, make(identity=1)])
def test_client_that_refuses_everything_gets_nothing(available):
    assert select_representation(available, parse_accept_encoding("identity;q=0, *;q=0")) is None


def test_value_longer_than_the_limit_is_not_kept_in_memory():
    kept = negotiation._parse_weights.cache_info().currsize

    parse_accept_encoding("gzip, " * LIMIT_BYTES)

    assert negotiation._parse_weights.cache_info().currsize == kept
