"""Fingerprints in file names: what looks like one, which are proved by the content, and how a name falls into parts.

A name that only looks hashed must never become immutable by accident (``runtime-deadbeef.js`` stays a year in every
browser), so a pattern alone decides nothing but how a *miss* is answered; immutability needs proof, declaration, or the
evidence of several releases (see ``releases.names``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

PROOF_ALGORITHMS = ("sha256", "md5", "sha1", "sha384", "sha512")
"""Digests whose leading hex digits name files in the field: our own, Django and WhiteNoise (md5), others."""

PROVED = "proved"
"""Why a name is taken for a fingerprint: the content begins to hash to it."""
DECLARED = "declared"
"""… it is declared; followed by what declares it: ``declared by .vite/manifest.json``."""
REFERENCED = "referenced"
"""… it may be one, and a page, script or style sheet of its release names it: not enough."""
CHANGED = "changed"
"""… it is referenced, and its like changed with their content from release to release."""
BESIDE = "beside"
"""… it is referenced, and lies beside such names: enough to stay reachable, not to be immutable."""

_HEX = re.compile(r"(?:^|[.\-_~])([0-9a-f]{8,128})(?=\.[0-9A-Za-z.]+$|$)")
_ANY = re.compile(r"[.\-_]([0-9A-Za-z_\-]{8,64})(?:\.[0-9A-Za-z]+){1,2}$")
_HAS_DIGIT_AND_LETTER = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])")


_EXTENSIONS = re.compile(r"(?:\.[0-9A-Za-z]{1,12}){1,3}$")
_SEPARATORS = "-._~"
_LENGTHS = (8, 10, 16, 20, 21, 22, 32)
"""Lengths of hashes in base64url, which may hold separators themselves: bundlers write 8, others cut elsewhere."""
_RUN = re.compile(r"[0-9A-Za-z]{8,64}$")
_BASE64 = re.compile(r"[0-9A-Za-z_-]+$")
_ALPHABETS = (("hex", re.compile(r"[0-9a-f]+$")), ("base32", re.compile(r"[A-Z2-7]+$")), ("base36", re.compile(r"[0-9a-z]+$")))
_MIXED_TURNS = 3
_PLAIN_TURNS = 2


class NameParts(NamedTuple):
    """A name that may hold a hash: ``assets/app-BX2k9_fQ.js`` → folder, stem ``app-``, hash, extension ``.js``.

    ``alphabet``: the smallest of hex, base32, base36 and base64 that it is written in.
    """

    folder: str
    stem: str
    hash: str
    extension: str
    alphabet: str

    @property
    def family(self) -> tuple[str, str, str]:
        """What stays when the content changes."""
        return self.folder, self.stem, self.extension

    @property
    def is_random(self) -> bool:
        """Whether the hash cannot well be a word, a date or a number: how often it turns from one kind of sign to another.

        Of random base64 of 8 signs 93 % turn three times or more; ``IMG_1234`` turns twice, ``20260101`` never.
        """
        turns = sum(_kind(one) != _kind(other) for one, other in pairwise(self.hash))
        return turns >= (_PLAIN_TURNS if self.alphabet in ("hex", "base32") else _MIXED_TURNS)


def is_immutable(reason: str) -> bool:
    """Tell whether a name that is taken for a fingerprint for ``reason`` never changes its bytes."""
    return reason in (PROVED, CHANGED) or reason.startswith(DECLARED)


def split_name(path: str) -> NameParts | None:
    """Return the parts of a name that may hold a hash before its extension, or None."""
    folder, _, name = path.rpartition("/")
    extension = _EXTENSIONS.search(name)
    while extension is not None:
        stem = name[: extension.start()]
        if found := _find_hash(stem):
            alphabet = next((title for title, pattern in _ALPHABETS if pattern.match(found)), "base64")
            return NameParts(folder, stem.removesuffix(found), found, extension[0], alphabet)
        extension = _EXTENSIONS.search(name, extension.start() + 1)
    return None


def _find_hash(stem: str) -> str | None:
    run = _RUN.search(stem)
    if run and (run.start() == 0 or stem[run.start() - 1] in _SEPARATORS):
        return run[0]
    for length in _LENGTHS:
        found = stem[-length:]
        if len(stem) > length and stem[-length - 1] in _SEPARATORS and _BASE64.match(found):
            return found
    return None


def _kind(sign: str) -> int:
    return 0 if sign.isdigit() else 1 if sign.isupper() else 2 if sign.islower() else 3


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
