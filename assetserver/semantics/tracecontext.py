"""The trace that a request belongs to, and the identifier that a proxy gave it.

Source: W3C Trace Context (Recommendation, 23 November 2021) §3.2 (``traceparent``), §3.2.4 and §4.3 (versions to come).
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})((?:-[!-~]*)?)")
REQUEST_ID = rb"[A-Za-z0-9_.-]{8,64}"
"""The pattern of an identifier that is passed on."""

_is_request_id = re.compile(REQUEST_ID).fullmatch
_SAMPLED = 1


class TraceParent(NamedTuple):
    """Who called: the trace, the span in it, both in lower-case hexadecimals, and whether the caller records it."""

    trace_id: str
    span_id: str
    is_sampled: bool

    def __str__(self) -> str:
        """Return it as a field's value, of the version that is known here."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"


def parse_traceparent(value: bytes) -> TraceParent | None:
    """Return what a ``traceparent`` value says, or None if it is not exactly one; a trace is then begun anew (§4.3).

    Of versions to come, what this one has is read, and what may follow is not.
    """
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match[1] == b"00" and match[5]):
        return None
    return TraceParent(match[2].decode(), match[3].decode(), bool(int(match[4], 16) & _SAMPLED))


def is_request_id(value: bytes) -> bool:
    """Tell whether a proxy's identifier may be passed on: 8 to 64 letters, digits, ``_``, ``.`` and ``-``, for logs to hold."""
    return _is_request_id(value) is not None
