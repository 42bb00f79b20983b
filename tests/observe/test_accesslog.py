"""The access log: formats, escaping, batches, and what happens when nobody reads it."""

from __future__ import annotations

import io
import json
import time
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetserver.errors import FileChangedError
from assetserver.observe import ASKED, AccessLog, LogWriter, Record, Remembered, RequestIds, StreamSink, tell
from assetserver.observe.formats import format_combined, format_json
from assetserver.observe.writing import LIMIT_TURNS, TURN_LINES

SCOPE: dict[str, Any] = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "path": "/a b",
    "raw_path": b"/a%20b",
    "query_string": b"x=1",
    "client": ("192.0.2.7", 4711),
    "headers": [(b"host", b"a.test"), (b"user-agent", b"test/1"), (b"referer", b"http://b.test/")],
}


def record(**changes: Any) -> Record:
    scope = {**SCOPE, **changes}
    return Record(1795374000.25, 0.0015, scope, scope.get("client"), 200, 1024, [(b"content-encoding", b"br")], "ab-1")


def test_combined_lines_are_those_of_apache_and_nginx() -> None:
    expected = '192.0.2.7 - - [22/Nov/2026:19:00:00 +0000] "GET /a%20b?x=1 HTTP/1.1" 200 1024 "http://b.test/" "test/1"'
    assert format_combined(record()) == expected


def test_what_gives_access_is_left_out_of_both_forms() -> None:
    headers = [(b"host", b"a.test"), (b"referer", b"http://b.test/?a=1&signature=secret#top")]
    noted = record(query_string=b"name=a&grant=secret&b=grant&signature=secret", headers=headers)
    line, row = format_combined(noted), json.loads(format_json(noted))
    assert "secret" not in line + json.dumps(row)
    assert row["query"] == "name=a&grant=-&b=grant&signature=-"
    assert "/a%20b?name=a&grant=-&b=grant&signature=- HTTP" in line
    assert row["referer"] == "http://b.test/?a=1&signature=-#top"


def test_json_lines_hold_what_happened_in_named_fields() -> None:
    row = json.loads(format_json(record()))
    assert row["ts"] == "2026-11-22T19:00:00.250Z"
    assert (row["path"], row["query"], row["status"], row["bytes_sent"]) == ("/a b", "x=1", 200, 1024)
    assert (row["duration_ms"], row["coding"], row["request_id"]) == (1.5, "br", "ab-1")


@pytest.mark.parametrize("form", [format_combined, format_json])
def test_no_client_can_forge_a_line(form: Any) -> None:
    evil = b'x"\r\n1.1.1.1 - - "GET /admin \\ \x1b[31m'
    line = form(record(headers=[(b"user-agent", evil)], raw_path=b'/"\n', client=None))
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    if form is format_combined:
        assert line.count('"') == 6


def test_what_is_taken_is_written_in_order_and_at_the_latest_when_closed() -> None:
    stream = io.StringIO()
    writer = LogWriter("json", StreamSink(stream))
    for number in range(100):
        writer.append(record(path=f"/{number}"))
    writer.close()
    assert [json.loads(line)["path"] for line in stream.getvalue().splitlines()] == [f"/{n}" for n in range(100)]
    writer.append(record(path="/again"))
    writer.close()
    assert stream.getvalue().endswith("\n")
    assert "/again" in stream.getvalue()


def test_a_log_that_nobody_reads_drops_records_and_says_so(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("assetserver.observe.writing.LIMIT_TURNS", 2)
    monkeypatch.setattr("assetserver.observe.writing.TURN_LINES", 10)
    monkeypatch.setattr(LogWriter, "start", lambda _: None)  # whoever writes is stuck
    stream = io.StringIO()
    writer = LogWriter("combined", StreamSink(stream))
    for _ in range(55):
        writer.append(record())
    writer.flush()
    assert "30 records dropped" in caplog.text
    assert len(stream.getvalue().splitlines()) == 25


def test_long_lines_that_nobody_reads_fill_no_memory(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("assetserver.observe.writing.LIMIT_WAITING", 1 << 20)
    monkeypatch.setattr(LogWriter, "start", lambda _: None)  # whoever writes is stuck
    stream = io.StringIO()
    writer = LogWriter("combined", StreamSink(stream))
    for _ in range(20 * TURN_LINES):
        writer.append(record(headers=[(b"referer", b"x" * (32 << 10))]))
    writer.flush()
    assert len(stream.getvalue()) < 3 << 20
    assert f"{19 * TURN_LINES} records dropped" in caplog.text
    for _ in range(TURN_LINES):
        writer.append(record(headers=[(b"referer", b"x" * (32 << 10))]))
    caplog.clear()
    writer.flush()
    assert stream.getvalue().count("\n") == 2 * TURN_LINES, "what was written makes room"
    assert not caplog.text


def test_lines_wait_no_longer_when_there_are_many(monkeypatch: Any) -> None:
    monkeypatch.setattr("assetserver.observe.writing.FLUSH_S", 60)
    stream = io.StringIO()
    writer = LogWriter("combined", StreamSink(stream))
    for _ in range(TURN_LINES * LIMIT_TURNS):
        writer.append(record())
    deadline_s = time.monotonic() + 30
    while not stream.getvalue() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert stream.getvalue()
    writer.close()


def test_a_closed_pipe_does_not_stop_the_server() -> None:
    stream = io.StringIO()
    stream.close()
    writer = LogWriter("combined", StreamSink(stream))
    writer.append(record())
    writer.close()


@pytest.mark.anyio
async def test_a_request_whose_app_fails_is_logged_as_it_went(anyio_backend_name: str) -> None:
    stream = io.StringIO()
    writer = LogWriter("json", StreamSink(stream))

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise RuntimeError("cut")

    async def send(message: Any) -> None:
        pass

    with pytest.raises(RuntimeError, match="cut"):
        await AccessLog(broken, writer)(dict(SCOPE), None, send)  # type: ignore[arg-type]
    writer.close()
    row = json.loads(stream.getvalue())
    assert (row["status"], row["bytes_sent"]) == (200, 3)


@pytest.mark.anyio
async def test_a_file_that_is_cut_while_it_is_sent_is_one_line_and_no_traceback(caplog: Any, anyio_backend_name: str) -> None:
    async def cut(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise FileChangedError("a.bin changed while it was sent")

    async def send(message: Any) -> None:
        pass

    await AccessLog(cut)(dict(SCOPE), None, send)  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == ["a.bin changed while it was sent"]


@pytest.mark.anyio
async def test_nothing_is_sent_for_head_and_a_failure_counts_as_500(anyio_backend_name: str) -> None:
    stream = io.StringIO()
    writer = LogWriter("json", StreamSink(stream))

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"never leaves the server"})

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("broken")

    async def send(message: Any) -> None:
        pass

    await AccessLog(answer, writer)({**SCOPE, "method": "HEAD"}, None, send)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError):
        await AccessLog(fail, writer)(dict(SCOPE), None, send)  # type: ignore[arg-type]
    writer.close()
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(row["status"], row["bytes_sent"]) for row in rows] == [(200, 0), (500, 0)]


