"""``multipart/form-data`` as a stream of parts: nothing is spooled, nothing is held but a chunk and short fields.

``FormReader`` turns bytes into events and does no I/O; ``FormParts`` pulls chunks and hands out one part after the other.
python-multipart finds the boundaries; what its callbacks are told is counted and checked here.
Source: RFC 7578 §4, §5; RFC 2046 §5.1.1; the HTML standard's "multipart/form-data encoding algorithm" (``%22`` in names).

Laws:
- A form is all or an error: a body that ends before the closing delimiter was cut (``FormError``).
- Bytes before the first delimiter and after the last are no part of the form, and few: ``LIMIT_OUTSIDE_BYTES``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from assetserver.errors import BadRequestError, TooLargeError, UnsupportedTypeError
from assetserver.semantics.parameters import parse_media_type, parse_parameterised

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # what strangers send is no line on stderr

LIMIT_BOUNDARY = 70
"""RFC 2046 §5.1.1: no more than 70 characters."""

LIMIT_FIELDS = 1000
LIMIT_FIELD_BYTES = 64 << 10
LIMIT_FIELDS_BYTES = 1 << 20
"""Most fields of a form that are no files; longest value; all of them together."""

LIMIT_NAME_BYTES = 1024
LIMIT_OUTSIDE_BYTES = 64 << 10


class FormError(BadRequestError):
    """A body is not the form that it says it is, or was cut."""


class PartHeader(NamedTuple):
    """What a part says of itself. ``filename`` is None for a field, and "" where a form had no file to send."""

    name: str
    filename: str | None
    media_type: str
    digest: str


class PartEnd:
    """The end of a part."""


PART_END = PartEnd()

Event = PartHeader | bytes | PartEnd


def read_boundary(content_type: str) -> bytes:
    """Return the boundary that ``Content-Type`` names.

    Raises ``UnsupportedTypeError`` for what is no form, and ``FormError`` for one without a proper boundary.
    """
    found = parse_media_type(content_type)
    if found is None or found.value != "multipart/form-data":
        raise UnsupportedTypeError(f"{content_type[:100]!r} is not multipart/form-data")
    boundary = found.parameters.get("boundary", "")
    if not 0 < len(boundary) <= LIMIT_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise FormError(f"the boundary of the form must have 1 to {LIMIT_BOUNDARY} printable characters")
    return boundary.encode("ascii")


class FormReader:
    """Bytes in, events out: for each part its header, its content in pieces, its end."""

    def __init__(self, boundary: bytes) -> None:
        self.is_ended = False
        self._events: list[Event] = []
        self._header: dict[str, str] = {}
        self._field = self._value = b""
        self._outside = 0
        self._is_begun = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_header_field": self._take_field,
                "on_header_value": self._take_value,
                "on_header_end": self._end_field,
                "on_headers_finished": self._end_header,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[Event]:
        """Return what ``data`` brings. Raises ``FormError`` for what is no form."""
        self._events = []
        if self.is_ended or not self._is_begun:
            self._outside += len(data)
        if not self.is_ended:
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise FormError(f"the form cannot be read: {error}") from error
        if self._outside > LIMIT_OUTSIDE_BYTES and (self.is_ended or not self._is_begun):
            raise FormError(f"more than {LIMIT_OUTSIDE_BYTES} bytes are outside of the form's parts")
        return self._events

    def close(self) -> None:
        """Tell that no more bytes come. Raises ``FormError`` if the closing delimiter did not."""
        if not self.is_ended:
            raise FormError("the body ends before the form does")

    # What the parser calls

    def _begin_part(self) -> None:
        self._is_begun = True
        self._header = {}

    def _take_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_field(self) -> None:
        name = self._field.decode("latin-1").lower()
        if name in self._header:
            raise FormError(f"a part has more than one {name}")
        try:
            self._header[name] = self._value.decode()
        except UnicodeDecodeError as error:
            raise FormError(f"the {name} of a part is not UTF-8") from error
        self._field = self._value = b""

    def _end_header(self) -> None:
        self._events.append(_read_header(self._header))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self._events.append(data if end - start == len(data) else data[start:end])

    def _end_part(self) -> None:
        self._events.append(PART_END)

    def _end(self) -> None:
        self.is_ended = True
        self._outside = 0


class FormParts:
    """The parts of a form, one after the other, from chunks as they come."""

    def __init__(self, boundary: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._reader = FormReader(boundary)
        self._chunks = chunks
        self._events: deque[Event] = deque()
        self._is_inside = False

    async def next_part(self) -> PartHeader | None:
        """Return the header of the next part, passing over what was not read of the one before; None after the last.

        Raises ``FormError``, and whatever the chunks raise.
        """
        async for _ in self.content():
            pass
        event = await self._next()
        if isinstance(event, PartHeader):
            self._is_inside = True
            return event
        return None

    async def content(self) -> AsyncIterator[bytes]:
        """Yield the content of the current part."""
        while self._is_inside:
            event = await self._next()
            if isinstance(event, bytes):
                yield event
            else:
                self._is_inside = False

    async def read_value(self, limit_bytes: int = LIMIT_FIELD_BYTES) -> str:
        """Return the content of the current part as text.

        Raises ``TooLargeError`` beyond ``limit_bytes``, ``FormError`` if it is not UTF-8.
        """
        value = b""
        async for piece in self.content():
            value += piece
            if len(value) > limit_bytes:
                raise TooLargeError(f"a field of the form has more than {limit_bytes} bytes")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise FormError("a field of the form is not UTF-8") from error

    async def _next(self) -> Event | None:
        while not self._events:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._reader.close()
                return None
            self._events.extend(self._reader.feed(chunk))
        return self._events.popleft()


def _read_header(fields: dict[str, str]) -> PartHeader:
    """Return what the fields of a part say. Raises ``FormError`` for a part without a name: it is none of a form."""
    found = parse_parameterised(fields.get("content-disposition", ""))
    if found is None or found.value != "form-data" or "name" not in found.parameters:
        raise FormError("a part of the form has no Content-Disposition: form-data with a name")
    name, filename = _unescape(found.parameters["name"]), found.parameters.get("filename")
    if len(name.encode()) > LIMIT_NAME_BYTES:
        raise FormError(f"the name of a field has more than {LIMIT_NAME_BYTES} bytes")
    if fields.get("content-transfer-encoding", "binary").lower() not in ("7bit", "8bit", "binary"):
        raise FormError("a part has a Content-Transfer-Encoding, which forms do not have any more (RFC 7578 §4.7)")
    return PartHeader(
        name,
        None if filename is None else _unescape(filename),
        fields.get("content-type", ""),
        fields.get("repr-digest", ""),
    )


def _unescape(text: str) -> str:
    """Return a name as it was: browsers and curl write ``"`` as ``%22``. Nothing else: a line break is no part of a name."""
    return text.replace("%22", '"')
