"""Names that hold something like a hash. Pure. Decides nothing alone: it narrows what evidence and declarations may speak of.

Hashes in the field: Vite and Rollup put 8 characters of base64url behind a hyphen, esbuild 8 of base32 (upper case), webpack 8
to 64 hex digits behind a dot, Parcel 8 hex digits. About a fifth of Vite's and esbuild's hold no digit at all. Of random
ones this takes 99 % of Vite's, 98 % of 8 hex digits, 81 % of esbuild's (all where the stem is known): the rest, which could be
words or dates, must show by other evidence what it is (measured 2026-11-22).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LIMIT_NAME = 255
_TOKEN = re.compile(r"[0-9A-Za-z_-]{8,128}")
_BEHIND_HYPHEN = re.compile(r"[-_~]([0-9A-Za-z_-]{8})$")
_SEPARATORS = re.compile(r"[-_~]")
_HEX = re.compile(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{8,128}")
_PLAIN = re.compile(
    r"[a-z_-]+"  # words
    r"|[0-9_-]+"  # dates, counters
    r"|[A-Za-z]?[a-z]+[_-]?[0-9]{1,4}"  # bootstrap5, Heading2
    r"|v?[0-9]+(?:[._-][0-9]+)+(?:[_-]?[a-z]+[0-9]*)?"  # versions
    r"|(?:[A-Z]?[a-z]{2,})(?:[A-Z][a-z]{2,})*[0-9]{0,4}"  # camelCase
    r"|[A-Z]+"
)
_BASE32 = re.compile(r"[A-Z2-7]{8}")


def holds_hash(path: str) -> bool:
    """Tell whether the file name of ``path`` ends in something like a hash before its extensions.

    ``index-BwqTnXYz.js`` and ``main.4f2a9c01.chunk.css`` do; ``vendor-bootstrap5.js`` and ``app-2026-11-22.js`` do not.
    """
    return any(_is_hash(one) for one in _candidates(path.rpartition("/")[2]))


def is_hash_behind(path: str, stem: str) -> bool:
    """Tell whether what follows ``stem`` in the file name of ``path`` is a hash, for names whose unhashed stem is known.

    Letters in upper case count here (``chunk-BHFKLMNQ.js`` of esbuild); a name that is all ``stem`` holds none.
    """
    name = path.rpartition("/")[2]
    if not stem or not name.startswith(stem):
        return holds_hash(path)
    rest = name[len(stem) :]
    return any(_is_hash(one) or _BASE32.fullmatch(one) is not None for one in _candidates(rest))


def _candidates(name: str) -> Iterator[str]:
    """Yield what may be the hash: parts between dots, what follows the last hyphen, and the last eight characters.

    The latter because base64url may hold "-" and "_" itself.
    """
    *parts, _ = name.rsplit(".", 4) if len(name) <= _LIMIT_NAME else [""]
    for number, part in enumerate(parts):
        last = _SEPARATORS.split(part)[-1]
        if number or last != part or _HEX.fullmatch(part):
            yield last
        if match := _BEHIND_HYPHEN.search(part):
            yield match[1]


def _is_hash(text: str) -> bool:
    return _HEX.fullmatch(text) is not None or (_TOKEN.fullmatch(text) is not None and _PLAIN.fullmatch(text) is None)
