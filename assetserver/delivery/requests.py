"""An ASGI scope as the values that the semantics work on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote

from starlette.types import Scope

from assetserver.semantics.dictionaries import OfferedDictionary, parse_available_dictionary
from assetserver.semantics.preconditions import Preconditions
from assetserver.semantics.respond import AssetRequest
from assetserver.semantics.targets import RefusedTarget, Target, parse_target, strip_prefix

_PORT = re.compile(r":[0-9]*\Z")
_PRECONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
FRONT_PAGE = "index.html"
_DICTIONARY = b"available-dictionary"
DECIDING = frozenset({b"accept-encoding", b"range", b"if-range", b"want-repr-digest", _DICTIONARY, *_PRECONDITIONS})
"""The request fields that decide which answer an asset gives; those about who asks do so only for who has a dictionary."""


def read_request(scope: Scope) -> AssetRequest:
    """Return what of the request decides the answer; several lines of a field are one value (RFC 9110 §5.3)."""
    values: dict[bytes, str] = {}
    for name, value in scope["headers"]:
        if name in DECIDING:
            text = value.decode("latin-1")
            values[name] = f"{values[name]}, {text}" if name in values else text
    given = [values.get(name) for name in _PRECONDITIONS]
    return AssetRequest(
        method=scope["method"],
        accept_encoding=values.get(b"accept-encoding"),
        preconditions=Preconditions(*given) if any(value is not None for value in given) else None,
        range=values.get(b"range"),
        if_range=values.get(b"if-range"),
        want_repr_digest=values.get(b"want-repr-digest"),
        dictionary=_read_dictionary(values[_DICTIONARY], scope) if _DICTIONARY in values else None,
    )


def _read_dictionary(available: str, scope: Scope) -> OfferedDictionary | None:
    digest = parse_available_dictionary(available)
    if digest is None:
        return None
    return OfferedDictionary(digest, *(first_field(scope, name) for name in (b"sec-fetch-site", b"sec-fetch-mode", b"origin")))


def read_target(scope: Scope) -> Target | RefusedTarget:
    """Return where the path leads below the mount; ``canonical`` is that of the whole path, mount included."""
    raw = raw_path(scope)
    prefix: str = scope.get("root_path", "")
    below = strip_prefix(raw, prefix)
    if below is None:
        return RefusedTarget("encoded slash")
    target = parse_target(below)
    if isinstance(target, RefusedTarget):
        return target
    return Target(target.path, encoded_prefix(scope) + target.canonical)


def raw_path(scope: Scope) -> str:
    """Return the path as sent, without query.

    Where the server does not tell (ASGI makes it optional), or where middleware has rewritten ``path`` alone, as most does, it
    is ``path`` encoded anew: that is what Starlette routes by.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        sent = raw.partition(b"?")[0].decode("latin-1")
        if sent.isascii() and unquote(sent) == scope["path"]:
            return sent
    return quote(scope["path"], safe="/!$&'()*+,;=:@", errors="surrogatepass")


def encoded_prefix(scope: Scope) -> str:
    """Return the mount's prefix as it stands in a URL: "" or "/static"."""
    return quote(scope.get("root_path", ""), safe="/!$&'()*+,;=:@-._~")


def query_suffix(scope: Scope) -> str:
    """Return "?" and the query as sent, or "" where there is none; nothing that could end a field line."""
    query: bytes = scope.get("query_string", b"")
    return "?" + quote(query, safe="%/?:@!$&'()*+,;=-._~[]|") if query else ""


def host_of(scope: Scope) -> str:
    """Return the name of the host that was asked, in lower case, without port; "" if there is none."""
    host = (first_field(scope, b"host") or "").lower()
    return host if host.endswith("]") else _PORT.sub("", host)


def first_field(scope: Scope, name: bytes) -> str | None:
    """Return the first value of a request field, or None."""
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def text_fields(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return fields as Starlette's responses take them."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}


def url_of(path: str, *, clean_urls: bool = False) -> str:
    """Return the path below the site's at which visitors see the file ``path``: pages have that of their folder."""
    folder, _, name = path.rpartition("/")
    if name == FRONT_PAGE:
        return f"{folder}/" if folder else ""
    return path.removesuffix(".html") if clean_urls else path
