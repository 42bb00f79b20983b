"""Pictures in the description of the API: what ``image`` of an upload is, and the stream of its news."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_PIXELS: Json = {"type": "integer", "minimum": 1}
_FORMATS: Json = {"enum": ["avif", "webp", "jpeg", "png"]}

_VARIANT: Json = {
    "type": "object",
    "required": ["width", "height", "format", "url", "size"],
    "properties": {
        "width": _PIXELS,
        "height": _PIXELS,
        "format": _FORMATS,
        "url": {"type": "string", "description": "Never other bytes; may be kept for a year."},
        "size": {"type": "integer", "minimum": 1, "description": "Length in bytes."},
    },
}

IMAGE: Json = {
    "type": ["object", "null"],
    "description": "What is made of a picture; null for what is none.",
    "required": [
        *("state", "reason", "progress", "width", "height", "placeholder", "dominant_colour", "thumbhash"),
        *("pending", "variants", "srcset", "html"),
    ],
    "properties": {
        "state": {"enum": ["queued", "processing", "ready", "failed"]},
        "reason": {"type": ["string", "null"], "description": "Why it failed, for people."},
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "width": {"type": ["integer", "null"], "minimum": 1, "description": "Of the picture, upright; null until it is ready."},
        "height": {"type": ["integer", "null"], "minimum": 1},
        "placeholder": {"type": ["string", "null"], "description": "A tiny WebP as data URL."},
        "dominant_colour": {"type": ["string", "null"], "pattern": "^#[0-9a-f]{6}$"},
        "thumbhash": {"type": ["string", "null"], "pattern": "^[0-9a-f]+$", "description": "In hexadecimal."},
        "pending": {"type": "array", "items": _FORMATS, "description": "Formats that are still to come."},
        "variants": {"type": "array", "items": _VARIANT},
        "srcset": {"type": "object", "additionalProperties": _TEXT, "description": "By format, the smallest files first."},
        "html": {"type": "string", "description": 'A <picture> for a page; "" until it is ready.'},
    },
}
