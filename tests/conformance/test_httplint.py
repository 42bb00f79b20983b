"""httplint, the linter of HTTP messages, finds nothing bad in any answer the server gives."""

from __future__ import annotations

import time
from http import HTTPStatus

import pytest
from httplint import HttpResponseLinter
from httplint.note import levels

ACCEPTED = {
    "STORE_PUBLIC_UNNECESSARY": "public changes nothing here, and tells people that nothing in the answer is personal",
}
"""Warnings that are let pass, and why."""

PATHS = ("/style.css", "/", "/picture.png", "/module.wasm", "/empty.txt", "/big.bin", "/missing.css", "/missing-page")
CODINGS = (None, "br", "gzip", "zstd", "gzip, deflate, br, zstd", "", "identity;q=0", "*;q=0")

OTHERS = {
    "range": (206, "GET", "/file.txt", {"range": "bytes=0-4"}),
    "coded range": (206, "GET", "/style.css", {"range": "bytes=0-4", "accept_encoding": "br"}),
    "several ranges": (206, "GET", "/big.bin", {"range": "bytes=0-4,10-14"}),
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


@pytest.fixture(scope="module")
def compressing(shared_origin, site, patient):
    return shared_origin(site, config=patient)


@pytest.fixture(scope="module")
def plain(shared_origin, site):
    return shared_origin(site, config="[compression]\nenabled = false\n")


def lint(answer, method):
    """Return what is wrong with an answer."""
    linter = HttpResponseLinter(start_time=time.time())
    linter.is_head_response = method == "HEAD"
    phrase = HTTPStatus(answer.status).phrase
    linter.process_response_topline(b"1.1", str(answer.status).encode(), phrase.encode())
    linter.process_headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.lines])
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
            answer = fetch(base + path, method, **({} if coding is None else {"accept_encoding": coding}))
            assert lint(answer, method) == [], (method, coding, answer.lines)


@pytest.mark.parametrize("name", OTHERS)
def test_httplint_finds_nothing_bad_in_other_statuses(name, compressing, fetch):
    status, method, path, fields = OTHERS[name]
    answer = fetch(compressing + path, method, **fields)
    assert answer.status == status
    assert lint(answer, method) == [], answer.lines
