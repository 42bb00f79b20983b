"""The forms of the access log: combined as Apache and nginx write it, JSON lines, and fields of the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from starlette.types import Scope

from .records import LOGGED, Address, Record
from .redacting import without_secrets

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
encode_json = msgspec.json.Encoder().encode
"""A tenth of what the standard library takes for a row: 0.8 µs (measured 2026-11-27)."""

LOGGER = "assetserver.access"
IDENTIFIER = "assetserver"
_INFORMATIONAL = 6


def format_combined(record: Record) -> str:
    """Return the record as a line of the combined log format, as Apache and nginx write it."""
    scope = record.scope
    asked = _logged(scope["headers"])
    date = format_date(int(record.started))
    line = f"{scope['method']} {_target(scope)} HTTP/{scope['http_version']}"
    return (
        f'{format_host(record.client)} - - [{date}] "{quote(line)}" {record.status} {record.sent or "-"} '
        f'"{quote(asked.get(b"referer", "-"))}" "{quote(asked.get(b"user-agent", "-"))}"'
    )


def format_json(record: Record) -> str:
    """Return the record as one JSON object."""
    return encode_json(describe(record)).decode()


def format_journal(record: Record) -> str:
    """Return the record as the fields of an entry of the journal, in lines: upper-case names, no value with a line break.

    Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
    """
    row = describe(record)
    entry = {
        "message": f"{row['method']} {_target(record.scope)} {record.status} {record.sent}",
        "priority": _INFORMATIONAL,
        "syslog_identifier": IDENTIFIER,
        **{name: value for name, value in row.items() if name not in ("ts", "level")},
    }
    return "".join(f"{name.upper()}={_on_one_line(str(value))}\n" for name, value in entry.items())


def describe(record: Record) -> dict[str, Any]:
    """Return what the log tells of a request, by name; times in milliseconds, sizes in bytes of body."""
    scope, trace = record.scope, record.trace
    asked, answered = _logged(scope["headers"]), _logged(record.fields)
    return {
        "ts": format_moment(record.started),
        "level": "info",
        "logger": LOGGER,
        "request_id": record.request_id,
        "client_ip": format_host(record.client),
        "peer": format_host(record.peer),
        "trace_id": trace.trace_id if trace else "",
        "span_id": trace.span_id if trace else "",
        "method": scope["method"],
        "host": asked.get(b"host", ""),
        "path": scope["path"],
        "query": without_secrets(scope.get("query_string", b"").decode("latin-1")),
        "status": record.status,
        "bytes_sent": record.sent,
        "bytes_received": record.received,
        "duration_ms": round(record.duration_s * 1000, 3),
        "ttfb_ms": round(record.first_s * 1000, 3),
        "coding": answered.get(b"content-encoding", "identity"),
        "cache": answered.get(b"cache-status", ""),
        "range": asked.get(b"range", ""),
        "referer": asked.get(b"referer", ""),
        "user_agent": asked.get(b"user-agent", ""),
    }


def format_moment(seconds: float) -> str:
    """Return a moment, in seconds since 1970, as RFC 3339 writes it, in UTC and whole milliseconds."""
    second, millisecond = divmod(int(seconds * 1000), 1000)
    return f"{_second(second)}.{millisecond:03}Z"


FORMATS: Mapping[str, Callable[[Record], str]] = {
    "combined": format_combined,
    "json": format_json,
    "journald": format_journal,
}


def encode_line(text: str) -> bytes:
    """Return a record as it is written, with the line break that ends it."""
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _logged(fields: list[tuple[bytes, bytes]]) -> dict[bytes, str]:
    values = {name: value.decode("latin-1") for name, value in fields if name in LOGGED}
    if b"referer" in values:
        values[b"referer"] = without_secrets(values[b"referer"])
    return values


@lru_cache(maxsize=4)
def format_date(seconds: int) -> str:
    """Return a moment, in seconds since 1970, as the combined format writes it; made once per second."""
    when = time.gmtime(seconds)
    return f"{when.tm_mday:02}/{_MONTHS[when.tm_mon - 1]}/{when.tm_year}:{time.strftime('%H:%M:%S', when)} +0000"


_second = lru_cache(maxsize=4)(lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))


def format_host(address: Address | None) -> str:
    """Return an address without its port, "-" for none."""
    return address[0] if address else "-"


def _target(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    target = raw.partition(b"?")[0].decode("latin-1")
    return f"{target}?{without_secrets(query.decode('latin-1'))}" if query else target


def _escape(text: str, special: str) -> str:
    return "".join(one if one.isprintable() and one not in special else f"\\x{ord(one):02x}" for one in text)


def quote(text: str) -> str:
    """Escape what would end the quotes or the line: a log line is one line, whatever a client sends."""
    return text if text.isprintable() and '"' not in text and "\\" not in text else _escape(text, '"\\')


def _on_one_line(text: str) -> str:
    return text if text.isprintable() else _escape(text, "")
