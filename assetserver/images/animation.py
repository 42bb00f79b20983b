"""Moving pictures: every frame of a GIF, WebP, PNG or AVIF, smaller, as one animated WebP. Runs in a child."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from PIL import Image

from .decoding import Opened, decoding, simplify
from .geometry import Size
from .scaling import scale

_SHORTEST_MS, _HASTY_MS = 20, 100
"""Browsers show a frame of less than 20 ms for 100."""


def read_frames(opened: Opened, prepare: Callable[[Image.Image], Image.Image]) -> tuple[list[Image.Image], list[int]]:
    """Return what ``prepare`` makes of each frame, and for how many milliseconds each is shown.

    Only one is in memory in its own size. Raises ``PictureRefusedError`` if one is damaged.
    """
    frames, durations = [], []
    for number in range(opened.first_moving, opened.frames):
        with decoding():
            opened.image.seek(number)
            opened.image.load()
            frame = opened.turn(simplify(opened.image))
            shown_ms = round(float(opened.image.info.get("duration") or 0))
        frames.append(prepare(frame))
        durations.append(shown_ms if shown_ms >= _SHORTEST_MS else _HASTY_MS)
    return frames, durations


def count_loops(opened: Opened) -> int:
    """Return how often an animation is shown, 0 for ever. A GIF tells how often it is *repeated*, and nothing for once."""
    info = opened.image.info
    loops = info.get("loop")
    if opened.image.format != "GIF":
        return int(loops or 0)
    return 1 if loops is None else loops + 1 if loops else 0


def cascade_frames(frames: list[Image.Image], sizes: Sequence[Size]) -> Iterator[list[Image.Image]]:
    """Yield the frames in each of ``sizes``, which descend. The list is the same one, changed in place: memory for one size."""
    for size in sizes:
        for number, frame in enumerate(frames):
            frames[number] = scale(frame, size)
        yield frames
