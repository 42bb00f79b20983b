"""HTTP dates as whole seconds since 1970 UTC. Source: RFC 9110 §5.6.7."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "|".join(_MONTHS)
_DAY = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_LONG_DAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

_FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:{_DAY}), (?P<day>[0-9]{{2}}) (?P<month>{_MONTH}) (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"(?:{_LONG_DAY}), (?P<day>[0-9]{{2}})-(?P<month>{_MONTH})-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        rf"(?:{_DAY}) (?P<month>{_MONTH}) (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
)
_LEAP_SECOND = 60
_CENTURY = 100
_HALF_CENTURY = 50


def parse_date(text: str, *, now: int) -> int | None:
    """Return the seconds since 1970 of an HTTP date in any of its three forms, or None if it is not one.

    ``now`` (seconds since 1970) is only used for two-digit years: one that seems more than 50 years in the future is
    in the past century (RFC 9110 §5.6.7). A leap second counts as the second before it.
    """
    for pattern in _FORMATS:
        if match := pattern.fullmatch(text):
            return _timestamp(match, now)
    return None


def format_date(seconds: int) -> str:
    """Return the IMF-fixdate of ``seconds`` since 1970: ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    return formatdate(seconds, usegmt=True)


def _timestamp(match: re.Match[str], now: int) -> int | None:
    part = match.groupdict()
    year = int(part["year"])
    has_century = len(part["year"]) > len("94")
    if not has_century:
        year += _year_of(now) // _CENTURY * _CENTURY
    second = int(part["second"])
    if second == _LEAP_SECOND:
        second -= 1
    try:
        moment = datetime(
            year,
            _MONTHS.index(part["month"]) + 1,
            int(part["day"]),
            int(part["hour"]),
            int(part["minute"]),
            second,
            tzinfo=UTC,
        )
        if not has_century and _is_half_a_century_ahead(moment, now):
            moment = moment.replace(year=year - _CENTURY)
    except ValueError:
        return None
    return int(moment.timestamp())


def _year_of(seconds: int) -> int:
    return datetime.fromtimestamp(seconds, UTC).year


def _is_half_a_century_ahead(moment: datetime, now: int) -> bool:
    today = datetime.fromtimestamp(now, UTC)
    return moment.timetuple()[:6] > (today.year + _HALF_CENTURY, *today.timetuple()[1:6])
