import pytest

from assetserver.semantics.ranges import (
    LIMIT_BYTES,
    LIMIT_MEMBERS,
    ByteRange,
    RangeOutcome,
    coalesce_ranges,
    format_content_range,
    select_ranges,
)

IGNORED, UNSATISFIABLE = RangeOutcome


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(9500, 10_000)]),
        ("bytes=9500-", [(9500, 10_000)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 10_000)]),
        ("bytes=0-0, 500-999, -1", [(0, 1), (500, 1000), (9999, 10_000)]),
        ("bytes=500-600,601-999", [(500, 601), (601, 1000)]),
        ("bytes=500-700,601-999", [(500, 1000)]),
        ("bytes=-1,0-0,5000-5001", [(9999, 10_000), (0, 1), (5000, 5002)]),
        ("bytes=9-9,1-2,0-1", [(9, 10), (0, 3)]),
        ("bytes= 0-1\t,\t5-6 ", [(0, 2), (5, 7)]),
    ],
)
def test_ranges_of_ten_thousand_bytes_are_resolved_in_the_order_asked(text, pairs):
    assert select_ranges(text, 10_000) == tuple(ByteRange(*pair) for pair in pairs)


@pytest.mark.parametrize("text", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,-0", "bytes=" + "9" * 500 + "-"])
def test_set_that_lies_past_the_end_is_unsatisfiable(text):
    assert select_ranges(text, 10) is UNSATISFIABLE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=5-4",
        "bytes=0-1,5-4",
        f"bytes={'9' * 30}-{'8' * 30}",
        f"bytes=1{'0' * 30}-{'9' * 30}",
        "bytes=0-1;x",
        "bytes=0 -1",
        "bytes =0-1",
        "lines=0-1",
        " bytes=0-1",
        "bytes=0-4,5-9",
    ],
)
def test_set_that_breaks_the_grammar_or_adds_up_to_the_whole_is_ignored(text):
    assert select_ranges(text, 10) is IGNORED


def test_empty_representation_ignores_every_range():
    assert select_ranges("bytes=0-", 0) is IGNORED
    assert select_ranges("bytes=-1", 0) is IGNORED


def test_a_set_has_a_hundred_members_at_most():
    members = [f"{start}-{start}" for start in range(0, 2 * LIMIT_MEMBERS + 2, 2)]

    assert len(select_ranges("bytes=" + ",".join(members[:LIMIT_MEMBERS]), 1000)) == LIMIT_MEMBERS
    assert select_ranges("bytes=" + ",".join(members), 1000) is IGNORED


def test_a_value_longer_than_the_limit_is_ignored():
    text = "bytes=0-1"

    assert select_ranges(text + " " * (LIMIT_BYTES - len(text)), 1000) == (ByteRange(0, 2),)
    assert select_ranges(text + " " * (LIMIT_BYTES + 1 - len(text)), 1000) is IGNORED


def test_joined_range_stands_where_its_first_member_stood():
    ranges = [ByteRange(8, 9), ByteRange(4, 6), ByteRange(0, 2), ByteRange(5, 7), ByteRange(1, 2)]

    assert coalesce_ranges(ranges) == (ByteRange(8, 9), ByteRange(4, 7), ByteRange(0, 2))


def test_content_range_has_both_ends_inclusive():
    assert format_content_range(ByteRange(0, 500), 1234) == "bytes 0-499/1234"
