"""What is known of a picture, and of the variants that were made of it.

    (nothing) ──upload──▶ waiting ──first phase──▶ ready
                            │  ▲
        no attempt is left  │  │  retried by people, or uploaded again
                            ▼  │
                          failed          refused: it will never do

A picture is the bytes of a source and a plan: uploads of the same bytes share it. A variant never names bytes that are not
durable. ``database.pictures`` is the engine.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Found = Literal["waiting", "ready", "failed", "refused"]
"""What is recorded of a picture."""

State = Literal["queued", "processing", "ready", "failed"]
"""What is told of one: whether somebody works on it is known by its job."""


class StoredVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant whose bytes are a durable blob: pixels, bytes; ``format`` is ``jpeg png webp`` or ``avif``."""

    format: str
    width: int
    height: int
    size: int
    sha256: str


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A picture as a whole: its size in pixels, upright; and what stands for it: colour, data URL, ThumbHash (hexadecimal)."""

    width: int
    height: int
    has_alpha: bool = False
    colour: str = ""
    placeholder: str = ""
    thumbhash: str = ""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt made: variants that are stored, and formats that are still to come; ``look`` with the first ones."""

    variants: tuple[StoredVariant, ...]
    look: Look | None = None
    pending: tuple[str, ...] = ()


class PictureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A picture at one moment. ``key`` names it; ``source`` is the SHA-256 of the bytes that it is made of.

    ``progress`` of what is being made is from 0 to 1; ``reason`` is for people, why it failed.
    """

    key: str
    source: str
    state: State
    reason: str = ""
    progress: float = 0.0
    look: Look | None = None
    pending: tuple[str, ...] = ()
    variants: tuple[StoredVariant, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self.state == "failed" or (self.state == "ready" and not self.pending)
