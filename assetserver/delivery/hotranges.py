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

_PLAIN = re.compile(rb"bytes=([0-9]{1,15})-([0-9]{1,15})")


def make_template(claim: Claim, status: int, head: bytes, fields: list[Field], file: FileBody) -> Answer | None:
    """Return what other ranges are made of, from an answer with one; None if that does not tell the length of the whole."""
    values = dict(fields)
    size = values.get(_RANGE, b"").rpartition(b"/")[2]
    if not size.isdigit():
        return None
    marks = {_RANGE: b"bytes %b/%b" % (_BYTES, size), _LENGTH: _COUNT}
    template = Answer(claim, status, head, [(name, marks.get(name, value)) for name, value in fields], b"", file)
    template.whole_bytes, template.etag = int(size), values.get(b"etag", b"")
    return template


def find_range(template: Answer, key: Key) -> ByteRange | None:
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
