"""Compression dictionaries: what a client offers, who may have a delta, and which files are dictionaries for what comes next.

Decides from field values alone; which deltas there are, it is told. Source: RFC 9842 (Compression Dictionary Transport),
RFC 9651 (Structured Fields), the Fetch Metadata and URL Pattern standards.

Laws:
- In doubt there is no dictionary: an answer without one is always right.
- A hash has one spelling here, so that caches keyed by the field hold one answer for it.
- A pattern is an absolute path in which nothing but one ``*`` means anything: it never matches another origin or folder.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from .fields import parse_list
from .fingerprints import split_name
from .targets import format_target

MINIMUM_BYTES = 1024
LIMIT_BYTES = 100 << 20
"""Files between these sizes are dictionaries: smaller ones save less than the fields cost, larger ones no browser keeps."""

LONG_LIVED_S = 86_400
"""A file is a dictionary if it may be used for at least a day: what is asked for again within hours has seldom changed."""

_AVAILABLE = re.compile(r":([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=):")
"""32 bytes as a Byte Sequence (RFC 9651 §3.3.5), in its only spelling: padded, and without stray bits at the end."""

_PATTERN = re.compile(r"/[A-Za-z0-9/_.~%-]*\*?[A-Za-z0-9/_.~%-]*")
"""What a URL pattern may hold here: all its other signs mean something, or are not the same in every URL parser."""

_SECONDS = re.compile(r"(max-age|stale-while-revalidate)=([0-9]{1,10})")
_NEVER = frozenset({"no-store", "no-cache"})
_NO_STALE = frozenset({"must-revalidate"})
_MODES_OF_THE_BROWSER = frozenset({None, "navigate", "same-origin"})


@dataclass(frozen=True, slots=True)
class OfferedDictionary:
    """What a request says of the dictionary that its client has, field values as sent, None where absent.

    ``digest``: SHA-256 of the dictionary, 32 bytes. ``site`` and ``mode``: ``Sec-Fetch-Site`` and ``Sec-Fetch-Mode``.
    """

    digest: bytes
    site: str | None = None
    mode: str | None = None
    origin: str | None = None


def parse_available_dictionary(text: str) -> bytes | None:
    """Return the 32 bytes of an ``Available-Dictionary`` value, or None if it is not exactly a SHA-256 (RFC 9842 §2.2)."""
    match = _AVAILABLE.fullmatch(text)
    return match and b64decode(match[1])


def format_available_dictionary(digest: bytes) -> str:
    """Return the ``Available-Dictionary`` value that offers the dictionary with the SHA-256 ``digest``, 32 bytes."""
    return f":{b64encode(digest).decode()}:"


def may_read(offered: OfferedDictionary, allowed_origin: str | None) -> bool:
    """Tell whether who asks may read the answer, so that its size may depend on the dictionary (RFC 9842 §9.3.3).

    ``allowed_origin``: the ``Access-Control-Allow-Origin`` of the answer. A page of another site could else learn from sizes
    what its visitor has read.
    """
    if offered.site in (None, "same-origin") or offered.mode in _MODES_OF_THE_BROWSER:
        return True
    if offered.mode != "cors" or offered.origin is None:
        return False
    return allowed_origin in ("*", offered.origin)


def usable_s(cache_control: str) -> int:
    """Return for how many seconds an answer with this ``Cache-Control`` can be a dictionary (RFC 9842 §2.1.1).

    That is while it is fresh, or may be used stale (RFC 5861 §3) without being asked for.
    """
    members = [member.lower() for member in parse_list(cache_control)]
    if not _NEVER.isdisjoint(members):
        return 0
    seconds = {match[1]: int(match[2]) for member in members if (match := _SECONDS.fullmatch(member))}
    stale_s = seconds.get("stale-while-revalidate", 0) if _NO_STALE.isdisjoint(members) else 0
    return seconds.get("max-age", 0) + stale_s


def cover_next_names(path: str, *, is_fingerprint: bool) -> str:
    """Return the pattern of a file's URL and of those that its next versions will have; "" if there is no safe one.

    ``path``: decoded, from the root of the host, without leading "/". ``assets/app-BX2k9_fQ.js`` → ``/assets/app-*.js``; a name
    that is no fingerprint stands for itself: ``is_fingerprint`` says that it is known to be one, else it has to look random.
    """
    parts = split_name(path)
    if parts is None or not (is_fingerprint or parts.is_random):
        return check_pattern(format_target(path))
    before = path.removesuffix(parts.extension).removesuffix(parts.hash)
    return check_pattern(format_target(before) + "*" + format_target(parts.extension)[1:])


def check_pattern(pattern: str) -> str:
    """Return ``pattern`` if it is an absolute path that every parser of URL patterns reads alike, else ""."""
    return pattern if _PATTERN.fullmatch(pattern) else ""


def format_use_as_dictionary(pattern: str, destinations: tuple[str, ...] = ()) -> str:
    """Return the ``Use-As-Dictionary`` value (RFC 9842 §2.1) for requests whose URL matches a checked ``pattern``.

    ``destinations``: only for these, as Fetch calls them. None are named for files: a script may come as a module, a worker or
    a preload, and the pattern has its extension.
    """
    where = " ".join(f'"{one}"' for one in destinations)
    return f'match="{pattern}"' + (f", match-dest=({where})" if where else "")
