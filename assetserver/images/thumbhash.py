"""ThumbHash: a blurred picture with its proportions and transparency in about 25 bytes, for what draws placeholders by itself.

Pure. Source: https://evanw.github.io/thumbhash/, whose own decoder the tests ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_CHANNELS = 4


class _Wave(NamedTuple):
    """A channel as cosines: the mean, the others scaled to 0..1 around a half, and by what they were scaled."""

    mean: float
    others: list[float]
    scale: float


def encode_thumbhash(width: int, height: int, rgba: bytes) -> bytes:
    """Return the hash of pixels, four bytes each, row by row. Both sides are 100 pixels at most."""
    pixels = [tuple(part / 255 for part in rgba[at : at + _CHANNELS]) for at in range(0, len(rgba), _CHANNELS)]
    opaque = sum(alpha for *_, alpha in pixels)
    mean = [sum(pixel[one] * pixel[3] for pixel in pixels) / (opaque or 1) for one in range(3)]
    lights, yellows, reds, alphas = [], [], [], []
    for *colours, alpha in pixels:
        red, green, blue = (mean[one] * (1 - alpha) + colours[one] * alpha for one in range(3))
        lights.append((red + green + blue) / 3)
        yellows.append((red + green) / 2 - blue)
        reds.append(red - green)
        alphas.append(alpha)
    has_alpha = opaque < len(pixels)
    most = 5 if has_alpha else 7
    across, down = (max(1, _round(most * side / max(width, height))) for side in (width, height))
    light = _transform(lights, width, max(3, across), max(3, down))
    yellow, red_wave = _transform(yellows, width, 3, 3), _transform(reds, width, 3, 3)
    waves = [light, yellow, red_wave]
    is_wide = width > height
    head = (
        _round(63 * light.mean)
        | _round(31.5 + 31.5 * yellow.mean) << 6
        | _round(31.5 + 31.5 * red_wave.mean) << 12
        | _round(31 * light.scale) << 18
        | has_alpha << 23
    )
    second = (down if is_wide else across) | _round(63 * yellow.scale) << 3 | _round(63 * red_wave.scale) << 9 | is_wide << 15
    coded = bytearray(head.to_bytes(3, "little") + second.to_bytes(2, "little"))
    if has_alpha:
        waves.append(_transform(alphas, width, 5, 5))
        coded.append(_round(15 * waves[3].mean) | _round(15 * waves[3].scale) << 4)
    nibbles = [_round(15 * value) for wave in waves for value in wave.others]
    nibbles += [0] * (len(nibbles) % 2)
    coded += bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return bytes(coded)


def _transform(channel: Sequence[float], width: int, across: int, down: int) -> _Wave:
    """Return the lowest cosines of a channel, a triangle of them: as many as ``across`` and ``down`` along the sides."""
    height = len(channel) // width
    rows = [channel[at : at + width] for at in range(0, len(channel), width)]
    columns = {wave: [_project(row, wave) for row in rows] for wave in range(across)}
    values = [
        _project(columns[right], below) / (width * height)
        for below in range(down)
        for right in range(across)
        if right * down < across * (down - below)
    ]
    scale = max(map(abs, values[1:]))
    others = [0.5 + 0.5 / scale * value for value in values[1:]] if scale else values[1:]
    return _Wave(values[0], others, scale)


def _project(values: Sequence[float], wave: int) -> float:
    step = math.pi / len(values) * wave
    return sum(value * math.cos(step * (at + 0.5)) for at, value in enumerate(values))


def _round(value: float) -> int:
    return math.floor(value + 0.5)
