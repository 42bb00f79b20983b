"""The forms that values of settings have beyond their type, and what every table of settings shares."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
LAST_PORT = 65535


class Form(NamedTuple):
    """What a text must be, beyond a string; a path is resolved, a name is made lower case, a secret is never shown."""

    must: str
    accepts: Callable[[str], object]
    is_path: bool = False
    is_name: bool = False
    is_secret: bool = False


def _matches(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern).fullmatch


def _is_network(text: str) -> bool:
    try:
        return text == "unix" or bool(ipaddress.ip_network(text))
    except ValueError:
        return False


def _is_inside(path: str) -> bool:
    return not path or ("\0" not in path and not {"", ".", ".."} & set(path.split("/")))


def _is_prefix(text: str) -> bool:
    clean = text.isprintable() and not set("?#%{}") & set(text)
    return text == "/" or (len(text) > 1 and text[0] == "/" and clean and _is_inside(text[1:]))


def _is_public(text: str) -> bool:
    found = re.fullmatch(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]+))?", text)
    return not text or (found is not None and 0 < int(found[1] or 1) <= LAST_PORT)


def _is_listener(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if text.startswith(("/", "./")):
        return "\0" not in text
    is_port = port.isascii() and port.isdigit() and int(port) <= LAST_PORT
    return not text or (bool(colon) and is_port and re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host) is not None)


def _is_database(text: str) -> bool:
    if text == "sqlite" or re.fullmatch(r"sqlite:///[^\0]+", text):
        return True
    try:
        found = urlsplit(text)
        return (
            found.scheme == "postgresql"
            and found.port != 0
            and len(found.path) > 1
            and re.fullmatch("[!-~]+", text) is not None
        )
    except ValueError:  # brackets or a port that are none
        return False


def _is_shared_secret(text: str) -> bool:
    try:
        return text.startswith("whsec_") and 24 <= len(base64.b64decode(text[6:], validate=True)) <= 64  # noqa: PLR2004 - bytes
    except ValueError:
        return False


_is_url = _matches(r"(https?://[!-\"$-.0-~]+(/[!-\"$-~]*)?)?")

ANY = Form("", lambda _: True)
ADDRESS = Form('be a host name or IP address, such as "127.0.0.1"', _matches(r"[!-.0-~]+"))
DIRECTORY = Form("name a folder", _matches(r"[^\0]+"), is_path=True)
FIELD = Form('be a field value such as "max-age=3600"', _matches(r"([!-~]([ -~]*[!-~])?)?"))
EVENTS = Form('be "" or a URL such as "https://example.com/hooks"', _is_url)
GLOB = Form('be a glob such as "*.html" or "/docs/**"', _matches(r"[^\0]+"))
HOST = Form("be a host name without port", _matches(r"(?i:[a-z0-9._-]+|\[[0-9a-f:.]+\])?"), is_name=True)
LISTENER = Form('be "", "HOST:PORT" such as "127.0.0.1:9000", or a path such as "/run/assetserver/admin.sock"', _is_listener)
IMAGE_FORMAT = Form('be "webp" or "avif"', _matches(r"webp|avif"))
INSIDE = Form('be a path inside the directory, such as "index.html"', _is_inside)
DATABASE = Form('be "sqlite", "sqlite:///PATH" or "postgresql://USER@HOST/NAME"', _is_database)
SECRET = Form(
    'be "NAME:SECRET" with a secret of 32 characters or more', _matches(r"[A-Za-z0-9_-]{1,32}:[!-~]{32,}"), is_secret=True
)
KEY = Form('be the second line of a .pub file, such as "RWQ…"', _matches(r"RW[0-9A-Za-z+/]{54}"))
NETWORK = Form('be "unix", an IP address or a network such as "10.0.0.0/8"', _is_network)
ORIGIN = Form(
    'be "", "*" or one lower-case origin such as "https://example.com"',
    _matches(r"(\*|[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+)?"),
)
PUBLIC = Form('be "" or a lower-case origin such as "https://www.example.com", without a path', _is_public)
OPTIONS = Form('be options such as "width=640,format=webp"', _matches(r"[!-~]+"))
PATH = Form("be a path without null characters", _matches(r"[^\0]*"), is_path=True)
PIN = Form('be "query", "header" or "cookie"', _matches("query|header|cookie"))
PREFIX = Form('start with "/", not end with it, and have no "?", "#", "%", "{", "}", empty, "." or ".." segment', _is_prefix)
SITE = Form("be lower-case letters, digits, dots and hyphens", _matches(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"))
SHARED = Form('be "whsec_" and 24 to 64 random bytes in base64', _is_shared_secret, is_secret=True)
HTTP = Form('be "" or a URL such as "http://127.0.0.1:6081"', _is_url)
SERVICE_ID = Form("be the letters and digits that the service's console shows", _matches(r"[A-Za-z0-9]{0,64}"))
TOKEN = Form("be printable ASCII without spaces", _matches(r"[!-~]*"), is_secret=True)
OUTSIDE = Form(
    'be a lower-case origin such as "https://www.example.com", without a path', lambda text: text and _is_public(text)
)
TAG = Form("be printable ASCII without space or comma", _matches(r"[!-+\--~]+"))


def about(description: str, form: Form = ANY, *, ge: int | None = None, le: int | None = None) -> Meta:
    """Return what is known of a setting beyond its type: a line of text, and its form or its limits."""
    return Meta(description=description, ge=ge, le=le, extra={"form": form})


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration."""
