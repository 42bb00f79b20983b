"""Another range of a file of which a range was sent: the same answer, but for what says which bytes.

The slow path's 206 says all that is the same for every single range of a representation; which bytes a ``Range`` means is
decided by the same function as there. Several ranges, or none, are left to it, and so is any ``If-Range`` but the very entity
tag. Source: RFC 9110 §13.1.5, §14.2, §14.4, §15.3.7.
"""

from __future__ import annotations

import re

from assetserver.semantics.ranges import ByteRange, select_ranges
from assetserver.semantics.representation import Field

from .hotcache import Answer, Claim, FileBody
from .leanrequest import Key

_RANGE, _LENGTH = b"content-range", b"content-length"
_BYTES, _COUNT = b"\0r", b"\0n"
"""Stand in a template for which bytes there are, and how many: no field can hold a NUL."""

_PARTIAL = 206
_PLAIN = re.compile(rb"bytes=([0-9]{1,15})-([0-9]{1,15})")


class Template(Answer):
    """The answer to a range, with marks where others differ; ``whole_bytes`` and ``etag`` are the file's."""

    __slots__ = ("etag", "marked", "whole_bytes")

    def __init__(self, claim: Claim, head: bytes, fields: list[Field], file: FileBody) -> None:
        values = dict(fields)
        size = values[_RANGE].rpartition(b"/")[2]
        marks = {_RANGE: b"bytes %b/%b" % (_BYTES, size), _LENGTH: _COUNT}
        self.marked = [(name, marks.get(name, value)) for name, value in fields]
        super().__init__(claim, _PARTIAL, head, self.marked, b"", file)
        self.whole_bytes = int(size) if size.isdigit() else 0
        self.etag = values.get(b"etag", b"")

    def cut(self, claim: Claim, found: ByteRange, content: bytes) -> Answer:
        """Return the answer to the range ``found``, which is ``content``."""
        values = {_RANGE: tell_range(found, dict(self.marked)[_RANGE]), _LENGTH: b"%d" % len(content)}
        return Answer(claim, _PARTIAL, self.head, [(name, values.get(name, value)) for name, value in self.marked], content)


def template_key(key: Key) -> Key:
    """Return under which key there is what answers to all requests for a range like that with ``key`` are made of."""
    return (*key[:-2], None, None)


def find_range(template: Template, key: Key) -> ByteRange | None:
    """Return the one range of the template's file that a request means, or None."""
    *_, value, condition = key
    if condition is not None and condition != template.etag:
        return None
    size = template.whole_bytes
    plain = _PLAIN.fullmatch(value or b"")
    if plain is not None:  # the most frequent form by far; ``select_ranges`` says the same of it
        start, last = int(plain[1]), int(plain[2])
        return ByteRange(start, min(last + 1, size)) if start <= last and start < size else None
    found = select_ranges((value or b"").decode("latin-1"), size)
    return found[0] if isinstance(found, tuple) and len(found) == 1 else None


def tell_range(found: ByteRange, head: bytes) -> bytes:
    """Return the rendered ``head`` of a template as that of a range."""
    span = b"%d-%d" % (found.start, found.stop - 1)
    return head.replace(_BYTES, span).replace(_COUNT, b"%d" % (found.stop - found.start))
