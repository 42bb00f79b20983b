"""``Content-Digest`` and ``Repr-Digest``: what a client says its bytes hash to. Source: RFC 9530 §2, §3, §5; RFC 9651 §3.2.

Only algorithms that are fit to detect tampering are known (RFC 9530 §5: "active"); the deprecated ones are passed over, as the
specification allows. A field that is not a dictionary of byte sequences is an error here, where RFC 9651 would have it ignored:
whoever asks for a check must not be told of success without one.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping

from .fields import parse_list

LENGTHS = {"sha-256": 32, "sha-512": 64}
"""Length of a digest in bytes, by algorithm as RFC 9530 spells it."""

_MEMBER = re.compile(r"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):(?:;[^,]*)?")


def parse_digests(text: str) -> dict[str, bytes] | None:
    """Return the digests of the known algorithms, by algorithm, or None if the field is malformed.

    ``sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:`` → ``{"sha-256": …}``; the last member of a name stands.
    """
    digests: dict[str, bytes] = {}
    members = list(parse_list(text))
    for member in members:
        match = _MEMBER.fullmatch(member)
        if match is None:
            return None
        if match[1] in LENGTHS:
            digest = _decode(match[2])
            if digest is None or len(digest) != LENGTHS[match[1]]:
                return None
            digests[match[1]] = digest
    return digests if members else None


def format_digests(digests: Mapping[str, bytes]) -> str:
    """Return the field value that ``digests`` are, by algorithm."""
    return ", ".join(f"{name}=:{b64encode(digest).decode()}:" for name, digest in digests.items())


def _decode(text: str) -> bytes | None:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        return None
