"""What to show before a picture is there: a colour, a tiny WebP in the page itself, a ThumbHash. Runs in a child."""

from __future__ import annotations

import base64
import io

from PIL import Image

from .encoding import flatten
from .geometry import Size, fit_inside
from .plan import Placeholder
from .scaling import scale
from .thumbhash import encode_thumbhash

_SIDE = 20
_HASH_SIDE = 32
_QUALITY = 30
_COLOURS = 5


def make_placeholder(image: Image.Image) -> Placeholder:
    """Return the placeholder of an image, RGB or RGBA."""
    size = Size(*image.size)
    tiny = scale(image, fit_inside(size, _SIDE, _SIDE))
    file = io.BytesIO()
    tiny.save(file, "WEBP", quality=_QUALITY, method=6)
    url = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    small = scale(image, fit_inside(size, _HASH_SIDE, _HASH_SIDE)).convert("RGBA")
    return Placeholder(find_colour(small), url, encode_thumbhash(*small.size, small.tobytes()).hex())


def find_colour(image: Image.Image) -> str:
    """Return the colour that most of an image has, as ``#rrggbb``; what is transparent shows white."""
    few = flatten(image, "").quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    counts = few.histogram()
    most = counts.index(max(counts))
    return "#" + bytes((few.getpalette() or [])[3 * most : 3 * most + 3]).hex()
