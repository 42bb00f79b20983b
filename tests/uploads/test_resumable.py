"""The fields of resumable uploads: every row of ``tests/vectors/resumable.toml``, what is formatted, and any text at all."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.uploads import resumable
from assetserver.uploads.answers import problem_of

from . import vectors
from .vectors import check_case, find_refusal, make_headers, read_cases

CASES = read_cases("resumable")
FIELDS = (
    *("upload-complete", "upload-length", "upload-offset", "upload-draft-interop-version"),
    *("content-type", "content-length", "transfer-encoding"),
)
UPLOAD = msgspec.structs.replace(vectors.UPLOAD, kind="resumable")


def parse(case):
    headers = make_headers(case["request"])
    match case.get("what", "creation"):
        case "interop":
            return {"interop": resumable.parse_interop(headers)}
        case "append":
            return msgspec.structs.asdict(resumable.parse_append(headers))
        case _:
            return msgspec.structs.asdict(resumable.parse_creation(headers))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case):
    check_case(case, parse)


@given(
    st.lists(st.tuples(st.sampled_from(FIELDS), st.text(st.characters(max_codepoint=255), max_size=40)), max_size=6),
    st.sampled_from([resumable.parse_creation, resumable.parse_append, resumable.parse_interop, resumable.parse_complete]),
)
def test_any_fields_are_read_or_refused_with_a_reason(fields, parse_any):
    error = find_refusal(parse_any, fields)

    assert error is None or (error.status in (400, 415) and str(error))


@pytest.mark.parametrize(
    ("append", "words"),
    [
        (resumable.Append(70, completes=False, length=101, content_length=None), "has 100 bytes, not 101"),
        (resumable.Append(70, completes=False, length=None, content_length=31), "ends at 100"),
    ],
)
def test_append_that_contradicts_the_length_is_refused(append, words):
    with pytest.raises(resumable.InconsistentLengthError, match=words):
        resumable.check_length(UPLOAD, append)


@pytest.mark.parametrize(
    ("size", "append"),
    [
        (100, resumable.Append(70, completes=True, length=100, content_length=30)),
        (100, resumable.Append(70, completes=False, length=None, content_length=None)),
        (None, resumable.Append(70, completes=False, length=5000, content_length=31)),
    ],
)
def test_append_that_fits_the_length_is_taken(size, append):
    resumable.check_length(msgspec.structs.replace(UPLOAD, size=size), append)


def test_state_tells_offset_completeness_and_length():
    assert resumable.format_state(UPLOAD) == {
        "Upload-Offset": "70",
        "Upload-Complete": "?0",
        "Upload-Length": "100",
        "Cache-Control": "no-store",
    }


def test_state_of_a_complete_upload_says_so():
    assert resumable.format_state(msgspec.structs.replace(UPLOAD, state="complete"))["Upload-Complete"] == "?1"


def test_state_of_unknown_length_is_silent_about_it():
    assert "Upload-Length" not in resumable.format_state(msgspec.structs.replace(UPLOAD, size=None))


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ((100, None), "max-size=100"),
        ((100, 60), "max-size=100, max-age=60"),
        ((100, -5), "max-size=100, max-age=0"),
    ],
)
def test_limits_are_always_told(limits, wanted):
    assert resumable.format_limits(*limits) == {"Upload-Limit": wanted}


def test_problems_of_the_draft_have_their_types_and_members():
    mismatch = problem_of(resumable.MismatchingOffsetError(5, 7))

    assert mismatch.type == "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    assert (mismatch.members["expected-offset"], mismatch.members["provided-offset"]) == (5, 7)
    assert problem_of(resumable.InconsistentLengthError("")).type.endswith("#inconsistent-upload-length")
    assert problem_of(resumable.CompletedUploadError("")).type.endswith("#completed-upload")
