"""Another range of a file of which a range was sent: the same answer, but for what says which bytes.

The slow path's 206 says all that is the same for every single range of a representation; which bytes a ``Range`` means is
decided by the same function as there. Several ranges, or none, are left to it. Source: RFC 9110 §14.2, §14.4, §15.3.7.
"""

from __future__ import annotations

from assetserver.semantics.ranges import ByteRange, format_content_range, select_ranges
from assetserver.semantics.representation import Field

from .hotcache import Answer, Claim, FileBody

_RANGE, _LENGTH = b"content-range", b"content-length"


def make_template(claim: Claim, status: int, head: bytes, fields: list[Field], file: FileBody) -> Answer | None:
    """Return what other ranges are made of, from an answer with one; None if that does not tell the length of the whole."""
    size = dict(fields).get(_RANGE, b"").rpartition(b"/")[2]
    if not size.isdigit():
        return None
    template = Answer(claim, status, head, [], b"", file)
    template.ranged = fields, int(size)
    return template


def cut_range(template: Answer, value: bytes) -> Answer | None:
    """Return the answer to a request with this ``Range``, or None if it wants another than one range."""
    claim, file, ranged = template.claim, template.file, template.ranged
    if claim is None or file is None or ranged is None:
        return None
    fields, size = ranged
    found = select_ranges(value.decode("latin-1"), size)
    if not isinstance(found, tuple) or len(found) != 1:
        return None
    told = _tell_range(fields, found[0], size)
    part = FileBody(file.find, found[0].start, len(found[0]))
    return Answer(claim, template.status, template.head, told, b"", part)


def _tell_range(fields: list[Field], found: ByteRange, size: int) -> list[Field]:
    own = {_RANGE: format_content_range(found, size).encode(), _LENGTH: b"%d" % len(found)}
    return [(name, own.get(name, value)) for name, value in fields]
