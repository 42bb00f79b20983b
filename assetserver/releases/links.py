"""What a page needs first → the values of its ``Link`` field, which CDNs turn into 103 (Early Hints). Pure.

Decides what is worth saying, in the order of the page. Links to other hosts are left to the page itself.
Source: RFC 8288 §3 (grammar), the HTML standard (preload, modulepreload, and which attributes a ``Link`` may carry), RFC 8297.

Laws:
- A value is visible ASCII; what came from a page stands encoded between "<" and ">", or as a token, or as a quoted string.
- Nothing is announced that the release does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from urllib.parse import quote

from assetserver.semantics.fields import is_token

from .facts import Facts, Preload
from .pages import split_srcset
from .references import find_file, is_local, join_base, resolve

LIMIT_LINKS = 10
LIMIT_FIELD_BYTES = 2048
"""All values of a page together, with the commas between them: proxies give a whole header 4 to 8 KiB."""

_URL_SAFE = "!$&'()*+,;=:@-._~/?%[]"
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUOTABLE = re.compile(r"[ -~]*")


def link_fields(
    page: str, facts: Facts, files: Container[str], more: Iterable[Preload] = (), *, mount: str = "/"
) -> tuple[str, ...]:
    """Return the ``Link`` values of the file ``page``: at most 10, and 2 KiB joined by ", ".

    ``more``: preloads that the page does not write itself, such as a bundler's chunks. URLs are absolute paths only where the
    page writes them so. ``mount``: the URL path of the release, as in ``resolve``.
    """
    values: list[str] = []
    size = 0
    seen: set[str] = set()
    for preload in (*facts.preloads, *more):
        value = _format_link(page, facts.base, preload, files, mount)
        url = value.partition(">")[0]
        if value and url not in seen and size + len(value) <= LIMIT_FIELD_BYTES and len(values) < LIMIT_LINKS:
            values.append(value)
            size += len(value) + len(", ")
        seen.add(url)
    return tuple(values)


def _format_link(page: str, base: str, preload: Preload, files: Container[str], mount: str) -> str:
    """Return the value that says ``preload``, or "" if it cannot or should not be said."""
    path = resolve(preload.url, page, base, mount=mount)
    if path is None or find_file(path, files, clean_urls=False) != path or not _is_sayable(preload, base):
        return ""
    url = join_base(base, preload.url.replace("\\", "/")).partition("#")[0]
    encoded = quote(_BROKEN_ESCAPE.sub("%25", url), safe=_URL_SAFE, errors="replace")
    return "; ".join((f"<{encoded}>", *_parameters(preload)))


def _is_sayable(preload: Preload, base: str) -> bool:
    """Tell whether every attribute fits into a quoted string, and the images of a set mean the same without ``<base>``."""
    texts = (preload.rel, preload.destination, preload.type, preload.integrity, preload.fetchpriority, preload.imagesizes)
    if any(_QUOTABLE.fullmatch(one) is None for one in (*texts, preload.imagesrcset)):
        return False
    return not base or all(one.startswith("/") or not is_local(one) for one in split_srcset(preload.imagesrcset))


def _parameters(preload: Preload) -> Iterator[str]:
    yield _parameter("rel", preload.rel)
    if preload.destination:
        yield _parameter("as", preload.destination)
    if preload.crossorigin is not None:
        yield _parameter("crossorigin", preload.crossorigin) if preload.crossorigin else "crossorigin"
    for name in ("type", "integrity", "fetchpriority", "imagesrcset", "imagesizes"):
        if value := getattr(preload, name):
            yield _parameter(name, value)


def _parameter(name: str, value: str) -> str:
    if is_token(value):
        return f"{name}={value}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'
