import pytest

from assetserver.semantics.dates import format_date
from assetserver.semantics.etags import ETag
from assetserver.semantics.preconditions import (
    Precondition,
    Preconditions,
    Validators,
    evaluate_if_range,
    evaluate_preconditions,
)

NOW = 1_763_800_000
CHANGED = NOW - 100
EARLIER, SAME, LATER = (format_date(CHANGED + seconds) for seconds in (-1, 0, 1))
CURRENT = Validators(ETag("now"), CHANGED)
TAGLESS = Validators(None, CHANGED)
DATELESS = Validators(ETag("now"), None)
PASS, NOT_MODIFIED, FAILED = Precondition


@pytest.mark.parametrize(
    ("given", "current", "outcome"),
    [
        (Preconditions(), CURRENT, PASS),
        (Preconditions(if_match='"now"'), CURRENT, PASS),
        (Preconditions(if_match="*"), TAGLESS, PASS),
        (Preconditions(if_match='"then"'), CURRENT, FAILED),
        (Preconditions(if_match='W/"now"'), CURRENT, FAILED),
        (Preconditions(if_match="now"), CURRENT, FAILED),
        (Preconditions(if_match=""), CURRENT, FAILED),
        (Preconditions(if_match='"now"'), TAGLESS, FAILED),
        (Preconditions(if_match='"now"', if_unmodified_since=EARLIER), CURRENT, PASS),
        (Preconditions(if_unmodified_since=EARLIER), CURRENT, FAILED),
        (Preconditions(if_unmodified_since=SAME), CURRENT, PASS),
        (Preconditions(if_unmodified_since=LATER), CURRENT, PASS),
        (Preconditions(if_unmodified_since=EARLIER), DATELESS, PASS),
        (Preconditions(if_unmodified_since="soon"), CURRENT, PASS),
        (Preconditions(if_none_match='"now"'), CURRENT, NOT_MODIFIED),
        (Preconditions(if_none_match='W/"now"'), CURRENT, NOT_MODIFIED),
        (Preconditions(if_none_match="*"), TAGLESS, NOT_MODIFIED),
        (Preconditions(if_none_match='"then"'), CURRENT, PASS),
        (Preconditions(if_none_match='"now"'), TAGLESS, PASS),
        (Preconditions(if_none_match='"then"', if_modified_since=LATER), CURRENT, PASS),
        (Preconditions(if_none_match='"now"', if_modified_since=EARLIER), CURRENT, NOT_MODIFIED),
        (Preconditions(if_modified_since=EARLIER), CURRENT, PASS),
        (Preconditions(if_modified_since=SAME), CURRENT, NOT_MODIFIED),
        (Preconditions(if_modified_since=LATER), CURRENT, NOT_MODIFIED),
        (Preconditions(if_modified_since=LATER), DATELESS, PASS),
        (Preconditions(if_modified_since="soon"), CURRENT, PASS),
        (Preconditions(if_match='"then"', if_none_match='"now"'), CURRENT, FAILED),
        (Preconditions(if_match='"now"', if_none_match='"now"'), CURRENT, NOT_MODIFIED),
        (Preconditions(if_unmodified_since=EARLIER, if_modified_since=LATER), CURRENT, FAILED),
    ],
)
def test_preconditions_come_to_one_outcome_in_the_order_of_the_specification(given, current, outcome):
    assert evaluate_preconditions(given, current, now=NOW) is outcome


@pytest.mark.parametrize(
    ("text", "current", "applies"),
    [
        ('"now"', CURRENT, True),
        ('"then"', CURRENT, False),
        ('W/"now"', CURRENT, False),
        ('"now"', Validators(ETag("now", weak=True), CHANGED), False),
        ('"now"', TAGLESS, False),
        ('"now", "now"', CURRENT, False),
        ("*", CURRENT, False),
        ("", CURRENT, False),
        (SAME, CURRENT, True),
        (EARLIER, CURRENT, False),
        (LATER, CURRENT, False),
        (SAME, DATELESS, False),
        (format_date(NOW), Validators(None, NOW), False),
        (format_date(NOW - 1), Validators(None, NOW - 1), True),
    ],
)
def test_if_range_needs_a_strong_validator_that_matches_exactly(text, current, applies):
    assert evaluate_if_range(text, current, now=NOW) is applies
