"""Sizes, crops and ladders, in whole pixels. Pure; nothing is ever enlarged, nothing has a side of 0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .transform import Transform

LONGEST = 16383
"""Longest side of what is made where a box leaves it open, in pixels: that of WebP."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom: half-open."""


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int


class Layout(NamedTuple):
    """``shape`` is cut out of a picture (its proportions count), made as small as ``scaled``, and put on ``canvas``."""

    shape: Size
    scaled: Size
    canvas: Size


def choose_widths(width: int, ladder: Iterable[int]) -> tuple[int, ...]:
    """Return the steps below ``width``, and ``width`` itself unless the ladder ends below it; ascending.

    >>> choose_widths(1000, (320, 640, 1280))
    (320, 640, 1000)
    """
    steps = sorted(set(ladder))
    below = [step for step in steps if step < width]
    return tuple(below if steps and steps[-1] < width else [*below, width])


def frame(source: Size, transform: Transform) -> Box:
    """Return the region of a picture of ``source`` that counts, as far as it is inside. Raises ``ValueError`` if none is."""
    if transform.corners is None:
        return 0, 0, *source
    left, top, right, bottom = transform.corners
    if left >= source.width or top >= source.height:
        raise ValueError(f"the region {transform.region} lies outside of a picture of {source.width} × {source.height} pixels")  # noqa: RUF001 - as people write it
    return left, top, min(right, source.width), min(bottom, source.height)


def turn(size: Size, degrees: int) -> Size:
    """Return a size after some quarter turns."""
    return size if degrees in (0, 180) else Size(size.height, size.width)


def lay_out(whole: Size, transform: Transform) -> Layout:
    """Return what ``transform`` makes of a picture of size ``whole`` (as it is seen: orientation applied).

    Raises ``ValueError`` for a region outside of it.
    """
    left, top, right, bottom = frame(whole, transform)
    source = turn(Size(right - left, bottom - top), transform.rotate)
    if transform.fit == "cover":
        target = Size(transform.width, transform.height)
        shape = cut_shape(source, target)
        scaled = target if shape.width >= target.width and shape.height >= target.height else shape
        return Layout(shape, scaled, scaled)
    if transform.fit == "squeeze":
        scaled = Size(min(source.width, transform.width), min(source.height, transform.height))
        return Layout(source, scaled, scaled)
    scaled = fit_inside(source, transform.width, transform.height)
    if transform.fit == "pad":
        return Layout(source, scaled, Size(transform.width, transform.height))
    return Layout(source, scaled, scaled)


def fit_inside(size: Size, width: int, height: int) -> Size:
    """Return ``size`` made small enough for a box, proportions kept; a side of the box that is 0 is open.

    Rounded by ourselves: Pillow's ``thumbnail`` made 319 of 320, and libvips rounds the other side otherwise (both measured).
    """
    width, height = width or LONGEST, height or LONGEST
    if size.width <= width and size.height <= height:
        return size
    if size.width * height >= size.height * width:
        return Size(width, max(1, _divide(size.height * width, size.width)))
    return Size(max(1, _divide(size.width * height, size.height)), height)


def cut_shape(size: Size, target: Size) -> Size:
    """Return the largest size inside ``size`` with the proportions of ``target``."""
    if size.width * target.height >= size.height * target.width:
        return Size(max(1, _divide(size.height * target.width, target.height)), size.height)
    return Size(size.width, max(1, _divide(size.width * target.height, target.width)))


def place(size: Size, shape: Size, focus: tuple[float, float]) -> Box:
    """Return where to cut ``shape`` out of ``size`` so that the point ``focus`` (shares) is as near its middle as can be."""
    left = _place_along(size.width, shape.width, focus[0])
    top = _place_along(size.height, shape.height, focus[1])
    return (left, top, left + shape.width, top + shape.height)


def _place_along(whole: int, part: int, focus: float) -> int:
    return max(0, min(whole - part, round(focus * whole - part / 2)))


def _divide(dividend: int, divisor: int) -> int:
    """Divide and round half up, with whole numbers alone: the same everywhere."""
    return (2 * dividend + divisor) // (2 * divisor)


def choose_window(weights: list[float], length: int) -> int:
    """Return where the ``length`` neighbours with the greatest sum begin; of equal ones those nearest the middle."""
    starts = range(len(weights) - length + 1)
    total = sum(weights[:length])
    sums = [total]
    for start in starts[1:]:
        total += weights[start + length - 1] - weights[start - 1]
        sums.append(total)
    best = max(sums)
    middle = (len(weights) - length) / 2
    return min((start for start in starts if sums[start] >= best - 1e-9), key=lambda start: abs(start - middle))
