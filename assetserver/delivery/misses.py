"""What a miss is of: a page, for which a fallback or an error page will do, or a file, for which no page will."""

from __future__ import annotations

from assetserver.semantics.caching import ERROR, MISSING_PAGE
from assetserver.semantics.fingerprints import looks_fingerprinted
from assetserver.semantics.mediatypes import has_known_extension


def asks_for_a_file(path: str) -> bool:
    """Tell whether a path wants a file rather than a page: then a page would be the wrong answer to a miss.

    A name without an extension is a page's, however much it looks like a hash, as in ``/orders/550e8400``.
    """
    name = path.rstrip("/").rpartition("/")[2]
    if "." not in name or name.endswith((".html", ".htm")):
        return False
    return has_known_extension(name) or looks_fingerprinted(name)


def policy_of_miss(path: str) -> str:
    """Return the ``Cache-Control`` of a miss; one of a file is not to be stored: during a deploy, a CDN would pin it."""
    return ERROR if asks_for_a_file(path) else MISSING_PAGE
