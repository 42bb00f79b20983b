"""``Content-Disposition`` of a response: shown or saved, and under which name.

Source: RFC 6266 (the field), RFC 8187 (names beyond ASCII), RFC 9110 §5.6.4 (quoted strings).

Laws:
- Takes any name, never raises, and the value is one line of printable ASCII.
- ``filename`` has no quote, backslash or percent sign: browsers disagree on what those mean there (RFC 6266 §4.3, appendix D).
- ``filename*`` is there whenever ``filename`` is not exactly the name; who knows both takes it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal
from urllib.parse import quote

_ATTR_CHAR = "!#$&+-.^_`|~"
"""What ``ext-value`` may hold unencoded beside letters and digits (RFC 8187 §3.2.1)."""

_UNCLEAR = re.compile(r'[^ -~]|["\\%/]')


def format_disposition(kind: Literal["inline", "attachment"], name: str) -> str:
    """Return the value that has a file shown (``inline``) or saved (``attachment``) as ``name``."""
    plain = "".join(one for one in unicodedata.normalize("NFKD", name) if not unicodedata.combining(one))
    fallback = _UNCLEAR.sub("_", plain).strip() or "file"
    value = f'{kind}; filename="{fallback}"'
    if fallback != name:
        value += f"; filename*=UTF-8''{quote(name, safe=_ATTR_CHAR, errors='replace')}"
    return value
