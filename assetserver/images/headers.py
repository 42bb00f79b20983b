"""What a picture is, read from its header by its content alone: format, size, frames, scans. Nothing is decoded.

Pure Python over bytes, bounded in steps, so that a server may do it. What it cannot read it calls damaged; what it reads
may still be a lie, which the child that decodes finds out within its limits.
Sources: ITU T.81 annex B (JPEG), PNG third edition,
GIF89a, RFC 9649 (WebP), ISO 14496-12 and 23008-12 (AVIF).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .source import Source

LIMIT_STEPS = 1_000_000
"""Blocks, chunks and markers that are looked at: half a second."""
LIMIT_SCANS = 1_000
"""Scans that are counted."""


class Facts(NamedTuple):
    """What a header says. Sizes in pixels, as stored: orientation is not applied. ``scans`` is 0 for what is no JPEG."""

    format: str
    width: int
    height: int
    frames: int = 1
    scans: int = 0
    is_progressive: bool = False

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height


class DamagedError(Exception):
    """The header contradicts itself or ends too early; the text says where."""


class UnknownFormatError(Exception):
    """The content is none of the formats that are read; the text says what it is, where that is known."""


_OTHERS = (
    (re.compile(rb"II\*\0|MM\0\*"), "a TIFF"),
    (re.compile(rb"BM"), "a Windows bitmap"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"%PDF-"), "a PDF"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL"),
    (re.compile(rb"\0\0\0\x0cjP  "), "a JPEG 2000"),
    (re.compile(rb"\x00\x00\x01\x00"), "an icon"),
    (re.compile(rb"....ftyp(?:heic|heix|hevc|heim|mif1)", re.DOTALL), "a HEIC"),
    (
        re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<!--.*?-->|<\?.*?\?>)*<(?:!DOCTYPE\s+)?svg\b", re.DOTALL | re.IGNORECASE),
        "an SVG",
    ),
)


def read_facts(descriptor: int) -> Facts:
    """Return what the header of an open file says; its offset is left alone.

    Raises ``UnknownFormatError`` and ``DamagedError``.
    """
    source = Source(descriptor)
    head = source.read(0, 4096)
    for magic, reader in _READERS:
        if magic.match(head):
            try:
                return reader(source)
            except EOFError as error:
                raise DamagedError("the file ends within its header") from error
    raise UnknownFormatError(next((name for magic, name in _OTHERS if magic.match(head)), "" if head else "empty"))


# --- JPEG --------------------------------------------------------------------------------------------------------------------

_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Any that is neither a stuffed byte, nor padding, nor a restart: those have no segment and may stand within scans."""
_SOS, _EOI, _SOI = 0xDA, 0xD9, 0xD8
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}


def _read_jpeg(source: Source) -> Facts:
    """Count the scans as well: each of a progressive file is another pass over all of the picture."""
    offset, scans, frame, is_progressive = 2, 0, (0, 0), False
    for _ in range(LIMIT_STEPS):
        offset = source.search(_MARKER, offset)
        if offset < 0 or scans >= LIMIT_SCANS:
            break
        marker = source.number(offset - 1, 1)
        if marker == _EOI:
            break
        if marker == _SOI:
            continue
        scans += marker == _SOS
        if marker in _FRAMES and not frame[0]:
            frame = source.number(offset + 5, 2), source.number(offset + 3, 2)
            is_progressive = marker in _PROGRESSIVE
        offset += source.number(offset, 2)
    else:
        raise DamagedError("it has too many segments to be a picture")
    if not frame[0] or not frame[1] or not scans:
        raise DamagedError("it has no frame header with a size" if not all(frame) else "it has no scan")
    return Facts("jpeg", *frame, scans=scans, is_progressive=is_progressive)


# --- PNG ---------------------------------------------------------------------------------------------------------------------


def _read_png(source: Source) -> Facts:
    """An animation says how many frames it has before the first of them, and whether the still picture is one of them."""
    if source.read(12, 4) != b"IHDR":
        raise DamagedError("it does not begin with an IHDR chunk")
    width, height, frames, stills = source.number(16, 4), source.number(20, 4), 0, 1
    offset = 8
    for _ in range(LIMIT_STEPS):
        length, kind = source.number(offset, 4), source.read(offset + 4, 4)
        if kind == b"acTL":
            frames = source.number(offset + 8, 4)
        elif kind == b"fcTL":
            stills = 0
        elif kind in (b"IDAT", b"IEND"):
            return Facts("png", width, height, frames + stills if frames else 1)
        offset += 12 + length
    raise DamagedError("it has too many chunks to be a picture")


# --- GIF ---------------------------------------------------------------------------------------------------------------------

_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = 0x2C, 0x21, 0x3B


