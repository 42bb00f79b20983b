"""When an append may begin, how far it may go, and when an upload is complete: a table of states."""

import pytest

from assetserver.errors import (
    BadRequestError,
    OffsetConflictError,
    PreconditionFailedError,
    TooLargeError,
    UploadGoneError,
)
from assetserver.uploads import session
from assetserver.uploads.records import Upload

HUGE = 1 << 62


def upload(**values):
    usual = {"id": "i" * 24, "state": "uploading", "name": "a", "collection": "", "owner": "me", "size": 10, "offset": 4}
    rest = {"sha256": "", "media_type": "", "metadata": {}, "kind": "tus", "created": 0.0, "expires": 1.0}
    return Upload(**(usual | rest | values))


@pytest.mark.parametrize(
    ("values", "offset", "content_length", "completes", "outcome"),
    [
        ({}, 4, 6, None, session.Append(4, 10)),
        ({}, 4, 0, None, session.Append(4, 10)),
        ({}, 4, None, None, session.Append(4, 10)),
        ({}, 4, 7, None, TooLargeError),
        ({}, 4, HUGE, None, TooLargeError),
        ({}, 3, 6, None, OffsetConflictError),
        ({}, 5, 1, None, OffsetConflictError),
        ({}, HUGE, 1, None, OffsetConflictError),
        ({"size": None}, 4, None, None, session.Append(4, 100)),
        ({"size": None}, 4, 96, None, session.Append(4, 100)),
        ({"size": None}, 4, 97, None, TooLargeError),
        ({"size": None, "max_size": 20}, 4, None, None, session.Append(4, 20)),
        ({"size": None, "max_size": 200}, 4, None, None, session.Append(4, 100)),
        ({"kind": "resumable"}, 4, 6, True, session.Append(4, 10, 10)),
        ({"kind": "resumable"}, 4, 5, True, BadRequestError),
        ({"kind": "resumable"}, 4, None, True, session.Append(4, 10, 10)),
        ({"kind": "resumable"}, 4, 5, False, session.Append(4, 10)),
        ({"kind": "resumable", "size": None}, 4, 5, True, session.Append(4, 100)),
        ({"state": "complete", "offset": 10}, 10, 0, None, session.Append(10, 10)),
        ({"state": "complete", "offset": 10}, 10, 1, None, TooLargeError),
        ({"state": "complete", "offset": 10}, 4, 6, None, OffsetConflictError),
        ({"state": "failed"}, 4, 6, None, UploadGoneError),
    ],
)
def test_an_append_begins_at_the_end_and_stays_within_the_length(values, offset, content_length, completes, outcome):
    def plan():
        return session.plan_append(upload(**values), offset, content_length, completes, 100)

    if isinstance(outcome, session.Append):
        assert plan() == outcome
        return
    with pytest.raises(outcome) as caught:
        plan()
    if outcome is OffsetConflictError:
        assert caught.value.offset == upload(**values).offset


@pytest.mark.parametrize(
    ("values", "completes", "complete"),
    [
        ({"offset": 10}, None, True),
        ({"offset": 9}, None, False),
        ({"size": None}, None, False),
        ({"size": 0, "offset": 0}, None, True),
        ({"kind": "resumable", "offset": 10}, None, False),
        ({"kind": "resumable", "offset": 10}, False, False),
        ({"kind": "resumable", "offset": 10}, True, True),
        ({"kind": "resumable", "offset": 9}, True, False),
    ],
)
def test_an_upload_is_complete_when_its_protocol_says_so(values, completes, complete):
    assert session.is_complete(upload(**values), completes) == complete


@pytest.mark.parametrize(
    ("size", "completes", "is_whole", "final"),
    [
        (None, True, True, 7),
        (None, True, False, None),
        (None, False, True, None),
        (None, None, True, None),
        (10, True, True, 10),
    ],
)
def test_the_length_is_what_came_once_the_client_says_that_this_is_all(size, completes, is_whole, final):
    assert session.final_size(upload(size=size), 7, completes, is_whole) == final


def test_a_body_that_ends_short_of_its_length_is_told():
    session.check_end(session.Append(0, 10, 10), 10)
    session.check_end(session.Append(0, 10), 3)
    with pytest.raises(BadRequestError, match="3 of 10"):
        session.check_end(session.Append(0, 10, 10), 3)


SHA = "ab" * 32
TAG = f'"{SHA[:32]}"'


@pytest.mark.parametrize(
    ("current", "if_match", "none", "passes"),
    [
        (None, None, False, True),
        (SHA, None, False, True),
        (None, None, True, True),
        (SHA, None, True, False),
        (SHA, TAG, False, True),
        (SHA, f'"x", {TAG}', False, True),
        (SHA, f"W/{TAG}", False, False),
        (SHA, '"x"', False, False),
        (SHA, "", False, False),
        (SHA, "*", False, True),
        (None, "*", False, False),
        (None, TAG, False, False),
    ],
)
def test_conditions_are_those_of_http(current, if_match, none, passes):
    if passes:
        session.check_conditions("name", current, if_match, none=none)
        return
    with pytest.raises(PreconditionFailedError):
        session.check_conditions("name", current, if_match, none=none)
