"""What the server tells about itself: the access log, and an identifier for every request.

The serving thread appends a record, and formats every few of them at once, while what they hold is still in the processor's
caches: two threads that take turns at the interpreter cost each line as much as the line itself. A thread of its own writes, so
that no request waits for a slow pipe, and formats what is left twice a second.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import TextIOWrapper
from typing import Any, NamedTuple, TextIO
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assetserver.errors import FileChangedError
from assetserver.metrics.requests import QUIET

logger = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"
FLUSH_S = 0.5
TURN_LINES = 32
PATIENCE_S = 2.0
_FAILED = 500
LIMIT_TURNS, LIMIT_WAITING = 2048, 32 << 20
"""Most batches of lines that wait to be written, and characters in them: clients may send 64 KiB of what is logged with each
request. Those beyond are dropped and counted, for the log must not eat the memory."""

_MANY_TURNS = LIMIT_TURNS // 8
"""So many batches are not kept waiting for the next time to write."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Record(NamedTuple):
    """One request as it went; times in seconds, ``sent`` in bytes of body. ``status`` is 0 if no answer was begun."""

    started: float
    duration_s: float
    scope: Scope
    client: tuple[str, int] | None
    status: int
    sent: int
    fields: list[tuple[bytes, bytes]]
    request_id: str


class Told(NamedTuple):
    """What the log tells of an answer that is given many times: status, bytes of body, and the fields it looks at.

    ``combined`` is how the combined format writes the first two.
    """

    status: int
    sent: int
    fields: tuple[tuple[bytes, bytes], ...]
    combined: bytes


def tell(status: int, sent: int, fields: Iterable[tuple[bytes, bytes]] = ()) -> Told:
    """Return what the log tells of an answer."""
    told = tuple(field for field in fields if field[0] in _LOGGED)
    return Told(status, sent, told, b"%d %d" % (status, sent) if sent else b"%d -" % status)


Asked = tuple[bytes, bytes, bytes | None, bytes | None]
"""What the log tells of a request: method and target, Host, Referer, User-Agent; None for a field that is not there."""

Brief = tuple[float, tuple[str, int] | None, Told, Callable[[Any], Asked], Any, int]
"""A request whose answer was repeated: when (seconds since 1970), client, answer, what describes the request when it is given
the next, and the number of its identifier. A plain tuple: a named one takes as long as all the rest (measured 2026-11-27)."""


class RequestIds:
    """Identifiers of requests: a random prefix for the process, and a number."""

    def __init__(self) -> None:
        self.prefix = os.urandom(5).hex().encode()
        self.last_number = 0

    def next_number(self) -> int:
        """Return the number of the next identifier."""
        self.last_number += 1
        return self.last_number

    def take(self) -> bytes:
        """Return the next identifier."""
        return b"%b-%x" % (self.prefix, self.next_number())


class AccessLog:
    """Pure ASGI middleware: one record per request, and ``X-Request-ID`` on every answer if there are ``ids``."""

    def __init__(self, app: ASGIApp, writer: LogWriter | None = None, ids: RequestIds | None = None) -> None:
        self.app = app
        self._writer = writer
        self._ids = ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.time()
        begun = time.perf_counter()
        request_id = self._ids.take().decode() if self._ids else ""
        status = sent = 0
        fields: list[tuple[bytes, bytes]] = []

        async def send_noting(message: Message) -> None:
            nonlocal status, sent, fields
            if message["type"] == "http.response.start":
                status = message["status"]
                fields = message["headers"] = list(message.get("headers", ()))
                if request_id:
                    fields.append((REQUEST_ID, request_id.encode()))
            elif message["type"] == "http.response.body" and scope["method"] != "HEAD":
                sent += len(message.get("body", b""))
            try:
                await send(message)
            finally:  # of a file, the server notes what it sent
                sent += message.get("sent", 0)

        scope["assetserver.request_id"] = request_id
        try:
            await self.app(scope, receive, send_noting)
        except FileChangedError as error:  # the answer stays incomplete, and the server closes the connection
            logger.warning("%s", error)
        except Exception:
            status = status or _FAILED
            raise
        finally:
            if self._writer is not None and QUIET not in scope:
                duration_s = time.perf_counter() - begun
                told = _told_scope(scope)
                self._writer.append(Record(started, duration_s, told, scope.get("client"), status, sent, fields, request_id))


