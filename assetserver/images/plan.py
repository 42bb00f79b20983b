"""What is to be made of a picture, and what was: the values that travel between a worker, its studio and the children.

A plan is one transform, at several widths and in several formats. What a child answers is read as a stranger's: within
these bounds, or not at all.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .transform import RECIPE, Transform

LADDER = (320, 640, 960, 1280, 1920)
"""Widths in pixels: a phone at one pixel per point, and a desktop's hero at two thirds of two."""

PlanFormat = Literal["base", "jpeg", "png", "webp", "avif"]
"""``base`` is what every client shows: JPEG, or PNG where there is transparency or a palette."""
OutputFormat = Literal["jpeg", "png", "webp", "avif"]

SUFFIXES: dict[str, str] = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}

_SECOND: frozenset[PlanFormat] = frozenset({"avif"})
"""What takes most of the time, and can come later."""

_Side = Annotated[int, Meta(ge=1, le=1 << 20)]
_Line = Annotated[str, Meta(max_length=300)]
_FileName = Annotated[str, Meta(pattern=r"^[0-9]{1,5}-[0-9]{1,5}\.(?:jpg|png|webp|avif)$")]
_DataUrl = Annotated[str, Meta(pattern=r"^(?:data:image/webp;base64,[A-Za-z0-9+/]+={0,2})?$", max_length=4096)]


class Qualities(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Quality of each format, 1 to 100, where a transform names none: equal in SSIMULACRA2, not in number."""

    jpeg: int = 80
    webp: int = 85
    avif: int = 68

    def only(self, kind: PlanFormat) -> Qualities:
        """Return the quality that counts for one format, and the defaults of the others: they are no part of its picture."""
        name = "jpeg" if kind == "base" else kind
        return Qualities() if name == "png" else Qualities(**{name: getattr(self, name)})


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Make ``transform`` at each of ``widths`` (none: its own) in each of ``formats``.

    With no widths and one format it is a single picture, as somebody asks for it. Widths beyond the picture's are left out, but
    its own takes their place; a height of the transform follows the width. ``has_placeholder``: a colour and a tiny picture,
    too. ``keeps_gamut``: a picture in a wider gamut than sRGB stays in it, with its profile.
    """

    transform: Transform = Transform()
    widths: tuple[int, ...] = LADDER
    formats: tuple[PlanFormat, ...] = ("base", "webp", "avif")
    qualities: Qualities = Qualities()
    has_placeholder: bool = True
    keeps_gamut: bool = False

    def digest(self, source: str) -> str:
        """Return the SHA-256, in hexadecimal, of this plan for a picture with the digest ``source``: equal jobs, equal ones."""
        what = msgspec.json.encode(self, order="deterministic")
        return hashlib.sha256(f"assetserver plan {RECIPE}\n{source}\n".encode() + what).hexdigest()


def split_plan(plan: Plan) -> tuple[Plan, Plan | None]:
    """Return what makes a picture ready, and what may come later (None: nothing), each decoded for itself.

    AVIF is two thirds of the time. Everything but AVIF and the placeholder come first.
    """
    first = tuple(one for one in plan.formats if one not in _SECOND)
    later = tuple(one for one in plan.formats if one in _SECOND)
    if not first or not later:
        return plan, None
    return (
        msgspec.structs.replace(plan, formats=first),
        msgspec.structs.replace(plan, formats=later, has_placeholder=False),
    )


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a child is given: the plan, and what was found of the picture before it was decoded."""

    plan: Plan
    format: str
    pixels: int
    frames: int
    limit_animation_pixels: int


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture that was made: the name of its file in the job's folder, its size in pixels and in bytes."""

    file: _FileName
    format: OutputFormat
    width: _Side
    height: _Side
    size: Annotated[int, Meta(ge=1)]
    frames: Annotated[int, Meta(ge=1)] = 1


class Placeholder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to show before the picture is there: a colour, a tiny WebP as data URL, a ThumbHash in hexadecimal."""

    colour: Annotated[str, Meta(pattern=r"^#[0-9a-f]{6}$")]
    url: _DataUrl
    thumbhash: Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{2}){5,25}$")]


class Picture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="made"):
    """What a child made: the picture's size as it is seen, and the variants. ``notes`` are for people."""

    width: _Side
    height: _Side
    format: Annotated[str, Meta(max_length=8)]
    frames: Annotated[int, Meta(ge=1)]
    has_alpha: bool
    variants: Annotated[tuple[Variant, ...], Meta(max_length=200)]
    placeholder: Placeholder | None = None
    notes: Annotated[tuple[_Line, ...], Meta(max_length=8)] = ()


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="refused"):
    """The picture will never do: the reason, for people."""

    reason: _Line


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="failed"):
    """The child came to an end that says nothing of the picture, such as too little memory."""

    reason: _Line


Answer = Picture | Refusal | Failure
