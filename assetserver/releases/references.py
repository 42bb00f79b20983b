"""What a URL in a page or style sheet means inside its release. Pure.

Source: the URL standard (how browsers read relative URLs); ``semantics.targets`` (which names a release may hold).
"""

from __future__ import annotations

import re
from collections.abc import Container

from assetserver.semantics.targets import AssetPath, Target, parse_target

LIMIT_URL = 4096
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_TEMPLATE = re.compile(r"\{\{|\{%|\$\{|<%")
_DROPPED = str.maketrans("", "", "\t\n\r")
_TRIMMED = "".join(map(chr, range(0x21)))
_SINGLE = re.compile(r"\.|%2e", re.IGNORECASE)
_DOUBLE = re.compile(r"(?:\.|%2e){2}", re.IGNORECASE)
_END_OF_PATH = re.compile(r"[?#]")


def clean_url(written: str) -> str:
    """Return a URL as browsers read it: blanks around it and line ends inside it are dropped; "" if it is too long."""
    return written.strip(_TRIMMED).translate(_DROPPED) if len(written) <= LIMIT_URL else ""


def is_local(url: str) -> bool:
    """Tell whether ``url`` names something of the same site: no scheme, no host, more than a fragment or query, no template."""
    if not url or url[0] in "#?" or _SCHEME.match(url) or _TEMPLATE.search(url):
        return False
    return url[:2].replace("\\", "/") != "//"


def join_base(base: str, url: str) -> str:
    """Return ``url`` as ``<base href>`` makes it, without resolving dots: ``join_base("/app/", "a.js")`` is ``/app/a.js``."""
    if not base or url[:1] in ("/", "\\"):
        return url
    return _path_of(base).rpartition("/")[0] + "/" + url if "/" in _path_of(base) else url


def resolve(url: str, page: str, base: str = "", *, mount: str = "/") -> AssetPath | None:
    """Return the path inside the release that ``url``, written in the file ``page``, means; None if it leads elsewhere.

    Folders end in "/", the root is "". Query and fragment are dropped, dots resolved as browsers do (never above the root of
    the host). ``mount``: the URL path of the release, ending in "/"; what lies outside it is None. Never raises.
    """
    url = join_base(base, clean_url(url))
    if not is_local(url):
        return None
    path = _path_of(url).replace("\\", "/")
    if not path.startswith("/"):
        folder, slash, _ = page.rpartition("/")
        path = mount + folder.replace("%", "%25") + slash + path
    full = _resolve_dots(path)
    target = parse_target("/" + full.removeprefix(mount)) if full.startswith(mount) else None
    return target.path if isinstance(target, Target) else None


def find_file(path: str, files: Container[str], *, clean_urls: bool = True) -> str | None:
    """Return the file that a request for ``path`` gets: itself, a folder's index page, a page without ``.html``; or None."""
    stem = path.removesuffix("/")
    candidates = [] if path.endswith("/") or not path else [path]
    candidates += [f"{stem}/index.html", f"{stem}/index.htm"] if stem else ["index.html", "index.htm"]
    candidates += [f"{stem}.html"] if clean_urls and stem else []
    return next((one for one in candidates if one in files), None)


def _path_of(url: str) -> str:
    return _END_OF_PATH.split(url, maxsplit=1)[0]


def _resolve_dots(path: str) -> str:
    """Return an absolute path with "." and ".." resolved; "/" twice is kept, as browsers do, for ``parse_target`` to judge."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if _DOUBLE.fullmatch(segment):
            del kept[-1:]
        elif not _SINGLE.fullmatch(segment):
            kept.append(segment)
    last = segments[-1] if segments else ""
    is_folder = bool(kept) and (_SINGLE.fullmatch(last) or _DOUBLE.fullmatch(last))
    return "/" + "/".join(kept) + ("/" if is_folder else "")
