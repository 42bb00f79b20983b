"""Signing keys: HMAC-SHA256 under the first of several keys, verified under any of them, so that they can be replaced.

A key is written ``NAME:SECRET``. What is signed begins with its purpose, so that a signature for one thing is none for another.
Source: RFC 2104; the secret as long as the hash at least (RFC 2104 §3).

Laws:
- Comparison takes the same time wherever two signatures differ, and for names of keys that are not there.
- An error never holds a secret.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from assetserver.errors import SettingsError

LEAST_SECRET = 32
"""Fewest characters of a secret. ``openssl rand -hex 32`` gives 64."""

_KEY = re.compile(rf"([A-Za-z0-9_-]{{1,32}}):([!-~]{{{LEAST_SECRET},512}})")
_NOBODY = b"a key that signs nothing"


class SigningKey(NamedTuple):
    """A key: its ``name`` stands in what it signs, its ``secret`` never."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.name!r})"


class Signed(NamedTuple):
    """The name of the key that signed, and the signature: 43 URL-safe characters."""

    key: str
    signature: str


class KeyRing:
    """Keys, the newest first: that one signs, all verify. Raises ``SettingsError`` without any, or if two have one name."""

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        every = tuple(keys)
        self._keys = {key.name: key for key in every}
        if not every or len(self._keys) != len(every):
            raise SettingsError("keys must have different names" if every else "there must be at least one key")
        self._newest = every[0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys, the one that signs first."""
        return tuple(self._keys)

    def sign(self, purpose: str, text: str) -> Signed:
        """Sign ``text`` for ``purpose`` under the newest key."""
        return Signed(self._newest.name, _sign(self._newest, purpose, text))

    def verify(self, purpose: str, text: str, signed: Signed) -> bool:
        """Tell whether one of the keys signed ``text`` for ``purpose``."""
        key = self._keys.get(signed.key)
        expected = _sign(key or SigningKey("", _NOBODY), purpose, text)
        return hmac.compare_digest(expected.encode(), signed.signature.encode("utf-8", "replace")) and key is not None


def parse_key(text: str) -> SigningKey:
    """Return the key that ``NAME:SECRET`` describes. Raises ``SettingsError``, which does not repeat the secret."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        name = text.partition(":")[0] if ":" in text else ""
        which = f"the key {name!r}" if name.isprintable() and len(name) <= LEAST_SECRET and name else "a key"
        raise SettingsError(
            f"{which} must be NAME:SECRET, with {LEAST_SECRET} to 512 characters in SECRET: openssl rand -hex 32"
        )
    return SigningKey(match[1], match[2].encode())


def make_key(name: str) -> str:
    """Return a new key as text, with 256 random bits."""
    return f"{name}:{secrets.token_hex(32)}"


def _sign(key: SigningKey, purpose: str, text: str) -> str:
    message = f"assetserver {purpose}\n{key.name}\n{text}".encode("utf-8", "surrogatepass")
    return urlsafe_b64encode(hmac.digest(key.secret, message, sha256)).rstrip(b"=").decode()
