"""httplint, the linter of HTTP messages, finds nothing bad in any answer the server gives."""

from __future__ import annotations

import time
from http import HTTPStatus

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

ACCEPTED = {
    "STORE_PUBLIC_UNNECESSARY": "public changes nothing here, and tells people that nothing in the answer is personal",
}
"""Warnings that are let pass, and why."""

PATHS = ("/style.css", "/", "/picture.png", "/module.wasm", "/empty.txt", "/missing.css", "/missing-page")
CODINGS = (None, "br", "gzip", "zstd", "gzip, deflate, br, zstd", "", "identity;q=0", "*;q=0")

OTHERS = {
    "range": (206, "GET", "/file.txt", {"range": "bytes=0-4"}),
    "coded range": (206, "GET", "/style.css", {"range": "bytes=0-4", "accept_encoding": "br"}),
    "unsatisfiable range": (416, "GET", "/file.txt", {"range": "bytes=11-"}),
    "not modified": (304, "GET", "/style.css", {"if_none_match": "*"}),
    "not modified, coded": (304, "GET", "/style.css", {"if_none_match": "*", "accept_encoding": "br"}),
    "precondition failed": (412, "GET", "/style.css", {"if_match": '"other"'}),
    "redirect": (308, "GET", "/d", {}),
    "redirect to the canonical path": (308, "GET", "//file.txt", {}),
    "method": (405, "POST", "/file.txt", {"content_length": "0"}),
    "options": (204, "OPTIONS", "/file.txt", {}),
    "preflight": (204, "OPTIONS", "/file.txt", {"origin": "https://example.com", "access_control_request_method": "GET"}),
    "digest": (200, "GET", "/file.txt", {"want_repr_digest": "sha-256=1"}),
}


def to_lines(fields):
    return [(name.replace("_", "-").encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def lint(answer, method, **fields):
    """Return what is wrong with an answer to a method and request fields."""
    request = HttpRequestLinter(start_time=time.time())
    request.process_request_topline(method.encode(), b"/", b"1.1")
    request.process_headers(to_lines(fields.items()))
    linter = HttpResponseLinter(start_time=time.time())
    linter.request = request
    linter.is_head_response = method == "HEAD"
    phrase = HTTPStatus(answer.status).phrase
    linter.process_response_topline(b"1.1", str(answer.status).encode(), phrase.encode())
    linter.process_headers(to_lines(answer.lines))
    linter.feed_content(answer.content)
    linter.finish_content(complete=True)
    notes = [note for top in linter.notes for note in (top, *top.subnotes)]
    return [
        f"{note.level.name} {type(note).__name__} on {note.subject}: {note.summary}"
        for note in notes
        if note.level in (levels.BAD, levels.WARN) and type(note).__name__ not in ACCEPTED
    ]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("server", ["compressing", "plain"])
def test_httplint_finds_nothing_bad_in_any_coding(server, path, request, fetch):
    base = request.getfixturevalue(server)
    for coding in CODINGS:
        for method in ("GET", "HEAD"):
            fields = {} if coding is None else {"accept_encoding": coding}
            answer = fetch(base + path, method, **fields)
            assert lint(answer, method, **fields) == [], (method, coding, answer.lines)


@pytest.mark.parametrize("name", OTHERS)
def test_httplint_finds_nothing_bad_in_other_statuses(name, compressing, fetch):
    status, method, path, fields = OTHERS[name]
    answer = fetch(compressing + path, method, **fields)
    assert answer.status == status
    assert lint(answer, method, **fields) == [], answer.lines


def test_several_ranges_are_described_in_the_parts_alone(compressing, fetch):
    """The linter wants Content-Range on every 206; with multipart it must not be there (RFC 9110 §15.3.7.2)."""
    fields = {"range": "bytes=0-4,10-14"}
    answer = fetch(compressing + "/big.bin", **fields)
    [note] = lint(answer, "GET", **fields)
    assert "PARTIAL_WITHOUT_RANGE" in note
    assert answer.status == 206
    assert answer["content-range"] is None
    assert answer.content.lower().count(b"content-range: bytes ") == 2
