"""Signed URLs: who has one may GET what it names, until it expires.

    /media/ID/NAME?expires=SECONDS&key=NAME&signature=HMAC
    /image/OPTIONS/PATH?expires=SECONDS&key=NAME&signature=HMAC

Signed are the path below ``/media`` or ``/image`` (decoded, so that no spelling of it matters) and the time. Other parts of the
query are not: they change nothing of the answer. A signature for one of the two is none for the other.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from .keys import KeyRing, Signed

LIMIT_QUERY = 2048
"""Longest query that is read at all, in bytes."""

MEDIA = "media url 1"
IMAGE = "image url 1"
"""What a signature is for."""

_PARAMETER = re.compile(r"(?:^|&)(expires|key|signature)=([^&]*)")
_SECONDS = re.compile(r"[0-9]{1,12}")


class UrlRefusal(Enum):
    """Why a URL does not give access; the value is what the client is told."""

    UNSIGNED = "this needs a signed URL"
    WRONG = "the signature is not of this URL"
    EXPIRED = "the URL has expired"


class Admission(NamedTuple):
    """A signed URL is good until ``expires``, in seconds since 1970."""

    expires: int


def sign_url(ring: KeyRing, path: str, expires: int, purpose: str = MEDIA) -> str:
    """Return the query that admits to ``path`` until ``expires`` (seconds since 1970).

    ``path`` is decoded, and below ``/media/`` or, with the purpose ``IMAGE``, below ``/image/``, options in their one spelling.
    """
    signed = ring.sign(purpose, _text(path, expires))
    return f"expires={expires}&key={signed.key}&signature={signed.signature}"


def verify_url(ring: KeyRing, path: str, query: bytes, *, now: float, purpose: str = MEDIA) -> Admission | UrlRefusal:
    """Tell whether ``query`` (as sent) admits to ``path``. Never raises. Expiry is told only where the signature is right."""
    found = dict(_PARAMETER.findall(query.decode("latin-1"))) if len(query) <= LIMIT_QUERY else {}
    if "signature" not in found:
        return UrlRefusal.UNSIGNED
    seconds = _SECONDS.fullmatch(found.get("expires", ""))
    expires = int(seconds[0]) if seconds else 0
    if not ring.verify(purpose, _text(path, expires), Signed(found.get("key", ""), found["signature"])) or seconds is None:
        return UrlRefusal.WRONG
    return Admission(expires) if now < expires else UrlRefusal.EXPIRED


def is_signed(query: bytes) -> bool:
    """Tell whether a query (as sent) claims to be signed."""
    return len(query) <= LIMIT_QUERY and any(name == "signature" for name, _ in _PARAMETER.findall(query.decode("latin-1")))


def _text(path: str, expires: int) -> str:
    return f"{expires}\n{path}"
