"""Numbers and names as people read them in a terminal."""

from __future__ import annotations

import os
import time


def escape(text: str) -> str:
    """Return ``text`` with line feeds and the like escaped: a file may be called anything."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def plural(count: int, what: str) -> str:
    """Return the noun ``what`` as it stands after ``count``."""
    return what if count == 1 else what + ("es" if what.endswith("x") else "s")


def in_units(count: int) -> str:
    """Return a number of bytes as people read it: ``1.2 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - decimal units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def in_utc(time_s: float) -> str:
    """Return a time (seconds since 1970) as people read it, with its zone, as RFC 3339 has it: ``2026-11-22 22:38:07Z``."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(time_s))


def short_path(path: str) -> str:
    """Return ``path`` as seen from the working directory, unless it is elsewhere."""
    relative = os.path.relpath(path)
    return os.path.normpath(path) if relative.startswith("..") else relative
