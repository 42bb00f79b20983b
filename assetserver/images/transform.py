"""``Transform``: one operation on a picture, in Cloudflare's words, with one spelling for each meaning.

Decides what may be asked for and how it is written; what it means in pixels is decided in ``geometry``. Pure. Two
differences from Cloudflare's: nothing is ever enlarged, so ``contain`` is ``scale-down`` and ``crop`` is ``cover``, and ``dpr``
only multiplies the size. ``region`` and ``tone`` are ours, for IIIF.
Source: https://developers.cloudflare.com/images/transform-images/transform-via-url/.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args
from urllib.parse import unquote

import msgspec

from assetserver.errors import TransformError

RECIPE = 2
"""Part of every digest: raised when the same transform begins to give other bytes."""

LIMIT_SIDE = 4096
"""Widest and highest picture that is made, in pixels."""
LIMIT_DPR = 4.0
LIMIT_BLUR = 250
LIMIT_QUALITY = 100
LIMIT_TEXT = 512
"""Longest text of options that is read, in characters."""

Fit = Literal["scale-down", "cover", "pad", "squeeze"]
Format = Literal["auto", "avif", "webp", "jpeg", "png"]
Metadata = Literal["none", "copyright"]
Tone = Literal["", "gray", "bitonal"]

SIDES = {"center": (0.5, 0.5), "left": (0.0, 0.5), "right": (1.0, 0.5), "top": (0.5, 0.0), "bottom": (0.5, 1.0)}
"""Gravity by name: the focal point, as shares of width and height."""

_SAME_FIT = {"contain": "scale-down", "crop": "cover"}
_SHORT = {"w": "width", "h": "height", "q": "quality", "f": "format", "g": "gravity"}
_REGION = re.compile(r"(?:0|[1-9][0-9]{0,8})x(?:0|[1-9][0-9]{0,8})x[1-9][0-9]{0,8}x[1-9][0-9]{0,8}")
_TURNS = (0, 90, 180, 270)
_POINT = re.compile(r"(0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?)x(0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?)")
_HEX = re.compile(r"#?([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")
_RGB = re.compile(r"rgb\(\s*([0-9]{1,3})[\s,]+([0-9]{1,3})[\s,]+([0-9]{1,3})\s*\)")
_COLOUR = re.compile(r"(?:[0-9a-f]{6})?")
_BYTE = 255


class Transform(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is to be done with a picture. Equal meanings are equal values; ``parse_transform`` makes them so.

    ``width`` and ``height`` in pixels are the box, 0 where it is open. ``gravity`` is ``auto``, a name of ``SIDES`` or a focal
    point as shares (``0.33x0.5``), and counts for ``cover`` alone. ``quality`` 0 is the format's own. ``background`` is six
    hexadecimal digits, or empty. ``blur`` is a radius in pixels of the result. ``region`` is what is left of the picture before
    anything else: left, top, width and height in its pixels (``10x20x300x400``), as far as it has them. Then it is turned by
    ``rotate`` degrees clockwise. ``tone`` takes its colours. ``onerror`` is for who answers, and no part of the picture. Raises
    ``ValueError`` for anything else.
    """

    width: int = 0
    height: int = 0
    fit: Fit = "scale-down"
    gravity: str = "center"
    quality: int = 0
    format: Format = "auto"
    background: str = ""
    blur: int = 0
    region: str = ""
    rotate: int = 0
    tone: Tone = ""
    metadata: Metadata = "none"
    anim: bool = True
    onerror: Literal["", "redirect"] = ""

    def __post_init__(self) -> None:
        for name, limit in (("width", LIMIT_SIDE), ("height", LIMIT_SIDE), ("quality", LIMIT_QUALITY), ("blur", LIMIT_BLUR)):
            if not 0 <= (value := getattr(self, name)) <= limit:
                raise ValueError(f"{name} {value} is not from 0 to {limit}")
        for name, choices in (("fit", Fit), ("format", Format), ("metadata", Metadata), ("tone", Tone)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise ValueError(f"{name} {value!r} is none of {', '.join(get_args(choices))}")
        if self.gravity not in SIDES and self.gravity != "auto" and not _POINT.fullmatch(self.gravity):
            raise ValueError(f"gravity {self.gravity!r} is neither a side nor a point")
        if not _COLOUR.fullmatch(self.background):
            raise ValueError(f"background {self.background!r} is not six hexadecimal digits")
        if self.region and not _REGION.fullmatch(self.region):
            raise ValueError(f"region {self.region!r} is not LEFTxTOPxWIDTHxHEIGHT")
        if self.rotate not in _TURNS:
            raise ValueError(f"rotate {self.rotate} is not a quarter turn")

    @property
    def focus(self) -> tuple[float, float] | None:
        """The focal point as shares of width and height; None where the picture itself decides."""
        if self.gravity == "auto":
            return None
        if self.gravity in SIDES:
            return SIDES[self.gravity]
        across, _, down = self.gravity.partition("x")
        return float(across), float(down)

    @property
    def corners(self) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of the region, half-open; None for the whole picture."""
        if not self.region:
            return None
        left, top, width, height = map(int, self.region.split("x"))
        return left, top, left + width, top + height

    @property
    def canonical(self) -> str:
        """The one text that means this, such as ``width=640,fit=cover,gravity=auto``; ``""`` for the picture as it is."""
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        defaults = dict(zip(self.__struct_fields__, self.__struct_defaults__, strict=True))
        return ",".join(f"{name}={_format_value(value)}" for name, value in values if value != defaults[name])

    def digest(self, source: str) -> str:
        """Return the SHA-256, in hexadecimal, that names what this makes of ``source``, the digest of a picture.

        Another recipe gives another one, so what a URL with it showed never changes.
        """
        what = msgspec.structs.replace(self, onerror="").canonical
        return hashlib.sha256(f"assetserver image {RECIPE}\n{source}\n{what}".encode()).hexdigest()


def _format_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_transform(text: str) -> Transform:
    """Return the operation that ``width=640,fit=cover`` asks for, in any order, with what has no effect left out.

    Percent-encoding is undone in each value. Raises ``TransformError``, which names the option, the value and what would do.
    """
    if len(text) > LIMIT_TEXT:
        raise TransformError(f"the options have {len(text)} characters; {LIMIT_TEXT} are the limit")
    given: dict[str, Any] = {}
    for option in text.split(",") if text else ():
        name, equals, value = option.partition("=")
        name = _SHORT.get(name, name)
        if name not in _READERS:
            raise TransformError(f"there is no option {name!r}{_suggest(name)}; there are {', '.join(_READERS)}")
        if not equals or not value:
            raise TransformError(f"{name} has no value; write {name}=VALUE")
        if name in given:
            raise TransformError(f"{name} is given twice")
        given[name] = _READERS[name](name, unquote(value))
    return _canonicalise(given)


def _suggest(name: str) -> str:
    near = difflib.get_close_matches(name, _READERS, 1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _canonicalise(given: dict[str, Any]) -> Transform:
    """Leave out what changes nothing, and write alike what means the same."""
    density = given.pop("dpr", 1.0)
    for side in ("width", "height"):
        if side in given and density != 1:
            given[side] = max(1, min(LIMIT_SIDE, round(given[side] * density)))
    has_box = bool(given.get("width") and given.get("height"))
    if given.get("fit") in ("cover", "pad", "squeeze") and not has_box:
        raise TransformError(f"fit={given['fit']} needs a width and a height")
    if given.get("fit") != "cover":
        given.pop("gravity", None)
    return Transform(**{name: value for name, value in given.items() if value is not None})


def _read_side(name: str, value: str) -> int | None:
    if value == "auto":
        return None
    return _read_number(LIMIT_SIDE)(name, value)


def _read_number(limit: int) -> Callable[[str, str], int]:
    def read(name: str, value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,5}", value) or not 1 <= int(value) <= limit:
            raise TransformError(f"{name}={value} is not a whole number from 1 to {limit}")
        return int(value)

    return read


def _read_density(name: str, value: str) -> float:
    if not re.fullmatch(r"[0-9](?:\.[0-9]{1,2})?", value) or not 1 <= float(value) <= LIMIT_DPR:
        raise TransformError(f"{name}={value} is not a number from 1 to {LIMIT_DPR:g}, such as 1.5")
    return float(value)


def _read_choice(choices: Mapping[str, Any], why: Mapping[str, str] | None = None) -> Callable[[str, str], Any]:
    def read(name: str, value: str) -> Any:
        if value not in choices:
            reason = f" ({(why or {})[value]})" if value in (why or {}) else ""
            raise TransformError(f"{name}={value} is not offered{reason}; write one of {', '.join(choices)}")
        return choices[value]

    return read


def _read_gravity(name: str, value: str) -> str:
    if value == "auto" or value in SIDES:
        return value
    if not (point := _POINT.fullmatch(value)):
        known = ", ".join(("auto", *SIDES))
        raise TransformError(f"{name}={value} is not offered; write one of {known}, or shares such as 0.33x0.5")
    # Hundredths: a finer point moves a crop by less than anybody sees, and would be one more picture to keep.
    across, down = (round(float(share), 2) for share in point.groups())
    named = {where: side for side, where in SIDES.items()}
    return named.get((across, down), f"{across:g}x{down:g}")


def _read_region(name: str, value: str) -> str:
    if not _REGION.fullmatch(value):
        raise TransformError(f"{name}={value} is not LEFTxTOPxWIDTHxHEIGHT in pixels of the original, such as 0x0x300x200")
    return value


def _read_colour(name: str, value: str) -> str:
    if found := _HEX.fullmatch(value):
        digits = found[1].lower()
        return digits if len(digits) == 6 else "".join(2 * digit for digit in digits)  # noqa: PLR2004 - two for each
    parts = [int(part) for part in found.groups()] if (found := _RGB.fullmatch(value)) else []
    if not parts or max(parts) > _BYTE:
        raise TransformError(f"{name}={value} is not a colour such as ffcc00, fc0 or rgb(255 204 0)")
    return "".join(f"{part:02x}" for part in parts)


def _choices(*names: str) -> dict[str, str]:
    return dict(zip(names, names, strict=True))


_READERS: dict[str, Callable[[str, str], Any]] = {
    "width": _read_side,
    "height": _read_side,
    "fit": _read_choice({**_choices(*get_args(Fit)), **_SAME_FIT}),
    "gravity": _read_gravity,
    "quality": _read_number(LIMIT_QUALITY),
    "format": _read_choice(_choices(*get_args(Format))),
    "dpr": _read_density,
    "background": _read_colour,
    "blur": _read_number(LIMIT_BLUR),
    "region": _read_region,
    "rotate": _read_choice({str(turn): turn for turn in _TURNS[1:]}),
    "tone": _read_choice(_choices("gray", "bitonal")),
    "metadata": _read_choice(_choices(*get_args(Metadata)), {"keep": "it would show where a picture was taken"}),
    "anim": _read_choice({"true": True, "false": False}),
    "onerror": _read_choice(_choices("redirect")),
}


def snap_width(transform: Transform, ladder: tuple[int, ...]) -> Transform:
    """Return ``transform`` with its width on the ladder: the next step up, or the top. The height keeps the proportions."""
    if not transform.width or transform.width in ladder:
        return transform
    step = min((step for step in ladder if step >= transform.width), default=max(ladder))
    height = max(1, round(transform.height * step / transform.width)) if transform.height else 0
    return msgspec.structs.replace(transform, width=step, height=min(LIMIT_SIDE, height))


def check_ladder(transform: Transform, ladder: tuple[int, ...]) -> None:
    """Raise ``TransformError`` for what nobody may ask for unsigned: it would let anyone have any number of pictures made.

    Free of it are a width on the ladder and what has a handful of values.
    """
    if transform.width not in ladder:
        allowed = ", ".join(map(str, ladder))
        what = f"width={transform.width} is" if transform.width else "a picture without width is"
        raise TransformError(f"{what} not allowed without a signature; allowed are {allowed}")
    free = {"height": 0, "quality": 0, "background": "", "blur": 0, "region": "", "rotate": 0, "tone": ""}
    for name, value in free.items():
        if getattr(transform, name) != value:
            raise TransformError(f"{name} is not allowed without a signature")
