"""Which answers may be repeated at all, by what was asked and what was sent."""

from __future__ import annotations

from collections.abc import Iterable

from assetserver.semantics.representation import Field

from .leanrequest import WITH_RANGE, Key

_REPEATABLE = frozenset({200, 206, 301, 302, 303, 304, 307, 308, 404})
_OWN = frozenset({b"set-cookie", b"connection", b"transfer-encoding"})
_NOT_MODIFIED = 304


def is_certain(key: Key) -> bool:
    """Tell whether a request with this ``key`` gets the same answer at any time: a date in ``If-Range`` may grow old enough."""
    return len(key) < WITH_RANGE or key[-1] is None or key[-1].startswith(b'"')


def is_repeatable(status: int, fields: Iterable[Field], length: int, *, head: bool = False) -> bool:
    """Tell whether an answer may be kept: whole, of a known length, and setting nothing for one client alone.

    ``length`` of its body is in bytes; ``head``: of an answer to HEAD, that is 0 whatever it says.
    """
    values = dict(fields)
    if status not in _REPEATABLE or not _OWN.isdisjoint(values):
        return False
    return head or status == _NOT_MODIFIED or values.get(b"content-length") == b"%d" % length
