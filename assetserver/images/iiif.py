"""The IIIF Image API 3.0, level 2, as another spelling of ``Transform``: requests read, and what is told of a picture.

    {identifier}/{region}/{size}/{rotation}/{quality}.{format}        {identifier}/info.json

Pure. Nothing is enlarged, so sizes with ``^`` are refused, as is a size beyond the region; the order is that of the
specification: region, size, rotation, quality, format. Source: https://iiif.io/api/image/3.0/.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, NamedTuple

from assetserver.errors import TransformError

from .geometry import Size, fit_inside, turn
from .transform import LIMIT_SIDE, Format, Tone, Transform

CONTEXT = "http://iiif.io/api/image/3/context.json"
QUALITY = 95
"""Of JPEG, WebP and AVIF: viewers enlarge what they get, and the validator allows a colour to be 6 of 255 off."""
TILE = 512
"""Side of a tile in pixels: a photograph of 24 megapixels has 96 of them, and each costs a job."""

_FORMATS: dict[str, Format] = {"jpg": "jpeg", "png": "png", "webp": "webp", "avif": "avif"}
_TONES: dict[str, Tone] = {"default": "", "color": "", "gray": "gray", "bitonal": "bitonal"}
_TURNS = {str(degrees): degrees for degrees in (0, 90, 180, 270)}
_NUMBER = r"([0-9]{1,9})"
_SHARE = r"([0-9]{1,3}(?:\.[0-9]{1,10})?)"
_PIXELS = re.compile(",".join([_NUMBER] * 4))
_SHARES = re.compile("pct:" + ",".join([_SHARE] * 4))
_BOX = re.compile(r"(!?)([0-9]{0,9}),([0-9]{0,9})")
_PERCENT = re.compile("pct:" + _SHARE)
_WHOLE = 100


class ImageRequest(NamedTuple):
    """The five parts after the identifier, as sent and decoded."""

    region: str
    size: str
    rotation: str
    quality: str
    format: str


def resolve_request(asked: ImageRequest, whole: Size) -> Transform:
    """Return what is asked for of a picture of size ``whole``, as it is seen.

    Raises ``TransformError`` for what is no request, or none of this picture; the message names the part and what would do.
    """
    left, top, region = _read_region(asked.region, whole)
    turned = turn(_read_size(asked.size, region), _choose(_TURNS, "rotation", asked.rotation))
    return Transform(
        width=turned.width,
        height=turned.height,
        fit="squeeze",
        region="" if region == whole else f"{left}x{top}x{region.width}x{region.height}",
        rotate=_TURNS[asked.rotation],
        tone=_choose(_TONES, "quality", asked.quality),
        quality=QUALITY,
        format=_choose(_FORMATS, "format", asked.format),
        anim=False,
    )


def describe_service(address: str, whole: Size) -> dict[str, Any]:
    """Return the ``info.json`` of a picture of size ``whole``, whose URL is ``address``."""
    largest = fit_inside(whole, LIMIT_SIDE, LIMIT_SIDE)
    factors = [1 << power for power in range(8) if power == 0 or max(whole) > TILE << power - 1]
    sizes = [Size(-(-whole.width // factor), -(-whole.height // factor)) for factor in reversed(factors)]
    return {
        "@context": CONTEXT,
        "id": address,
        "type": "ImageService3",
        "protocol": "http://iiif.io/api/image",
        "profile": "level2",
        "width": whole.width,
        "height": whole.height,
        "maxWidth": largest.width,
        "maxHeight": largest.height,
        "sizes": [one._asdict() for one in sizes if max(one) <= LIMIT_SIDE],
        "tiles": [{"width": TILE, "scaleFactors": factors}],
        "extraFormats": ["webp", "avif"],
        "extraQualities": ["color", "gray", "bitonal"],
    }


def _read_region(text: str, whole: Size) -> tuple[int, int, Size]:
    """Return left, top and size of a region, as far as it is inside."""
    if text == "full":
        return 0, 0, whole
    if text == "square":
        side = min(whole)
        return (whole.width - side) // 2, (whole.height - side) // 2, Size(side, side)
    if found := _PIXELS.fullmatch(text):
        left, top, width, height = map(int, found.groups())
    elif found := _SHARES.fullmatch(text):
        shares = [Fraction(share) / _WHOLE for share in found.groups()]
        left, top, width, height = (round(share * side) for share, side in zip(shares, (*whole, *whole), strict=True))
    else:
        raise TransformError(f"the region {text!r} is none; write full, square, x,y,w,h or pct:x,y,w,h")
    region = Size(min(width, whole.width - left), min(height, whole.height - top))
    if min(region) < 1:
        raise TransformError(f"the region {text} has nothing of this picture, which is {whole.width},{whole.height}")
    return left, top, region


def _read_size(text: str, region: Size) -> Size:
    """Return how large a region will be."""
    if text == "max":
        return fit_inside(region, LIMIT_SIDE, LIMIT_SIDE)
    if text.startswith("^"):
        raise TransformError(f"the size {text} enlarges, which is not offered")
    if found := _PERCENT.fullmatch(text):
        share = Fraction(found[1]) / _WHOLE
        width, height = (max(1, round(share * side)) if share else 0 for side in region)
    elif (found := _BOX.fullmatch(text)) and (found[2] or found[3]) and not (found[1] and not (found[2] and found[3])):
        width, height = _fill_box(found[2], found[3], region, is_confined=bool(found[1]))
    else:
        raise TransformError(f"the size {text!r} is none; write max, w, or ,h or pct:n or w,h or !w,h")
    if not (1 <= width <= min(region.width, LIMIT_SIDE) and 1 <= height <= min(region.height, LIMIT_SIDE)):
        largest = fit_inside(region, LIMIT_SIDE, LIMIT_SIDE)
        raise TransformError(f"the size {text} is not from 1,1 to {largest.width},{largest.height}: nothing is enlarged")
    return Size(width, height)


def _fill_box(across: str, down: str, region: Size, *, is_confined: bool) -> Size:
    """Return the size that ``across`` and ``down`` (one may be empty) mean; one that is too large where they enlarge."""
    asked = Size(int(across or region.width), int(down or region.height))
    if across and down and not is_confined:
        return asked
    is_larger = (asked.width > region.width, asked.height > region.height)
    if 0 in asked or (all(is_larger) if is_confined else any(is_larger)):
        return asked
    return fit_inside(region, *asked)


def _choose(known: dict[str, Any], name: str, text: str) -> Any:
    if text not in known:
        raise TransformError(f"the {name} {text!r} is not offered; write one of {', '.join(known)}")
    return known[text]
