"""From bytes to pixels: opened as one format alone, decoded no larger than is needed, turned the right way up, in RGB.

Runs in a child. Pillow is imported here and in what imports this. Whatever a decoder raises means that the picture is damaged;
only too little memory means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import (
    AvifImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from assetserver.errors import PictureRefusedError

from .geometry import Size

Image.MAX_IMAGE_PIXELS = None  # counted before, and again below, by limits of our own
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a child is one core's work, and each thread would take 8 MiB of its address space
Image.preinit()

_PLUGINS = (GifImagePlugin, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
"""Loaded before children are forked: they may open no file."""

_ORIENTATION, _ARTIST, _COPYRIGHT = 0x0112, 0x013B, 0x8298
_TURNED = frozenset({5, 6, 7, 8})
_LIMIT_CREDIT = 200
_LIMIT_REASON = 200


class Opened:
    """A picture whose header was read. ``size`` is as it is seen: turned the right way up.

    A PNG is decoded at once: its EXIF data may come last, and it has no smaller sizes.
    """

    def __init__(self, image: ImageFile.ImageFile, frames: int) -> None:
        self.image = image
        self.frames = frames
        self.notes: list[str] = []
        self.first_moving = int(getattr(image, "default_image", False))
        """A PNG may have a still picture that is not part of its animation."""
        self.is_palette = image.mode == "P"
        self.profile: bytes = image.info.get("icc_profile") or b""
        if image.format == "PNG":
            image.load()
        self.is_reduced = False
        self._exif = self._read_exif()
        turn = self._exif.get(_ORIENTATION, 1)
        self._turn = turn if turn in _TRANSPOSITIONS else 1
        self.size = Size(*(image.size[::-1] if self._turn in _TURNED else image.size))

    def load(self, needed: Size) -> Image.Image:
        """Decode to ``needed`` or larger, as small as the decoder can; return it as it is seen, in L, RGB, RGBA or CMYK."""
        with decoding():
            stored = self.image.size
            self.image.draft("", needed[::-1] if self._turn in _TURNED else needed)
            self.is_reduced = self.image.size != stored
            self.image.load()
            return self.turn(simplify(self.image))

    def turn(self, image: Image.Image) -> Image.Image:
        """Return a frame turned the right way up."""
        return image.transpose(_TRANSPOSITIONS[self._turn]) if self._turn != 1 else image

    def credit(self) -> bytes:
        """Return EXIF with the names of artist and copyright holder, and nothing else; empty if there are none."""
        kept = Image.Exif()
        for tag in (_ARTIST, _COPYRIGHT):
            text = self._exif.get(tag)
            if isinstance(text, str) and (clean := "".join(filter(str.isprintable, text)).strip()):
                kept[tag] = clean[:_LIMIT_CREDIT]
        return kept.tobytes() if kept else b""

    def _read_exif(self) -> Image.Exif:
        try:
            return self.image.getexif()
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - whatever a parser stumbles over: the picture does not need it
            self.notes.append("its EXIF data are broken; it may be shown turned")
            return Image.Exif()


_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(file: BinaryIO, kind: str, pixels: int, frames: int) -> Opened:
    """Read a header with the decoder of one format; check that it sees no more than was let in.

    Raises ``PictureRefusedError``.
    """
    with decoding():
        try:
            image = Image.open(file, formats=[kind.upper()])
        except UnidentifiedImageError as error:
            raise PictureRefusedError(f"the picture is damaged: its content cannot be read as {kind.upper()}") from error
        # Of a JPEG, other pictures in the file are previews, or for the other eye.
        found = 1 if kind == "jpeg" else getattr(image, "n_frames", 1)
        if image.width * image.height > pixels:
            raise PictureRefusedError("the picture is damaged: it is larger than its header says")
        if found > frames:
            raise PictureRefusedError("the picture is damaged: it has more frames than its header says")
        return Opened(image, found)


@contextmanager
def decoding() -> Iterator[None]:
    """Turn whatever a decoder raises into ``PictureRefusedError``, but for too little memory."""
    try:
        yield
    except (MemoryError, PictureRefusedError):
        raise
    except Exception as error:
        raise PictureRefusedError(f"the picture is damaged: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Return what an exception says, as one short line."""
    text = " ".join("".join(filter(str.isprintable, str(error))).split())
    return text[:_LIMIT_REASON] or type(error).__name__


def simplify(image: Image.Image) -> Image.Image:
    """Return a loaded image in L, RGB, RGBA or CMYK; resized in any other mode, neighbours would be picked, not mixed."""
    if image.mode.startswith("I"):  # 16 bits, whatever they are kept in
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if image.mode in ("CMYK", "L", "RGB", "RGBA") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")