class LogWriter:
    """Writes records to ``stream`` in the background, in one of ``FORMATS``; ``close`` writes what is left.

    ``ids`` are those whose numbers briefs have.
    """

    def __init__(self, form: str, stream: TextIO | None = None, ids: RequestIds | None = None) -> None:
        self._format = FORMATS[form]
        self._format_brief = _BRIEF_FORMATS[form]
        self._prefix = ids.prefix.decode() if ids else ""
        self._stream = stream or sys.stdout
        if isinstance(self._stream, TextIOWrapper):  # a character that the locale has not must not cost a line
            self._stream.reconfigure(errors="backslashreplace")
        self._records: deque[Record | Brief] = deque()
        self._turns: deque[str] = deque()
        self._formatted = self._written = 0  # characters so far, each counted by one thread at a time
        self._dropped = self._dropped_told = 0  # records, likewise
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._formatting = threading.Lock()
        self._writing = threading.Lock()

    def append(self, record: Record | Brief) -> None:
        """Take a record; never waits. To be called by one thread."""
        records = self._records
        records.append(record)
        if len(records) >= TURN_LINES:
            self._take_turn()
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Write what has been taken so far."""
        with self._writing:
            with self._formatting:
                self._format_records()
            if dropped := self._dropped - self._dropped_told:
                logger.warning("access log: %d records dropped; it is not read fast enough", dropped)
                self._dropped_told += dropped
            while turns := self._take_turns():
                with suppress(OSError, ValueError), _alone(self._stream):  # the reader of a pipe is gone: serving goes on
                    self._stream.write(turns)
                    self._stream.flush()
                self._written += len(turns)

    def _take_turn(self) -> None:
        """Format what has been taken, unless the writing thread is at it."""
        if len(self._turns) >= LIMIT_TURNS or self._formatted - self._written >= LIMIT_WAITING:
            self._dropped += len(self._records)
            self._records.clear()
        elif self._formatting.acquire(blocking=False):
            try:
                self._format_records()
            finally:
                self._formatting.release()
        if len(self._turns) >= _MANY_TURNS:
            self._wake.set()

    def _format_records(self) -> None:
        lines: list[str] = []
        records, prefix = self._records, self._prefix
        with suppress(IndexError):
            while True:
                record = records.popleft()
                lines.append(self._format(record) if isinstance(record, Record) else self._format_brief(record, prefix))
        if lines:
            turn = "\n".join(lines) + "\n"
            self._formatted += len(turn)
            self._turns.append(turn)

    def _take_turns(self) -> str:
        """Return the next lines to write, not too many: other processes wait meanwhile."""
        return "".join(self._turns.popleft() for _ in range(min(len(self._turns), TURN_LINES)))

    def close(self) -> None:
        """Write what is left and end the thread. The writer starts anew if it is used again.

        Gives up after ``PATIENCE_S`` if nobody reads the log: stopping must not wait for that.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            self._wake.set()
            thread.join(PATIENCE_S)
            if thread.is_alive():
                waiting = len(self._records) + TURN_LINES * len(self._turns)
                logger.warning("access log: nobody reads it, about %d records are lost", waiting)

    def _start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="assetserver-log", daemon=True)
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self.flush()
        self.flush()


@contextmanager
def _alone(stream: TextIO) -> Iterator[None]:
    """Keep other processes that write to the same file, pipe or socket waiting: their lines must not stand within ours.

    Of the process and not of the open file, which all workers share: the kernel takes it back from one that dies.
    """
    try:
        descriptor = stream.fileno()
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
    except (OSError, ValueError):  # in memory, or what cannot be locked
        yield
        return
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def format_combined(record: Record) -> str:
    """Return the record as a line of the combined log format, as Apache and nginx write it."""
    scope = record.scope
    asked = _logged(scope["headers"])
    date = _common_date(int(record.started))
    line = f"{scope['method']} {_target(scope)} HTTP/{scope['http_version']}"
    return (
        f'{_client(record)} - - [{date}] "{_quoted(line)}" {record.status} {record.sent or "-"} '
        f'"{_quoted(asked.get(b"referer", "-"))}" "{_quoted(asked.get(b"user-agent", "-"))}"'
    )


def format_json(record: Record) -> str:
    """Return the record as one JSON object."""
    scope = record.scope
    asked, answered = _logged(scope["headers"]), _logged(record.fields)
    when = time.gmtime(record.started)
    row: Mapping[str, Any] = {
        "ts": f"{time.strftime('%Y-%m-%dT%H:%M:%S', when)}.{int(record.started % 1 * 1000):03}Z",
        "request_id": record.request_id,
        "client_ip": _client(record),
        "method": scope["method"],
        "host": asked.get(b"host", ""),
        "path": scope["path"],
        "query": _without_secrets(scope.get("query_string", b"").decode("latin-1")),
        "status": record.status,
        "bytes_sent": record.sent,
        "duration_ms": round(record.duration_s * 1000, 3),
        "coding": answered.get(b"content-encoding", "identity"),
        "cache": answered.get(b"cache-status", ""),
        "referer": asked.get(b"referer", ""),
        "user_agent": asked.get(b"user-agent", ""),
    }
    return json.dumps(row, ensure_ascii=False)


