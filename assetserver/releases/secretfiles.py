"""Files that nobody means to publish: by name, and by what their first bytes are. Pure.

A library or a manual that merely mentions "BEGIN PRIVATE KEY" is not one: the key itself must follow.
Source: RFC 7468 (PEM), the formats of OpenSSH, PuTTY, age and minisign.
"""

from __future__ import annotations

import re

LIMIT_HEAD = 1 << 20
"""How much of a file is looked at, in bytes."""

_HARMLESS_ENDINGS = (".example", ".sample", ".template", ".dist", ".pub")
_NAMES = {
    ".htpasswd": "passwords",
    "htpasswd": "passwords",
    ".netrc": "passwords",
    ".pgpass": "passwords",
    ".git-credentials": "passwords",
    ".npmrc": "registry tokens",
    ".pypirc": "registry tokens",
    "id_rsa": "a private key",
    "id_dsa": "a private key",
    "id_ecdsa": "a private key",
    "id_ed25519": "a private key",
    "terraform.tfstate": "infrastructure secrets",
}
_FOLDERS = {
    ".git": "the history of a repository",
    ".hg": "the history of a repository",
    ".svn": "the history of a repository",
    ".ssh": "private keys",
    ".aws": "cloud credentials",
    ".gnupg": "private keys",
}
_EXTENSIONS = dict.fromkeys(("p12", "pfx", "jks", "keystore", "kdbx", "ppk"), "a key store")

_DATABASES = (".sql", ".sqlite", ".sqlite3", ".db")
_PLATFORM_FILES = ("netlify.toml", "wrangler.toml")
_SCRIPTS = (".js", ".mjs", ".cjs", ".ts", ".mts")
_STRAYS = {
    "node_modules": "packages for the build, not for visitors; publish the folder that the build wrote",
    "functions": "code for a server, which nothing runs here: visitors can read it; keep it out of this folder",
    "platform-file": "settings of a host, which nothing reads here; assetserver.toml has them; keep it out of this folder",
    "database": "a database, which everybody can download; remove it unless that is meant",
}

_ENV = re.compile(r"\.env(?:rc|[.-].*)?", re.DOTALL)
_PEM = re.compile(
    rb"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\+[nr]|[\"'`+,])*+"
    rb"(?:[A-Z][A-Za-z-]{1,32}:[^\n\\]{0,128}(?:\s|\\+[nr]|[\"'`+,])++){0,8}+[A-Za-z0-9+/]{40}"
)
"""Between its lines stand line ends, or, where it is a string, what ends one line of that and begins the next."""
_PEM_NAMES = (".pem", ".key")
_PEM_OF_NAME = re.compile(
    rb"^[ \t]*-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)?-----[ \t]*\r?\n\s*+[A-Za-z0-9+/]", re.MULTILINE
)
"""In a file that is called a key, its beginning is enough: whoever cut it, or made it for a test, learns of the rule."""

_AGE = re.compile(rb"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{58}")
_MINISIGN = re.compile(rb"untrusted comment: [^\n]{0,1024}\n(?:RWQAAEIy|RWRTY0Iy)[A-Za-z0-9+/]{40}")
_MARKS = (
    (b"PRIVATE KEY", _PEM, "a private key"),
    (b"AGE-SECRET-KEY-", _AGE, "an age secret key"),
    (b"untrusted comment: ", _MINISIGN, "a minisign secret key"),
    (b"ast_", re.compile(rb"\bast_[0-9a-f]{12}_[0-9a-f]{48}\b"), "a token of an assetserver"),
    (b"PuTTY-User-Key-File-", re.compile(rb"\APuTTY-User-Key-File-"), "a private key"),
)


def secret_by_name(path: str) -> str | None:
    """Return what secret a file of this name holds ("passwords"), or None. Folders on the way count: ``.git/config``."""
    *folders, name = path.rstrip("/").lower().split("/")
    if found := next((_FOLDERS[one] for one in (*folders, name) if one in _FOLDERS), None):
        return found
    if name.endswith(_HARMLESS_ENDINGS):
        return None
    if _ENV.fullmatch(name):
        return "environment variables"
    return _NAMES.get(name) or (_EXTENSIONS.get(name.rpartition(".")[2]) if "." in name else None)


def holds_secret(head: bytes, path: str = "") -> str | None:
    """Return what secret ``head``, the first bytes of a file (1 MiB of them count), holds: "a private key"; or None.

    In a file that ``path`` calls a key (``.pem``, ``.key``), a few signs of one are enough. Never raises; linear in time.
    """
    head = head[:LIMIT_HEAD]
    for mark, expression, what in _MARKS:
        if mark in head and expression.search(head):
            return what
    if path.lower().endswith(_PEM_NAMES) and _PEM_OF_NAME.search(head):
        return "a private key"
    return None


def stray_by_name(path: str) -> tuple[str, str] | None:
    """Return what kind of file that a build seldom writes on purpose this is, and what to do about it; or None.

    These are no secrets as such: a demonstration may well hold a database.
    """
    *folders, name = path.lower().split("/")
    if folders[:1] == ["node_modules"]:
        return "node_modules", _STRAYS["node_modules"]
    if (folders[:1] == ["functions"] or folders[:2] == ["netlify", "functions"]) and name.endswith(_SCRIPTS):
        return "functions", _STRAYS["functions"]
    if name in _PLATFORM_FILES:
        return "platform-file", _STRAYS["platform-file"]
    return ("database", _STRAYS["database"]) if name.endswith(_DATABASES) else None
