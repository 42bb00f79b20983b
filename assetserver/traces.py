"""The trace that what runs belongs to, so that what it causes later can belong to it, too."""

from __future__ import annotations

from contextvars import ContextVar, Token

_current: ContextVar[str] = ContextVar("assetserver.trace", default="")


def current_trace() -> str:
    """Return the ``traceparent`` of the request or job that runs in this context; "" if there is none."""
    return _current.get()


def enter_trace(traceparent: str) -> Token[str]:
    """Have what runs in this context from now on belong to a trace; return what ``leave_trace`` takes."""
    return _current.set(traceparent)


def leave_trace(token: Token[str]) -> None:
    """Belong to what was before."""
    _current.reset(token)
