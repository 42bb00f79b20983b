"""Preconditions in the order of RFC 9110 §13.2.2, for a representation that is already selected.

The caller evaluates them only where the plain answer would be 2xx (§13.2.1): a 404 stays a 404.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .dates import parse_date
from .etags import ETag, parse_etag, parse_etag_list, strong_match, weak_match


class Precondition(Enum):
    """What the preconditions of a request come to."""

    PASS = "pass"  # noqa: S105 - an outcome, not a password
    NOT_MODIFIED = "not modified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The conditional fields as sent (several lines joined by ", "); None where absent."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None


@dataclass(frozen=True, slots=True)
class Validators:
    """What a representation is compared by; ``last_modified`` in seconds since 1970."""

    etag: ETag | None
    last_modified: int | None


def evaluate_preconditions(given: Preconditions, current: Validators, *, now: int) -> Precondition:
    """Return the outcome for a GET or HEAD of a representation that exists. ``now`` in seconds since 1970."""
    if not _may_proceed(given, current, now):
        return Precondition.FAILED
    if _is_not_modified(given, current, now):
        return Precondition.NOT_MODIFIED
    return Precondition.PASS


def evaluate_if_range(text: str, current: Validators, *, now: int) -> bool:
    """Tell whether ``If-Range`` lets ``Range`` apply: a strong tag that matches, or the exact date where it is strong.

    A date is a strong validator only if it lies at least one second before the response's (§8.8.2.2); a comparison by
    order would splice two versions (§13.1.5).
    """
    if (tag := parse_etag(text)) is not None:
        return strong_match((tag,), current.etag)
    date = parse_date(text, now=now)
    return date is not None and date == current.last_modified and date < now


def _may_proceed(given: Preconditions, current: Validators, now: int) -> bool:
    """Steps 1 and 2: ``If-Match``, else ``If-Unmodified-Since``."""
    if given.if_match is not None:
        tags = parse_etag_list(given.if_match)
        return tags == "*" or strong_match(tags, current.etag)
    if given.if_unmodified_since is None or current.last_modified is None:
        return True
    date = parse_date(given.if_unmodified_since, now=now)
    return date is None or current.last_modified <= date


def _is_not_modified(given: Preconditions, current: Validators, now: int) -> bool:
    """Steps 3 and 4: ``If-None-Match``, else ``If-Modified-Since``; the first makes the second ignored, hit or miss."""
    if given.if_none_match is not None:
        tags = parse_etag_list(given.if_none_match)
        return tags == "*" or weak_match(tags, current.etag)
    if given.if_modified_since is None or current.last_modified is None:
        return False
    date = parse_date(given.if_modified_since, now=now)
    return date is not None and current.last_modified <= date
