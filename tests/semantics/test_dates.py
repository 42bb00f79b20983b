import pytest

from assetserver.semantics.dates import format_date, parse_date

EXAMPLE = 784_111_777
"""The moment of the specification's examples (RFC 9110 §5.6.7)."""

NOW = 1_763_800_000
"""2025-11-22 08:26:40."""


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_date_is_read_in_each_of_its_three_forms(text):
    assert parse_date(text, now=NOW) == EXAMPLE


def test_date_is_written_in_the_one_preferred_form():
    assert format_date(EXAMPLE) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_leap_second_counts_as_the_second_before_it():
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", now=NOW) == parse_date("Sat, 31 Dec 2016 23:59:59 GMT", now=NOW)


@pytest.mark.parametrize(
    ("two_digits", "four_digits"),
    [
        ("22-Nov-25 00:00:00", "22 Nov 2025 00:00:00"),
        ("22-Nov-70 00:00:00", "22 Nov 2070 00:00:00"),
        ("22-Nov-75 08:26:40", "22 Nov 2075 08:26:40"),
        ("22-Nov-75 08:26:41", "22 Nov 1975 08:26:41"),
        ("31-Dec-75 00:00:00", "31 Dec 1975 00:00:00"),
        ("01-Jan-76 00:00:00", "01 Jan 1976 00:00:00"),
        ("29-Feb-96 00:00:00", "29 Feb 1996 00:00:00"),
        ("31-Dec-99 23:59:60", "31 Dec 1999 23:59:60"),
        ("01-Jan-00 00:00:00", "01 Jan 2000 00:00:00"),
    ],
)
def test_two_digit_year_more_than_fifty_years_ahead_lies_in_the_past_century(two_digits, four_digits):
    expected = parse_date(f"Mon, {four_digits} GMT", now=NOW)

    assert expected is not None
    assert parse_date(f"Monday, {two_digits} GMT", now=NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Monday, 29-Feb-95 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "1994-11-06T08:49:37Z",
    ],
)
def test_anything_else_is_not_a_date(text):
    assert parse_date(text, now=NOW) is None
