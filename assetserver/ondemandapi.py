"""The description of pictures on demand for programs (OpenAPI 3.1): the paths, to be put into a document.

Tests send what it allows, and what it forbids, to a running server: what stands here is kept.
"""

from __future__ import annotations

from typing import Any

from .images.transform import LIMIT_TEXT
from .ondemandurls import MOUNT
from .problems import SCHEMA

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_KINDS = ("image/avif", "image/webp", "image/jpeg", "image/png", "image/gif")
_PICTURE: Json = {"content": {kind: {} for kind in _KINDS}}
_ANSWERS: dict[str, str] = {
    "400": "The options are not offered, or not without a signature; the detail names the option and what would do.",
    "403": "The signature is missing, not of this URL, or over.",
    "404": "There is no upload and no published file at the path.",
    "422": "What is there is no picture, or none that is made smaller; the detail says why.",
    "503": "Too many pictures are being made, or this one may not be stood in for; Retry-After says when to ask again.",
}
_OPTIONS = (
    "A preset, or options as Cloudflare has them, such as width=640,format=webp: width, height, fit, gravity, quality, format, "
    "dpr, background, blur, rotate, metadata, anim, onerror; region and tone are ours. Without a signature width is free, and "
    "format, metadata and anim."
)


def describe_pictures() -> Json:
    """Return the paths of pictures on demand."""
    options = {"type": "string", "minLength": 1, "maxLength": LIMIT_TEXT, "pattern": "^[A-Za-z0-9_=,.-]+$"}
    path = {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}
    where = "Path of an upload (media/ID/NAME) or of a published file; it may have slashes."
    return {
        f"{MOUNT}/{{options}}/{{path}}": {
            "parameters": [
                {"name": "options", "in": "path", "required": True, "schema": options, "description": _OPTIONS},
                {"name": "path", "in": "path", "required": True, "schema": path, "description": where},
                *({"name": name, "in": "query", "schema": _TEXT} for name in ("expires", "key", "signature")),
            ],
            "get": {
                "summary": "Get a picture smaller. Unless a format is named, Accept decides: AVIF, WebP, or JPEG and PNG.",
                "security": [],
                "responses": {
                    "200": {"description": "The picture; with max-age=5, one that stands in until it is made.", **_PICTURE},
                    "206": {"description": "A range of it.", **_PICTURE},
                    "302": {"description": "To the original, with onerror=redirect, or where that stands in."},
                    "304": {"description": "It is the one that If-None-Match names."},
                    "308": {"description": "To the one spelling of these options, with a width that is offered."},
                    **{status: _describe_problem(text) for status, text in _ANSWERS.items()},
                },
            },
        }
    }


def _describe_problem(text: str) -> Json:
    return {"description": text, "content": {"application/problem+json": {"schema": SCHEMA}}}
