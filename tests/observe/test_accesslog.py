"""The access log: formats, escaping, batches, and what happens when nobody reads it."""

from __future__ import annotations

import io
import json
import time
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assetserver.errors import FileChangedError
from assetserver.observe import ASKED, PASSED_ON, AccessLog, LogWriter, Record, Remembered, StreamSink, tell
from assetserver.observe.briefs import choose_briefs
from assetserver.observe.formats import FORMATS, encode_line, format_combined, format_json
from assetserver.observe.records import Entry
from assetserver.observe.writing import LIMIT_TURNS, TURN_LINES
from assetserver.semantics.tracecontext import parse_traceparent

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
PLAIN = st.text("ab/.-?=1", max_size=20).map(str.encode)
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PROXY, CLIENT = ("198.51.100.1", 80), ("192.0.2.7", 4711)


def find_client(peer: Any, x_forwarded_for: bytes | None, forwarded: bytes | None) -> Any:
    return CLIENT if x_forwarded_for or forwarded else peer


class Case(NamedTuple):
    """A request, and the answer to it."""

    method: str
    target: str
    values: tuple[bytes | None, ...]
    answered: list[tuple[bytes, bytes]]
    status: int
    sent: int

    def write(self, form: str, prefix: str, number: int) -> bytes:
        """Return its line as the slow path has it written."""
        path, _, query = self.target.partition("?")
        *_, traceparent, x_forwarded_for, forwarded, given = self.values
        own = f"{prefix}-{number:x}" if prefix else ""
        scope = {
            "http_version": "1.1",
            "method": self.method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name, value) for name, value in zip(ASKED, self.values, strict=False) if value is not None],
        }
        record = Record(
            1795374000.25, 0.0, scope, find_client(PROXY, x_forwarded_for, forwarded), self.status, self.sent, self.answered, ""
        )
        return encode_line(
            FORMATS[form](
                record._replace(
                    request_id=given.decode() if given and own else own,
                    trace=parse_traceparent(traceparent) if traceparent else None,
                    peer=PROXY,
                )
            )
        )

    @property
    def is_proxied(self) -> bool:
        """Tell whether it has fields that count where a trusted proxy sent them."""
        return any(self.values[-3:])

    def asked(self) -> Any:
        """Return what the hot path knows of it."""
        values = self.values if self.is_proxied else self.values[: len(ASKED)]
        return (f"{self.method} {self.target}".encode(), *values)


@st.composite
def cases(draw: Any, values: Any, targets: Any) -> Case:
    method, status = draw(st.sampled_from(["GET", "HEAD"])), draw(st.sampled_from([200, 206, 304, 404]))
    sent = 0 if method == "HEAD" else draw(st.sampled_from([0, 5, 1 << 40]))
    answered = draw(st.lists(st.sampled_from([(b"content-encoding", b"br"), (b"cache-status", b'a; "hit"')]), unique=True))
    host, referer, agent, span = (draw(values) for _ in range(4))
    trace, given = draw(st.sampled_from([None, None, TRACE, b"00-bad"])), draw(st.sampled_from([None, None, b"given-id"]))
    others = (trace, draw(st.sampled_from([None, b"192.0.2.7"])), draw(st.sampled_from([None, b"for=192.0.2.7"])), given)
    return Case(method, "/" + draw(targets), (host, referer, agent, span, *others), answered, status, sent)


def make_case(target: str, *values: bytes | None) -> Case:
    return Case("GET", target, (*values, *(None,) * (len(ASKED) + len(PASSED_ON) - len(values))), [], 200, 5)


@pytest.mark.parametrize("prefix", ["ab", ""])
@pytest.mark.parametrize("form", ["combined", "json", "journald"])
@settings(max_examples=200, deadline=None)
@given(batch=st.lists(cases(VALUES, TARGETS) | cases(PLAIN, PLAIN.map(bytes.decode)), min_size=1, max_size=6))
@example([make_case("/a?b", b"h", b'"', b"\\"), make_case("/a", b"h", b"", b"a")])
@example([make_case("/a%20%ff?a?b", b"h", b"\xff", b"\t")])
@example([make_case('/"?signature=x&b=c', b"h", None, b'"')])
@example([make_case("/a?a=b&grant=secret", b"h", b"http://a/?signature=secret"), make_case("/a?"), make_case("/??", b"h")])
@example([make_case("/a&token=b?c=d", b"h"), make_case("/a?access_token=secret"), make_case("/a", b"h", b"?token=secret#b")])
@example([make_case("/a?GRANT=secret&%67rant=secret&signature=", b"h"), make_case("/%67rant=a", b"h", b"a=%")])
def test_an_answer_that_is_repeated_is_logged_as_it_was_the_first_time(form: str, prefix: str, batch: list[Case]) -> None:
    briefs = choose_briefs(form, prefix.encode(), find_client)
    peer = briefs.meet(PROXY)
    entries: list[Entry] = []
    lines: list[bytes] = []
    for number, case in enumerate(batch, 42):
        told, again = tell(case.status, case.sent, case.answered), Remembered(Case.asked, case)
        repeats = 0 if case.is_proxied else 2  # what a proxy passes on is not remembered
        entries += [(0.25, peer, told, case.asked(), number), *[(0.25, peer, told, again, number)] * repeats]
        lines += [case.write(form, prefix, number)] * (1 + repeats)
    assert briefs.join(entries, 1795374000.0) == b"".join(lines)
