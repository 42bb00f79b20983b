"""Another range of a file of which a range was sent: the same answer, but for what says which bytes.

The slow path's 206 says all that is the same for every single range of a representation; which bytes a ``Range`` means is
decided by the same function as there. Several ranges, or none, are left to it, and so is any ``If-Range`` but the very entity
tag. Source: RFC 9110 §13.1.5, §14.2, §14.4, §15.3.7.
"""

from __future__ import annotations

import re

from assetserver.metrics.requests import Tally
from assetserver.semantics.ranges import ByteRange, select_ranges
from assetserver.semantics.representation import Field

from .claims import Claim
from .hotcache import Answer, FileBody
from .leanrequest import Key

_RANGE, _LENGTH = b"content-range", b"content-length"
_BYTES, _COUNT = b"\0r", b"\0n"
"""Stand in a template for which bytes there are, and how many: no field can hold a NUL."""

_PARTIAL = 206
_PLAIN = re.compile(rb"bytes=([0-9]{0,15})-([0-9]{0,15})")


class Template(Answer):
    """The answer to a range, with marks where others differ; ``whole_bytes`` and ``etag`` are the file's."""

    __slots__ = ("etag", "marked", "whole_bytes")

    def __init__(self, claim: Claim, head: bytes, fields: list[Field], file: FileBody, tally: Tally | None = None) -> None:
        values = dict(fields)
        size = values[_RANGE].rpartition(b"/")[2]
        marks = {_RANGE: b"bytes %b/%b" % (_BYTES, size), _LENGTH: _COUNT}
        self.marked = [(name, marks.get(name, value)) for name, value in fields]
        super().__init__(claim, _PARTIAL, head, self.marked, b"", file, tally)
        self.whole_bytes = int(size) if size.isdigit() else 0
        self.etag = values.get(b"etag", b"")

    def cut(self, claim: Claim, found: ByteRange, content: bytes | None = None) -> Answer:
        """Return the answer to the range ``found``: its ``content``, or where the kernel finds that."""
        values = {_RANGE: tell_range(found, dict(self.marked)[_RANGE]), _LENGTH: b"%d" % len(found)}
        fields = [(name, values.get(name, value)) for name, value in self.marked]
        part = FileBody(self.file.find, found.start, len(found)) if self.file and content is None else None
        return Answer(claim, _PARTIAL, self.head, fields, content or b"", part, self.tally)


def template_key(key: Key) -> Key:
    """Return under which key there is what answers to all requests for a range like that with ``key`` are made of."""
    return (*key[:-2], None, None)


def find_range(template: Template, key: Key) -> ByteRange | None:
    """Return the one range of the template's file that a request means, or None."""
    *_, value, condition = key
    if condition is not None and condition != template.etag:
        return None
    plain = _PLAIN.fullmatch(value or b"")
    if plain is not None:  # the most frequent forms by far; ``select_ranges`` says the same of them
        return _select(plain[1], plain[2], template.whole_bytes)
    found = select_ranges((value or b"").decode("latin-1"), template.whole_bytes)
    return found[0] if isinstance(found, tuple) and len(found) == 1 else None


def _select(first: bytes, last: bytes, size: int) -> ByteRange | None:
    """Return the bytes from ``first`` to ``last``; without ``last`` to the end, without ``first`` the ``last`` many."""
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        return ByteRange(start, stop) if start < stop else None
    count = min(int(last or b"0"), size)
    return ByteRange(size - count, size) if count else None


def tell_range(found: ByteRange, head: bytes) -> bytes:
    """Return the rendered ``head`` of a template as that of a range."""
    span = b"%d-%d" % (found.start, found.stop - 1)
    return head.replace(_BYTES, span).replace(_COUNT, b"%d" % (found.stop - found.start))
