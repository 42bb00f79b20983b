import re

import pytest

from assetserver.semantics.caching import MISSING_PAGE
from assetserver.semantics.representation import SUFFIXES, ContentCoding
from assetserver.semantics.respond import NoBody, Parts, Slice, Whole, respond_missing

from .samples import ask, make_content, make_contents, make_request, make_responses, read_body, read_fields

CONTENTS = make_contents()


def test_same_request_gets_the_same_plan_object():
    responses = make_responses(CONTENTS)

    plan = ask(responses, {"accept-encoding": "gzip"})

    assert ask(responses, {"accept-encoding": "gzip"}) is plan
    assert ask(responses, {"accept-encoding": "gzip;q=0.5"}) is plan


def test_selection_is_not_remembered_for_every_weight_that_clients_invent():
    responses = make_responses(CONTENTS)
    for thousandths in range(1000):
        assert responses.select(f"gzip;q=0.{thousandths:03}, br;q=0.5") is not None

    assert len(responses._selected) < 100


def test_every_coding_of_a_file_alone_has_a_suffix_of_its_own():
    assert SUFFIXES.keys() == set(ContentCoding) - {ContentCoding.IDENTITY, ContentCoding.DCZ}
    assert len(set(SUFFIXES.values())) == len(SUFFIXES)


def test_multipart_body_is_exactly_as_the_specification_shows():
    contents = {ContentCoding.IDENTITY: b"hello world"}
    plan = ask(make_responses(contents, media_type="text/plain"), {"range": "bytes=6-7,0-1"})
    fields = read_fields(plan)
    boundary = re.fullmatch(r"multipart/byteranges; boundary=([0-9a-f]{32})", fields["content-type"])[1]

    body = read_body(plan, contents)

    assert body.decode() == (
        f"--{boundary}\r\n"
        "content-type: text/plain\r\n"
        "content-range: bytes 6-7/11\r\n"
        "\r\n"
        "wo\r\n"
        f"--{boundary}\r\n"
        "content-type: text/plain\r\n"
        "content-range: bytes 0-1/11\r\n"
        "\r\n"
        "he\r\n"
        f"--{boundary}--\r\n"
    )
    assert fields["content-length"] == str(len(body)) == str(len(plan.body))


def test_boundary_depends_on_content_and_ranges():
    def boundary(length, ranges):
        return read_fields(ask(make_responses(make_contents(length)), {"range": ranges}))["content-type"]

    assert boundary(100, "bytes=0-0,2-2") == boundary(100, "bytes=0-0,2-2")
    assert len({boundary(100, "bytes=0-0,2-2"), boundary(100, "bytes=0-0,3-3"), boundary(101, "bytes=0-0,2-2")}) == 3


@pytest.mark.parametrize(
    ("fields", "body"),
    [({}, Whole), ({"range": "bytes=0-0"}, Slice), ({"range": "bytes=0-0,2-2"}, Parts), ({"method": "HEAD"}, NoBody)],
)
def test_plan_says_which_bytes_to_send(fields, body):
    assert isinstance(ask(make_responses(CONTENTS), fields).body, body)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"if-match": '"other"'},
        {"if-none-match": "*"},
        {"if-unmodified-since": "Sun, 06 Nov 1994 08:49:37 GMT"},
        {"range": "bytes=0-0"},
        {"want-repr-digest": "sha-256=1"},
    ],
)
def test_page_for_what_is_missing_ignores_preconditions_and_ranges_and_has_no_validators(fields):
    plan = respond_missing(make_responses(CONTENTS), make_request({"accept-encoding": "gzip", **fields}), MISSING_PAGE)

    assert plan.status == 404
    assert read_fields(plan) == {
        "vary": "accept-encoding",
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "content-type": "text/plain; charset=utf-8",
        "content-encoding": "gzip",
        "content-length": "9",
    }
    assert read_body(plan, CONTENTS) == make_content(9, "gzip")


def test_page_for_what_is_missing_is_sent_as_it_is_to_a_client_that_refuses_everything():
    plan = respond_missing(make_responses(CONTENTS), make_request({"accept-encoding": "*;q=0"}), MISSING_PAGE)

    assert plan.representation.coding is ContentCoding.IDENTITY
    assert read_body(plan, CONTENTS) == b"hello world"


def test_page_for_what_is_missing_does_not_vary_where_there_is_nothing_to_negotiate():
    plan = respond_missing(make_responses(make_contents(11, {}), negotiable=False), make_request({}), MISSING_PAGE)

    assert "vary" not in read_fields(plan)


def test_page_for_what_is_missing_has_no_body_for_head():
    plan = respond_missing(make_responses(CONTENTS), make_request({"method": "HEAD"}), MISSING_PAGE)

    assert isinstance(plan.body, NoBody)
    assert read_fields(plan)["content-length"] == "11"