FORMATS: Mapping[str, Callable[[Record], str]] = {"combined": format_combined, "json": format_json}


def _expand(brief: Brief, prefix: str) -> Record:
    """Return a brief as the record that the slow path would have made."""
    started, client, told, describe, asked_of, number = brief
    line, host, referer, agent = describe(asked_of)
    method, _, target = line.partition(b" ")
    path, mark, query = target.partition(b"?")
    fields = [(b"host", host), (b"referer", referer), (b"user-agent", agent)]
    scope = {
        "method": method.decode(),
        "http_version": "1.1",
        "path": unquote(path.decode("latin-1")),
        "raw_path": path,
        "query_string": query if mark else b"",
        "headers": [(name, value) for name, value in fields if value is not None],
    }
    request_id = f"{prefix}-{number:x}" if prefix else ""
    sent = 0 if method == b"HEAD" else told.sent
    return Record(started, 0.0, scope, client, told.status, sent, list(told.fields), request_id)


def _format_brief_combined(brief: Brief, prefix: str) -> str:
    """Return what ``format_combined`` makes of ``_expand``, in less time where nothing has to be escaped."""
    started, client, told, describe, asked_of, _ = brief
    line, _, referer, agent = describe(asked_of)
    referer, agent = b"-" if referer is None else referer, b"-" if agent is None else agent
    seen, said = line + referer, line + referer + agent
    is_plain = said.translate(_ESCAPED) == said and line[0] != _HEAD and line[-1] != _MARK
    if not is_plain or b"grant=" in seen or b"signature=" in seen:
        return format_combined(_expand(brief, prefix))
    text = (b'%b HTTP/1.1" %b "%b" "%b"' % (line, told.combined, referer, agent)).decode()
    return f'{client[0] if client else "-"} - - [{_common_date(int(started))}] "{text}'


_ESCAPED = bytes(0 if byte in b'"\\\t' or byte > 126 else byte for byte in range(256))  # noqa: PLR2004 - beyond ASCII
_HEAD, _MARK = b"H?"
_BRIEF_FORMATS: Mapping[str, Callable[[Brief, str], str]] = {
    "combined": _format_brief_combined,
    "json": lambda brief, prefix: format_json(_expand(brief, prefix)),
}


_SECRETS = re.compile(r"((?:^|[?&])(?:grant|signature)=)[^&#]*")
_LOGGED = frozenset({b"host", b"referer", b"user-agent", b"content-encoding", b"cache-status"})


def _told_scope(scope: Scope) -> Scope:
    """Return of a scope what the log tells: the rest may be large, and a log that nobody reads keeps it."""
    told = {name: scope[name] for name in _OF_SCOPES if name in scope}
    told["headers"] = [field for field in scope["headers"] if field[0] in _LOGGED]
    return told


_OF_SCOPES = ("method", "http_version", "path", "raw_path", "query_string")


def _logged(fields: list[tuple[bytes, bytes]]) -> dict[bytes, str]:
    values = {name: value.decode("latin-1") for name, value in fields if name in _LOGGED}
    if b"referer" in values:
        values[b"referer"] = _without_secrets(values[b"referer"])
    return values


@lru_cache(maxsize=4)
def _common_date(seconds: int) -> str:
    """Return the log's date, made once per second."""
    when = time.gmtime(seconds)
    return f"{when.tm_mday:02}/{_MONTHS[when.tm_mon - 1]}/{when.tm_year}:{time.strftime('%H:%M:%S', when)} +0000"


def _client(record: Record) -> str:
    return record.client[0] if record.client else "-"


def _target(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    target = raw.partition(b"?")[0].decode("latin-1")
    return f"{target}?{_without_secrets(query.decode('latin-1'))}" if query else target


def _without_secrets(text: str) -> str:
    """Return a query or URL without the values that give access: whoever reads the log must not be able to use them."""
    return _SECRETS.sub(r"\1-", text) if "=" in text else text


def _quoted(text: str) -> str:
    """Escape what would end the quotes or the line: a log line is one line, whatever a client sends."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(one if one.isprintable() and one not in '"\\' else f"\\x{ord(one):02x}" for one in text)
