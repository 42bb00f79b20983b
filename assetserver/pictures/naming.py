"""Names of variants: ``photo.0123456789ab-640w.avif``, of what it is made of, what it is, and how wide. Pure.

The twelve digits are the first of the SHA-256 of the variant's own bytes: the name proves them, and they may be kept for ever.
"""

from __future__ import annotations

import re

from .records import StoredVariant

DIGITS = 12
LIMIT_BYTES = 255
"""Of a name: as an upload's own."""

SUFFIXES = {"jpeg": "jpg", "png": "png", "webp": "webp", "avif": "avif"}
MEDIA_TYPES = {name: f"image/{name}" for name in SUFFIXES}

_LIKE_VARIANT = re.compile(r".*\.[0-9a-f]{12}-[1-9][0-9]{0,4}w\.(?:jpg|png|webp|avif)", re.DOTALL)


def format_variant_name(upload_name: str, variant: StoredVariant) -> str:
    """Return the name of a variant of what is called ``upload_name``, whose end is left out, and what makes it too long."""
    end = f".{variant.sha256[:DIGITS]}-{variant.width}w.{SUFFIXES[variant.format]}"
    stem = upload_name.rpartition(".")[0] or upload_name
    return stem.encode()[: LIMIT_BYTES - len(end)].decode(errors="ignore") + end


def may_name_variant(name: str) -> bool:
    """Tell whether a name may be a variant's: only then need it be looked for."""
    return _LIKE_VARIANT.fullmatch(name) is not None


def find_variant(upload_name: str, variants: tuple[StoredVariant, ...], name: str) -> StoredVariant | None:
    """Return which of the ``variants`` of what is called ``upload_name`` has this name."""
    return next((one for one in variants if format_variant_name(upload_name, one) == name), None)
