"""From pixels to files: one encoder for each format, with nothing in the file but the picture and what is asked for.

Runs in a child. Files are written through descriptors: Pillow encodes JPEG to those directly, in other threads as well.
Settings were chosen by bytes at equal SSIMULACRA2, and by time; see DESIGN.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .plan import SUFFIXES, OutputFormat, Qualities, Variant

_COLOURS = 256
_WEBP_METHOD = 4
_AVIF_SPEED = 8


@dataclass(frozen=True)
class Printer:
    """Writes pictures into ``folder`` (a descriptor), with ``exif`` and ``profile`` (none: empty)."""

    folder: int
    qualities: Qualities
    quality: int = 0
    background: str = ""
    is_palette: bool = False
    exif: bytes = b""
    profile: bytes = b""

    def save(self, image: Image.Image, kind: OutputFormat) -> Variant:
        """Write an image, RGB or RGBA, as ``kind``; return what was written. Raises ``OSError`` and whatever encoders raise."""
        options: dict[str, Any] = {}
        if kind == "jpeg":
            image = flatten(image, self.background)
            options = {"quality": self._quality(kind), "optimize": True, "progressive": True}
        elif kind == "png" and self.is_palette:
            image = reduce_colours(image)
        elif kind == "webp":
            options = {"quality": self._quality(kind), "method": _WEBP_METHOD}
        elif kind == "avif":
            options = {"quality": self._quality(kind), "speed": _AVIF_SPEED, "max_threads": 1}
        return self._write(image, kind, 1, options)

    def save_animation(self, images: list[Image.Image], durations_ms: list[int], loops: int) -> Variant:
        """Write images as an animated WebP; ``loops`` 0 is for ever."""
        timing = {"save_all": True, "append_images": images[1:], "duration": durations_ms, "loop": loops}
        options = {"quality": self._quality("webp"), "method": _WEBP_METHOD, **timing}
        return self._write(images[0], "webp", len(images), options)

    def _quality(self, kind: str) -> int:
        chosen: int = self.quality or getattr(self.qualities, kind)
        return chosen

    def _write(self, image: Image.Image, kind: OutputFormat, frames: int, options: dict[str, Any]) -> Variant:
        name = f"{image.width}-{image.height}.{SUFFIXES[kind]}"
        if self.exif:
            options["exif"] = self.exif
        if self.profile:
            options["icc_profile"] = self.profile
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.folder)
        with os.fdopen(descriptor, "wb") as file:
            image.save(file, kind.upper(), **options)
            file.flush()
            size = os.fstat(file.fileno()).st_size
        return Variant(name, kind, image.width, image.height, size, frames)


def flatten(image: Image.Image, background: str) -> Image.Image:
    """Return an image without transparency, on ``background`` (six hexadecimal digits; white)."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, f"#{background or 'ffffff'}")
    return Image.alpha_composite(ground, image).convert("RGB")


def reduce_colours(image: Image.Image) -> Image.Image:
    """Return an image with a palette, as its source had one: a third of the bytes."""
    if image.mode == "RGBA":
        return image.quantize(_COLOURS, Image.Quantize.FASTOCTREE)
    return image.quantize(_COLOURS, Image.Quantize.MEDIANCUT)
