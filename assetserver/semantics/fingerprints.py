"""Fingerprints in file names: what looks like one, and which are proved by the content.

A name that only looks hashed must never become immutable by accident (``runtime-deadbeef.js`` stays a year in every
browser), so a pattern alone decides nothing but how a *miss* is answered; immutability needs proof or declaration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PROOF_ALGORITHMS = ("sha256", "md5", "sha1", "sha384", "sha512")
"""Digests whose leading hex digits name files in the field: our own, Django and WhiteNoise (md5), others."""

_HEX = re.compile(r"(?:^|[.\-_~])([0-9a-f]{8,128})(?=\.[0-9A-Za-z.]+$|$)")
_ANY = re.compile(r"[.\-_]([0-9A-Za-z_\-]{8,64})(?:\.[0-9A-Za-z]+){1,2}$")
_HAS_DIGIT_AND_LETTER = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])")


def looks_fingerprinted(path: str) -> bool:
    """Tell whether the file name holds what a bundler would have put there: hex, or mixed digits and letters."""
    name = path.rpartition("/")[2]
    if _HEX.search(name):
        return True
    match = _ANY.search(name)
    return match is not None and _HAS_DIGIT_AND_LETTER.match(match[1]) is not None


def find_hex_fingerprint(path: str) -> str | None:
    """Return the run of 8 to 128 lower-case hex digits before the extension that content could prove, or None."""
    match = _HEX.search(path.rpartition("/")[2])
    return match and match[1]


def is_proved(fingerprint: str, digests: Mapping[str, str]) -> bool:
    """Tell whether ``fingerprint`` begins one of ``digests`` (algorithm → lower-case hex of the content)."""
    return any(digest.startswith(fingerprint) for digest in digests.values())
