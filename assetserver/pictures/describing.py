"""A picture as clients are told of it: JSON, ``srcset``, and HTML that can be pasted into a page. Pure.

Source: the HTML standard, §4.8.4 (``picture``, ``srcset``, ``sizes``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

from .naming import MEDIA_TYPES
from .records import Look, PictureRecord, StoredVariant

ORDER = ("avif", "webp", "jpeg", "png")
"""A browser takes the first format that it knows: the smallest come first, what every one knows last."""

DEFAULT_WIDTH = 640
"""Width of what ``src`` names, for who knows no ``srcset``: the next step that there is."""

Locate = Callable[[StoredVariant], str]
"""Returns the URL of a variant."""


class _Source(NamedTuple):
    format: str
    variants: list[StoredVariant]
    srcset: str


def describe_picture(picture: PictureRecord, locate: Locate) -> dict[str, Any]:
    """Return what ``image`` of an upload's JSON says. ``html`` is "" and ``srcset`` empty until it is ready."""
    sources = _list_sources(picture.variants, locate)
    look = picture.look
    return {
        "state": picture.state,
        "reason": picture.reason or None,
        "progress": round(picture.progress, 2),
        "width": look.width if look else None,
        "height": look.height if look else None,
        "placeholder": (look.placeholder or None) if look else None,
        "dominant_colour": (look.colour or None) if look else None,
        "thumbhash": (look.thumbhash or None) if look else None,
        "pending": list(picture.pending),
        "variants": [
            {"width": one.width, "height": one.height, "format": one.format, "url": locate(one), "size": one.size}
            for source in sources
            for one in source.variants
        ],
        "srcset": {source.format: source.srcset for source in sources},
        "html": _write_html(sources, look, locate) if sources and look else "",
    }


def _list_sources(variants: Sequence[StoredVariant], locate: Locate) -> list[_Source]:
    sources = []
    for name in ORDER:
        own = sorted((one for one in variants if one.format == name), key=lambda one: one.width)
        if own:
            sources.append(_Source(name, own, ", ".join(f"{locate(one)} {one.width}w" for one in own)))
    return sources


def _write_html(sources: list[_Source], look: Look, locate: Locate) -> str:
    """``sizes`` says that the picture is shown as wide as the window, and never wider than it is: then it is always sharp."""
    *better, last = sources
    largest = last.variants[-1]
    sizes = f"(max-width: {largest.width}px) 100vw, {largest.width}px"
    shown = next((one for one in last.variants if one.width >= DEFAULT_WIDTH), largest)
    style = "max-width:100%;height:auto"
    if look.colour and not look.has_alpha:
        style += f";background:{look.colour}"
    lines = ["<picture>"]
    for source in better:
        fields = {"type": MEDIA_TYPES[source.format], "srcset": source.srcset, "sizes": sizes}
        lines.append(f"  <source{_attributes(fields)}>")
    fields = {
        "src": locate(shown),
        "srcset": last.srcset,
        "sizes": sizes,
        "width": str(largest.width),
        "height": str(largest.height),
        "alt": "",
        "loading": "lazy",
        "decoding": "async",
        "style": style,
    }
    return "\n".join([*lines, f"  <img{_attributes(fields)}>", "</picture>"])


def _attributes(values: dict[str, str]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in values.items())
