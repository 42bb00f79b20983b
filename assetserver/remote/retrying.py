"""When a request is sent again, and after how long. Pure: the dice and the clock are given.

Every request of this client may be repeated: blobs have the name of their content, a submission is the same release each time,
and what is active stays so.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from http import HTTPStatus

ATTEMPTS = 8
FIRST_S = 0.5
LONGEST_S = 15.0
"""Delays double from the first to the longest: all eight attempts take about 45 seconds, longer than a restart does."""

PATIENCE_S = 120.0
"""The longest ``Retry-After`` that is waited for."""

RETRIED = frozenset(
    (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    )
)
"""Not 507: a disk that is full will not have room in a minute."""


def delay_s(attempt: int, retry_after: str | None, dice: float, now: float) -> float:
    """Return how long to wait after attempt number ``attempt`` (from 1) has failed, in seconds.

    As long as the ``Retry-After`` field says, if there is one, and a little longer, so that not all come at once; else half to
    one and a half times the delay of the attempt. ``dice``: a random number from 0 to 1; ``now``: seconds since 1970.
    """
    asked = _parse_retry_after(retry_after, now) if retry_after else None
    if asked is not None:
        return min(asked, PATIENCE_S) + dice
    return min(FIRST_S * 2.0 ** (attempt - 1), LONGEST_S) * (0.5 + dice)


def _parse_retry_after(text: str, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` field asks for (RFC 9110 §10.2.3), None for what is none."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < len("1000000000") else PATIENCE_S
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return None