def _read_gif(source: Source) -> Facts:
    """Count the images; one may be larger than the screen that the header tells, which is then enlarged."""
    width, height = _little(source, 6, 2), _little(source, 8, 2)
    offset = 13 + _table_bytes(source.number(10, 1))
    frames = steps = 0
    while steps < LIMIT_STEPS and offset < source.size:
        steps += 1
        kind = source.number(offset, 1)
        if kind == _GIF_IMAGE:
            frames += 1
            left, top, across, down = (_little(source, offset + one, 2) for one in (1, 3, 5, 7))
            width, height = max(width, left + across), max(height, top + down)
            offset += 10 + _table_bytes(source.number(offset + 9, 1)) + 1
        elif kind == _GIF_EXTENSION:
            offset += 2
        elif kind == _GIF_END:
            break
        else:
            offset += 1
            continue
        while steps < LIMIT_STEPS and offset < source.size and (length := source.number(offset, 1)):
            steps += 1
            offset += 1 + length
        offset += 1
    if steps >= LIMIT_STEPS:
        raise DamagedError("it has too many blocks to be a picture")
    if not frames:
        raise DamagedError("it has no image")
    return Facts("gif", width, height, frames)


def _table_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _little(source: Source, offset: int, length: int) -> int:
    return int.from_bytes(source.number(offset, length).to_bytes(length, "big"), "little")


# --- WebP --------------------------------------------------------------------------------------------------------------------


def _read_webp(source: Source) -> Facts:
    kind, size, frames = source.read(12, 4), (0, 0), 0
    if kind == b"VP8X":
        size = _little(source, 24, 3) + 1, _little(source, 27, 3) + 1
    elif kind == b"VP8L":
        bits = _little(source, 21, 4)
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        size = _little(source, 26, 2) & 0x3FFF, _little(source, 28, 2) & 0x3FFF
    if not all(size):
        raise DamagedError("it does not begin with a chunk that tells its size")
    offset, end = 12, min(source.size, 8 + _little(source, 4, 4))
    for _ in range(LIMIT_STEPS):
        if offset + 8 > end:
            return Facts("webp", *size, max(1, frames))
        frames += source.read(offset, 4) == b"ANMF"
        length = _little(source, offset + 4, 4)
        offset += 8 + length + length % 2
    raise DamagedError("it has too many chunks to be a picture")


# --- AVIF --------------------------------------------------------------------------------------------------------------------

_INSIDE = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}
"""Boxes that hold boxes, and how many bytes stand before those."""
_LIMIT_BOXES = 10_000


def _read_avif(source: Source) -> Facts:
    """The largest image of all (the picture, its transparency, tiles, tracks), and the samples of the longest track."""
    width = height = 0
    frames = 1
    for kind, offset in _walk_boxes(source):
        if kind == b"ispe":
            size = source.number(offset + 4, 4), source.number(offset + 8, 4)
        elif kind == b"av01":
            size = source.number(offset + 24, 2), source.number(offset + 26, 2)
        elif kind == b"stsz":
            frames = max(frames, source.number(offset + 8, 4))
            continue
        else:
            continue
        width, height = max(width, size[0]), max(height, size[1])
    if not width or not height:
        raise DamagedError("it does not tell its size")
    return Facts("avif", width, height, frames)


def _walk_boxes(source: Source) -> Iterator[tuple[bytes, int]]:
    """Yield each box's type and where its content begins, outer before inner."""
    spans = [(0, source.size)]
    steps = 0
    while spans:
        offset, end = spans.pop()
        while offset + 8 <= end:
            steps += 1
            if steps > _LIMIT_BOXES:
                raise DamagedError("it has too many boxes to be a picture")
            length, kind, head = source.number(offset, 4), source.read(offset + 4, 4), 8
            if length == 1:
                length, head = source.number(offset + 8, 8), 16
            stop = end if length == 0 else offset + length
            if not offset + head <= stop <= end:
                if end == source.size:  # what the file was cut in, or what was put behind it: the decoder will see
                    break
                raise DamagedError(f"its box {kind.decode('latin-1')!r} does not fit into what holds it")
            yield kind, offset + head
            if kind in _INSIDE:
                spans.append((offset + head + _INSIDE[kind], stop))
            elif kind == b"stsd":
                spans.append((offset + head + 8, stop))
            offset = stop


_READERS: tuple[tuple[re.Pattern[bytes], Callable[[Source], Facts]], ...] = (
    (re.compile(rb"\xff\xd8\xff"), _read_jpeg),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _read_png),
    (re.compile(rb"GIF8[79]a"), _read_gif),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), _read_webp),
    (re.compile(rb"....ftypavi[fs]|....ftyp(?:mif1|msf1).{4}(?:.{4}){0,8}avi[fs]", re.DOTALL), _read_avif),
)
