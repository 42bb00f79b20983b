"""Tokens: who holds the text may do what its record says. Of the secret only a hash is kept.

    ast_ID_SECRET        12 and 48 hexadecimal digits; the prefix is what secret scanners look for

The secret has 192 random bits: a fast hash is enough, there is nothing to guess (a slow one is for passwords).
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from enum import Enum
from hashlib import sha256
from typing import NamedTuple, Protocol

import msgspec

from .principal import Principal

TOKEN_PREFIX = "ast_"  # noqa: S105 - it is what is not secret of a token
_ID_BYTES, _SECRET_BYTES = 6, 24
_TOKEN = re.compile(r"ast_([0-9a-f]{12})_([0-9a-f]{48})")
_NO_DIGEST = "0" * 64


class Token(NamedTuple):
    """A token as it was sent: the ``id`` of its record, and the ``secret`` that proves it."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Token({self.id!r})"

    def __str__(self) -> str:
        """Return the text that its holder keeps."""
        return f"{TOKEN_PREFIX}{self.id}_{self.secret}"


class TokenRecord(msgspec.Struct, frozen=True):
    """What is kept of a token: ``digest`` is the SHA-256 of its secret, in hexadecimal; times in seconds since 1970."""

    id: str
    digest: str
    scopes: tuple[str, ...]
    created: float
    prefix: str = ""
    note: str = ""
    expires: float | None = None
    revoked: float | None = None

    def is_expired(self, now: float) -> bool:
        """Tell whether the token has ended by ``now``."""
        return self.expires is not None and now >= self.expires


class TokenRefusal(Enum):
    """Why a token does not count; the value is what the client is told."""

    UNKNOWN = "the token is not valid here"
    EXPIRED = "the token has expired"
    REVOKED = "the token was revoked"


class TokenRecords(Protocol):
    """Where tokens are kept. All methods block; they may be called from any thread, of several processes at once."""

    def add(self, record: TokenRecord) -> None:
        """Keep a new token; on return it survives a crash of the machine."""
        ...

    def find(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id, revoked ones too, or None."""
        ...

    def list_all(self) -> list[TokenRecord]:
        """Return all tokens, the oldest first."""
        ...

    def revoke(self, token_id: str, now: float) -> bool:
        """Make a token void from now on; return whether there was one that was not."""
        ...


def issue_token(
    scopes: Iterable[str], *, now: float, prefix: str = "", note: str = "", lifetime_s: float | None = None
) -> tuple[Token, TokenRecord]:
    """Return a new token and what is to be kept of it."""
    token = Token(secrets.token_hex(_ID_BYTES), secrets.token_hex(_SECRET_BYTES))
    expires = None if lifetime_s is None else now + lifetime_s
    return token, TokenRecord(token.id, _digest(token), tuple(dict.fromkeys(scopes)), now, prefix, note, expires)


def parse_token(text: str) -> Token | None:
    """Return the token that ``text`` is, or None: then there is nothing to look up."""
    match = _TOKEN.fullmatch(text)
    return Token(match[1], match[2]) if match else None


def verify_token(token: Token, record: TokenRecord | None, *, now: float) -> Principal | TokenRefusal:
    """Return who holds ``token``, whose id found ``record``, or why it does not count; ``now`` in seconds since 1970.

    That a token has expired or was revoked is told only to who holds it: the hash is compared first, in constant time.
    """
    matches = hmac.compare_digest(_digest(token), record.digest if record else _NO_DIGEST)
    if record is None or not matches:
        return TokenRefusal.UNKNOWN
    if record.revoked is not None:
        return TokenRefusal.REVOKED
    if record.is_expired(now):
        return TokenRefusal.EXPIRED
    return Principal(record.id, frozenset(record.scopes), record.prefix, expires=record.expires)


def _digest(token: Token) -> str:
    return sha256(token.secret.encode()).hexdigest()
