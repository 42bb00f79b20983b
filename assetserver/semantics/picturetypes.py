"""Which kind of picture a client shows, by its ``Accept``: three classes, and no more.

Every browser words its ``Accept`` differently, and a cache that keeps one answer for each wording keeps hundreds. Counted is
what is named exactly: ``image/*`` and ``*/*`` say nothing of AVIF or WebP, for clients that show neither send them as well.
Source: RFC 9110 §12.5.1.
"""

from __future__ import annotations

from typing import Literal

from .fields import OWS, parse_list, parse_weight

PictureClass = Literal["avif", "webp", "base"]
"""The best that a client shows; ``base`` is what every one does: JPEG and PNG."""

_BEST_FIRST: tuple[tuple[PictureClass, str], ...] = (("avif", "image/avif"), ("webp", "image/webp"))


def select_picture_class(accept: str | None) -> PictureClass:
    """Return the class of a client that sends this ``Accept`` (several lines joined by ", "), or none. Never raises."""
    named = {media_type.lower() for media_type, weight in map(_read_member, parse_list(accept or "")) if weight}
    return next((kind for kind, media_type in _BEST_FIRST if media_type in named), "base")


def _read_member(member: str) -> tuple[str, int]:
    """Return a media range without parameters, and its weight in thousandths: 0 if it is malformed."""
    media_type, *parameters = (part.strip(OWS) for part in member.split(";"))
    weights = [text[2:] for text in parameters if text[:2] in ("q=", "Q=")]
    weight = parse_weight(weights[0]) if weights else 1000
    return media_type, weight or 0
