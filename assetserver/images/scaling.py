"""Smaller pictures from larger ones: each from one that was made before it, in LANCZOS. Runs in a child."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image, ImageFilter

from .geometry import Box, Size, choose_window, frame, place
from .transform import Transform

_TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
"""Clockwise; Pillow's names are for the other way round."""
_REDUCING_GAP = 3.0
"""A first step of more than this averages whole pixels before LANCZOS: 97 of 100 in SSIMULACRA2, as without (measured)."""
_HEADROOM = 2
"""How much larger than a picture the one should be that it is made of, if there is such a one."""
_LOOK_SIDE = 128
"""Longest side of what is looked at to find out where a picture is interesting, in pixels."""


def scale(image: Image.Image, size: Size) -> Image.Image:
    """Return a new image in another size (or its own), without anything that was said of it; transparency does not bleed."""
    is_same = image.size == size
    smaller = image.copy() if is_same else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    smaller.info = {}
    return smaller


def restore(image: Image.Image, ratio: float) -> Image.Image:
    """Return ``image`` with the contrast of fine detail that a decoder took which halves, to ``ratio`` times this size.

    Of a wave, the mean of what a pixel covers is sinc(f / ratio), f in cycles per pixel here; 1 + 2k - 2k cos(2 pi f) with
    k = 1 / (24 ratio²) undoes that for all but the shortest: SSIMULACRA2 94.2 -> 95.9 at ratio 1.56.
    """
    share = 1 / (24 * ratio**2)
    line = (-share, 1 + 2 * share, -share)
    return image.filter(ImageFilter.Kernel((3, 3), [one * other for one in line for other in line], scale=1))


def cascade(image: Image.Image, sizes: Sequence[Size]) -> Iterator[Image.Image]:
    """Yield ``image`` in each of ``sizes``, which descend; each is made of the smallest before it that is twice its width."""
    made = [image]
    for size in sizes:
        base = next((one for one in reversed(made) if one.width >= _HEADROOM * size.width), made[0])
        made.append(scale(base, size))
        yield made[-1]


def cut_frame(image: Image.Image, whole: Size, transform: Transform) -> Image.Image:
    """Return what counts of a picture of size ``whole``, which was decoded in any size: its region, turned.

    The region is rounded to pixels of what was decoded: to half a pixel of what will be shown, or less.
    """
    if transform.region:
        left, top, right, bottom = frame(whole, transform)
        across, down = image.width / whole.width, image.height / whole.height
        start, stop = (round(left * across), round(top * down)), (round(right * across), round(bottom * down))
        start = min(start[0], image.width - 1), min(start[1], image.height - 1)
        image = image.crop((*start, max(stop[0], start[0] + 1), max(stop[1], start[1] + 1)))
    return image.transpose(_TURNS[transform.rotate]) if transform.rotate else image


def find_crop(image: Image.Image, shape: Size, focus: tuple[float, float] | None) -> Box:
    """Return where to cut ``shape`` out of ``image``: around ``focus`` (shares), or where there is most to see."""
    if focus is not None or shape == image.size:
        return place(Size(*image.size), shape, focus or (0.5, 0.5))
    across = shape.width < image.width
    weights = weigh(image, across=across)
    whole, part = (image.width, shape.width) if across else (image.height, shape.height)
    start = choose_window(weights, max(1, min(len(weights), round(len(weights) * part / whole))))
    offset = min(whole - part, round(start * whole / len(weights)))
    return (offset, 0, offset + part, shape.height) if across else (0, offset, shape.width, offset + part)


def weigh(image: Image.Image, *, across: bool) -> list[float]:
    """Return how much there is to see in each column (or row) of a picture: edges, and how strong its colours are.

    Edges are what entropy measures, too, and do not need a histogram for every window.
    """
    factor = max(1, max(image.size) / _LOOK_SIDE)
    size = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    small = image.resize(size, Image.Resampling.BOX, reducing_gap=1.0)
    if small.mode == "RGBA":
        ground = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(ground, small)
    colours = small.convert("RGB")
    edges = colours.convert("L").filter(ImageFilter.FIND_EDGES)
    inside = (1, 1, size[0] - 1, size[1] - 1)
    if min(size) > 2:  # noqa: PLR2004 - the filter leaves a frame of one pixel as it was
        framed = Image.new("L", size)
        framed.paste(edges.crop(inside), inside[:2])
        edges = framed
    strength = colours.convert("HSV").getchannel("S")
    lines = (size[0], 1) if across else (1, size[1])
    means = [one.resize(lines, Image.Resampling.BOX).tobytes() for one in (edges, strength)]
    return [edge + colour / 8 for edge, colour in zip(*means, strict=True)]
