"""Byte ranges: parse, resolve against a length, coalesce. Source: RFC 9110 §14.

Laws:
- A set that breaks the grammar, has another unit or too many members is ignored as a whole: the answer is 200 (§14.2).
- In a valid set, members that lie past the end are skipped; only if none is left the answer is 416 (§15.5.17).
- Parts keep the order in which they were asked for; overlapping ones become one, in one sort and one pass: a quadratic
  merge was CVE-2025-62727.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from .fields import OWS

LIMIT_BYTES = 4096
"""Longest ``Range`` value that is read; longer ones are ignored."""

LIMIT_MEMBERS = 100
"""Most members of a set; more is an attack or a mistake and is answered by the whole representation."""

_HUGE = 2**63 - 1
_DIGITS_THAT_FIT = 18
_MEMBER = re.compile(r"([0-9]*)-([0-9]*)")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from ``start`` up to but not including ``stop``; never empty."""

    start: int
    stop: int

    def __len__(self) -> int:
        """Return the length in bytes."""
        return self.stop - self.start


class RangeOutcome(Enum):
    """What a ``Range`` comes to when it does not come to ranges."""

    IGNORED = "ignored"
    UNSATISFIABLE = "unsatisfiable"


def select_ranges(text: str, length: int) -> tuple[ByteRange, ...] | RangeOutcome:
    """Return the ranges that ``text`` (a ``Range`` value) asks for of ``length`` bytes, in the order asked.

    A single member may cover everything and still be a range (206); of several that add up to the whole or more the
    caller gets ``IGNORED``. An empty representation has no range that ``Content-Range`` could express: ``IGNORED``.
    """
    members = _parse_members(text)
    if members is None or length == 0:
        return RangeOutcome.IGNORED
    ranges = [found for member in members if (found := _resolve(*member, length))]
    if not ranges:
        return RangeOutcome.UNSATISFIABLE
    if len(members) == 1:
        return (ranges[0],)
    merged = coalesce_ranges(ranges)
    if sum(map(len, merged)) >= length:
        return RangeOutcome.IGNORED
    return merged


def coalesce_ranges(ranges: list[ByteRange]) -> tuple[ByteRange, ...]:
    """Return ``ranges`` with overlapping ones joined; a joined range stands where its first member stood."""
    order = sorted(range(len(ranges)), key=lambda index: ranges[index].start)
    joined: list[tuple[int, ByteRange]] = []
    for index in order:
        current = ranges[index]
        if joined and current.start < joined[-1][1].stop:
            first, previous = joined[-1]
            joined[-1] = (min(first, index), ByteRange(previous.start, max(previous.stop, current.stop)))
        else:
            joined.append((index, current))
    return tuple(found for _, found in sorted(joined, key=lambda item: item[0]))


def format_content_range(found: ByteRange, length: int) -> str:
    """Return the ``Content-Range`` value: both ends inclusive (RFC 9110 §14.4)."""
    return f"bytes {found.start}-{found.stop - 1}/{length}"


def _parse_members(text: str) -> list[tuple[int | None, int | None]] | None:
    """Return ``(first, last)`` for ``first-last``, ``(first, None)`` for ``first-``, ``(None, n)`` for ``-n``."""
    unit, separator, members = text.partition("=")
    if not separator or unit.lower() != "bytes" or len(text) > LIMIT_BYTES:
        return None
    result: list[tuple[int | None, int | None]] = []
    for piece in members.split(","):
        member = piece.strip(OWS)
        if not member:  # empty list elements are to be tolerated (RFC 9110 §5.6.1.2)
            continue
        parsed = _parse_member(member)
        if parsed is None or len(result) == LIMIT_MEMBERS:
            return None
        result.append(parsed)
    return result or None


def _parse_member(member: str) -> tuple[int | None, int | None] | None:
    match = _MEMBER.fullmatch(member)
    if match is None or member == "-":
        return None
    first, last = (digits.lstrip("0") or digits[:1] for digits in match.groups())
    if first and last and (len(last), last) < (len(first), first):
        return None
    return _position(first), _position(last)


def _position(digits: str) -> int | None:
    """Positions that do not fit 63 bits lie past the end of every file; their exact value never matters."""
    if not digits:
        return None
    return int(digits) if len(digits) <= _DIGITS_THAT_FIT else _HUGE


def _resolve(first: int | None, last: int | None, length: int) -> ByteRange | None:
    if first is None:
        start = max(0, length - (last or 0))
        return ByteRange(start, length) if start < length else None
    stop = length if last is None else min(last + 1, length)
    return ByteRange(first, stop) if first < length else None
