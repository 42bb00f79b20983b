"""The page for people at ``/-/console/``: what was uploaded and published, for who has a token. Files, and how they are served.

The token is in the fragment of the link, which no server, log or other site ever sees; the page keeps it for the tab that it is
open in. There is no cookie: another page can do nothing with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

PAGE = os.path.join(os.path.dirname(__file__), "page")
"""The folder of the page's files."""

FIELDS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
"""What every answer for it carries: its own scripts and nothing else, in no frame."""
