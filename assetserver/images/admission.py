"""Which pictures are let in, by what their headers say, and how much memory and how many pixels each will take.

Every refusal is a sentence for whoever uploaded the picture, with its number and the limit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from assetserver.errors import ChildFailedError, PictureRefusedError

from .headers import DamagedError, Facts, UnknownFormatError, read_facts

MIB = 1 << 20
MEGAPIXEL = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a picture may be, and what a child may take to make it small.

    ``memory_bytes`` is the address space of a child; a picture whose header shows that it needs more gets that, up to
    ``large_memory_bytes``. ``cpu_s`` and ``wall_s`` end a job. ``file_bytes`` is the largest file that it may write.
    """

    source_bytes: int = 64 * MIB
    pixels: int = 50 * MEGAPIXEL
    animation_pixels: int = 50 * MEGAPIXEL
    frames: int = 1_000
    scans: int = 100
    memory_bytes: int = 512 * MIB
    large_memory_bytes: int = 1024 * MIB
    cpu_s: int = 60
    wall_s: float = 120.0
    file_bytes: int = 64 * MIB
    open_files: int = 64


def admit(descriptor: int, size: int, limits: Limits) -> Facts:
    """Return what the header of an open file of ``size`` bytes says. Raises ``PictureRefusedError`` with the reason."""
    if size > limits.source_bytes:
        raise PictureRefusedError(f"the file has {size / MIB:.1f} MiB; the limit for pictures is {limits.source_bytes // MIB}")
    try:
        facts = read_facts(descriptor)
    except UnknownFormatError as error:
        raise PictureRefusedError(_explain(str(error))) from error
    except DamagedError as error:
        raise PictureRefusedError(f"the picture is damaged: {error}") from error
    _check(facts, limits)
    return facts


def _explain(what: str) -> str:
    if what == "empty":
        return "the file is empty"
    if what == "an SVG":
        return "an SVG needs no other sizes: it is kept and served as it is"
    named = f"this is {what}" if what else "this is no picture that is known here"
    return f"{named}; pictures are made of JPEG, PNG, WebP, AVIF and GIF"


def _check(facts: Facts, limits: Limits) -> None:
    if facts.pixels == 0:
        raise PictureRefusedError(f"the picture has no pixels: {facts.width} × {facts.height}")  # noqa: RUF001 - as people write it
    if facts.pixels > limits.pixels:
        size = f"{facts.width} × {facts.height} pixels are {facts.pixels / MEGAPIXEL:,.1f} megapixels"  # noqa: RUF001 - as above
        raise PictureRefusedError(f"{size}; the limit is {limits.pixels / MEGAPIXEL:g}")
    if facts.scans > limits.scans:
        raise PictureRefusedError(f"the JPEG has more than {limits.scans} scans; those of cameras and editors have about 10")
    if facts.frames > limits.frames:
        raise PictureRefusedError(f"the animation has {facts.frames:,} frames; the limit is {limits.frames:,}")
    if facts.frames > 1 and facts.frames * facts.pixels > limits.animation_pixels:
        total = f"{facts.frames} frames of {facts.pixels / MEGAPIXEL:.2f} megapixels"
        raise PictureRefusedError(
            f"{total} are more than the {limits.animation_pixels / MEGAPIXEL:g} that an animation may have"
        )


_BASE_BYTES = 160 * MIB
"""Interpreter, libraries and the AVIF encoder's own, as address space."""
_BYTES_PER_PIXEL = {"jpeg": 5, "png": 8, "gif": 10, "webp": 16, "avif": 16}
"""Upper bounds of what decoding takes, measured 2026-11-27 with 50 megapixels: stages and copies of Pillow and the library."""
_COEFFICIENT_BYTES = 6
"""Of a progressive JPEG with full colour resolution, per pixel: kept until the last scan."""


def estimate_bytes(facts: Facts) -> int:
    """Return an upper bound of the address space that a child needs for a picture."""
    total = (
        _BASE_BYTES + facts.pixels * _BYTES_PER_PIXEL[facts.format] + facts.is_progressive * facts.pixels * _COEFFICIENT_BYTES
    )
    return total + (4 * facts.pixels * facts.frames if facts.frames > 1 else 0)


_LOOK_S = 0.25


class PixelGate:
    """Lets in as many pixels at once as memory allows, not as many pictures. One beyond the budget goes in alone.

    In the order in which they come, so that small ones keep out no large one for ever. May be used from any thread.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._inside = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, pixels: int, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Wait until ``pixels`` fit in, and count them until the block ends.

        ``is_wanted`` is asked four times a second; raises ``ChildFailedError`` once it says no.
        """
        with self._changed:
            self._enter(pixels, is_wanted)
        try:
            yield
        finally:
            with self._changed:
                self._inside -= pixels
                self._changed.notify_all()

    def _enter(self, pixels: int, is_wanted: Callable[[], bool]) -> None:
        turn = object()
        self._waiting.append(turn)
        try:
            while self._waiting[0] is not turn or (self._inside and self._inside + pixels > self._budget):
                if not is_wanted():
                    raise ChildFailedError("nobody waits for it any more")
                self._changed.wait(_LOOK_S)
            self._inside += pixels
        finally:
            self._waiting.remove(turn)
            self._changed.notify_all()
