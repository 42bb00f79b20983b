"""What gives access is left out of logs: whoever reads one must not be able to use it."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

SECRET_NAMES = ("grant", "signature", "token", "access_token")
"""Parameters of queries whose values give access: of upload grants and signed URLs; and where tokens stand by mistake."""

_PARAMETER = re.compile(r"((?:^|(?<=[?&]))([^=&#?]*)=)[^&#]*")


def without_secrets(text: str) -> str:
    """Return a query or URL with "-" for the values that give access, however the names are written."""
    if "=" not in text or not (any(name in text for name in SECRET_NAMES) or "%" in text):
        return text
    return _PARAMETER.sub(_redact, text)


def _redact(match: re.Match[str]) -> str:
    is_secret = unquote_plus(match[2]).strip() in SECRET_NAMES
    return match[1] + "-" if is_secret else match[0]
