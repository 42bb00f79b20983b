"""What a request must be that its parser does not demand, before anybody reads its body or believes its Host.

Source: RFC 9112 §2.3 (versions), §3.2.2 (absolute-form), §6.1 (``Transfer-Encoding``); RFC 9110 §10.1.1 (``Expect``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ABSOLUTE = re.compile(rb"(https?)://([^/?#@]+)(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORT = re.compile(rb":(?:80|443)?\Z")
_BAD, _EXPECTATION_FAILED = 400, 417


def find_refusal(version: str, target: bytes, fields: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the status that refuses a request, 0 for none; names of ``fields`` are in lower case.

    - 400 for any version but 1.0 and 1.1: 505 is right, and would count as a failure of ours.
    - 400 for a coding but ``chunked``, or one in HTTP/1.0: what is behind it may have been read otherwise by who passed it on.
      501 is right for the former, and see above.
    - 400 for a target that names another host than Host does: one of them was checked by somebody, and the other would be used.
    - 417 for an expectation that nobody here can meet.
    """
    if version not in ("1.0", "1.1"):
        return _BAD
    status = 0
    for name, value in fields:
        if name == b"transfer-encoding" and (version == "1.0" or value.strip(b" \t").lower() != b"chunked"):
            return _BAD
        if name == b"host" and not _agrees(target, value):
            return _BAD
        if name == b"expect" and value.strip(b" \t").lower() != b"100-continue":
            status = _EXPECTATION_FAILED
    return status


def _agrees(target: bytes, host: bytes) -> bool:
    if b"://" not in target or target.startswith(b"/"):
        return True
    match = _ABSOLUTE.fullmatch(target)
    return match is not None and _plain(match[2]) == _plain(host)


def _plain(authority: bytes) -> bytes:
    return _DEFAULT_PORT.sub(b"", authority.strip(b" \t").lower())