def test_a_character_that_the_locale_has_not_costs_no_line() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1")
    writer = LogWriter("json", StreamSink(stream))
    writer.append(record(path="/\u4e2d"))
    writer.append(record(path="/innocent"))
    writer.close()
    assert raw.getvalue().count(b"\n") == 2


VALUES = st.none() | st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte == 9 or 32 <= byte != 127))
TARGETS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30)


def write_both(form: str, record: Record, told_fields: list[tuple[bytes, bytes]]) -> list[str]:
    """Return the lines of a request as the slow path and as the hot one has it written."""
    scope = record.scope
    mark = b"" if scope["query_string"] is None else b"?"
    line = b"%b %b%b%b" % (scope["method"].encode(), scope["raw_path"], mark, scope["query_string"] or b"")
    asked = tuple(dict(scope["headers"]).get(name) for name in ASKED)
    ids = RequestIds()
    stream = io.StringIO()
    writer = LogWriter(form, StreamSink(stream), ids)
    whole = {**scope, "query_string": scope["query_string"] or b""}
    writer.append(record._replace(scope=whole, request_id=f"{ids.prefix.decode()}-2a"))
    told = tell(record.status, record.sent, told_fields)
    peer = writer.meet(record.client)
    writer.repeat(record.started, peer, told, lambda values: values, (line, *asked), 42)
    again = Remembered(lambda values: values, (line, *asked))
    for _ in range(2):
        writer.repeat(record.started, peer, told, Remembered.describe, again, 42)
    writer.close()
    return stream.getvalue().split("\n\n" if form == "journald" else "\n")


@pytest.mark.parametrize("form", ["combined", "json", "journald"])
@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["GET", "HEAD"]),
    target=TARGETS,
    query=st.none() | TARGETS,
    host=VALUES,
    referer=VALUES,
    agent=VALUES,
    status=st.sampled_from([200, 206, 304, 404]),
    sent=st.sampled_from([0, 5, 1 << 40]),
)
@example("GET", "a", "b", b"h", b'"', b"\\", 200, 5)
@example("GET", "a%20%ff", "a?b", b"h", b"\xff", b"\t", 200, 0)
@example("GET", '"', "signature=x&b=c", b"h", None, b'"', 404, 5)
@example("GET", "a", "a=b&grant=secret", b"h", b"http://a/?signature=secret", None, 200, 5)
@example("GET", "a", "GRANT=secret&%67rant=secret&signature=", b"h", None, None, 200, 5)
def test_an_answer_that_is_repeated_is_logged_as_it_was_the_first_time(  # noqa: PLR0917
    form: str, method: str, target: str, query: Any, host: Any, referer: Any, agent: Any, status: int, sent: int
) -> None:
    path = target.partition("?")[0]
    fields = [(b"host", host or b""), (b"referer", referer), (b"user-agent", agent), (b"accept", b"*/*")]
    answered = [(b"etag", b'"x"'), (b"content-encoding", b"br"), (b"cache-status", b"assetserver; hit")]
    scope = {
        **SCOPE,
        "method": method,
        "path": unquote("/" + path),
        "raw_path": b"/" + path.encode(),
        "query_string": None if query is None else query.encode(),
        "headers": [(name, value) for name, value in fields if value is not None],
    }
    slow = Record(1795374000.25, 0.0, scope, SCOPE["client"], status, 0 if method == "HEAD" else sent, answered, "")._replace(
        peer=SCOPE["client"]
    )
    first, *others, _ = write_both(form, slow, answered)
    assert others == [first] * 3
