"""Pictures that tests make, a studio that makes them small, and what is found in the results."""

from __future__ import annotations

import io
import itertools
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from assetserver.images.plan import Picture, Plan
from assetserver.images.studio import Studio


@dataclass(frozen=True)
class Made:
    """What a studio made, and the folder where it lies."""

    picture: Picture
    folder: Path

    def open(self, kind: str, width: int | None = None) -> Image.Image:
        """Return the decoded variant of a format, the only one if no width is named."""
        (found,) = [one for one in self.picture.variants if one.format == kind and width in (None, one.width)]
        image = Image.open(io.BytesIO((self.folder / found.file).read_bytes()))
        image.load()
        return image

    def list_sizes(self, kind: str) -> list[tuple[int, int]]:
        return [(one.width, one.height) for one in self.picture.variants if one.format == kind]


Make = Callable[..., Made]


@pytest.fixture(scope="session")
def studio() -> Iterator[Studio]:
    with Studio() as one:
        yield one


@pytest.fixture
def make(studio: Studio, tmp_path: Path) -> Iterator[Make]:
    """``make(source, plan=Plan())`` makes it in a folder of its own; whatever is refused must have left nothing behind."""
    numbers = itertools.count()

    def run(source: Path | bytes, plan: Plan | None = None, *, by: Studio = studio) -> Made:
        number = next(numbers)
        folder = tmp_path / f"made-{number}"
        folder.mkdir()
        if isinstance(source, bytes):
            (tmp_path / f"source-{number}").write_bytes(source)
            source = tmp_path / f"source-{number}"
        try:
            developed = by.make(str(source), plan or Plan(), str(folder))
        except Exception:
            assert list(folder.iterdir()) == [], "what failed left files behind"
            raise
        names = {variant.file for variant in developed.picture.variants}
        assert {path.name for path in folder.iterdir()} == names
        return Made(developed.picture, folder)

    return run


@pytest.fixture
def photo() -> Image.Image:
    """Something smooth with edges and a texture, 900 × 600, in colour."""  # noqa: RUF002 - as people write it
    size = (900, 600)
    red = Image.linear_gradient("L").resize(size)
    green = Image.radial_gradient("L").resize(size)
    blue = Image.effect_mandelbrot(size, (-2, -1.2, 1, 1.2), 60)
    return Image.merge("RGB", (red, green, blue))


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    """``make_png(width, height, *chunks)``: a black PNG of one bit, with chunks before its pixels; small at any size."""

    def run(width: int, height: int, *chunks: bytes) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        packer = zlib.compressobj(9)
        row = bytes(1 + (width + 7) // 8)
        pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
        parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    return run
