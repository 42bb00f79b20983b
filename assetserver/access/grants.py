"""Presigned upload grants: what an application's server gives to a browser, so that it may upload this much, and only that.

A grant is a signed text; nothing of it is kept but how often it was used. It is void when the token that made it is.

    asg_PAYLOAD.KEY.SIGNATURE        PAYLOAD is base64url of JSON
"""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from enum import Enum
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from .keys import KeyRing, Signed

GRANT_PREFIX = "asg_"
LIMIT_GRANT = 4096
"""Longest grant that is read at all, in characters."""
SKEW_S = 60.0
"""How far the clocks of two servers may differ."""
LIMIT_TYPES = 32
_PURPOSE = "upload grant 1"
_NONCE_BYTES = 16
_GRANT = re.compile(r"asg_([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{43})")

MediaTypePattern = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}/(?:\*|[a-z0-9][a-z0-9.+-]{0,126})$",
        description='a media type in lower case, such as "image/png" or "image/*"',
    ),
]


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may be uploaded.

    At most ``max_size`` bytes (None: what the server allows), of ``types`` (none: of any), by names that begin with ``prefix``,
    into ``collection``, ``uses`` times (0: as often as wanted), before ``expires`` (seconds since 1970). ``issuer`` is the id
    of the token that made it.
    """

    id: str
    issuer: str
    expires: float
    max_size: int | None = None
    types: tuple[str, ...] = ()
    prefix: str = ""
    collection: str = ""
    uses: int = 1


class GrantRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``POST /-/api/grants`` takes; see ``Grant``. ``lifetime_s``: how long it is valid, one hour if not said."""

    lifetime_s: Annotated[float, Meta(gt=0, le=7 * 86400)] = 3600.0
    max_size: Annotated[int, Meta(ge=0, le=1 << 50)] | None = None
    types: Annotated[tuple[MediaTypePattern, ...], Meta(max_length=LIMIT_TYPES)] = ()
    prefix: Annotated[str, Meta(max_length=255)] = ""
    collection: Annotated[
        str, Meta(pattern=r"^(?:[a-z0-9][a-z0-9._-]{0,62})?$", description="the name of a collection, or empty")
    ] = ""
    uses: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class GrantRefusal(Enum):
    """Why a text is no grant; the value is what the client is told."""

    MALFORMED = "this is not a grant"
    UNSIGNED = "the grant was not made by this server, or was changed"
    EXPIRED = "the grant has expired"


class GrantRecords(Protocol):
    """How often each grant was used. All methods block; they may be called from any thread, of several processes at once."""

    def claim(self, grant: Grant) -> bool:
        """Count a use of ``grant`` and return True, or False if it has been used as often as it may be."""
        ...

    def release(self, grant: Grant) -> None:
        """Take a use back: what it was claimed for has failed."""
        ...

    def forget_expired(self, now: float) -> int:
        """Forget the grants that expired before ``now`` (seconds since 1970); return how many."""
        ...


def issue_grant(
    ring: KeyRing, wanted: GrantRequest, *, issuer: str, now: float, issuer_expires: float | None = None
) -> tuple[str, Grant]:
    """Return a new grant, as text for the client and as value; it ends with its issuer at the latest.

    ``now`` and ``issuer_expires`` in seconds since 1970; None for an issuer that does not end.
    """
    expires = now + wanted.lifetime_s
    grant = Grant(
        id=secrets.token_hex(_NONCE_BYTES),
        issuer=issuer,
        expires=expires if issuer_expires is None else min(expires, issuer_expires),
        max_size=wanted.max_size,
        types=wanted.types,
        prefix=wanted.prefix,
        collection=wanted.collection,
        uses=wanted.uses,
    )
    return format_grant(ring, grant), grant


def format_grant(ring: KeyRing, grant: Grant) -> str:
    """Return the signed text of ``grant``."""
    payload = urlsafe_b64encode(msgspec.json.encode(grant, order="deterministic")).rstrip(b"=").decode()
    signed = ring.sign(_PURPOSE, payload)
    return f"{GRANT_PREFIX}{payload}.{signed.key}.{signed.signature}"


def parse_grant(ring: KeyRing, text: str, *, now: float) -> Grant | GrantRefusal:
    """Return the grant that ``text`` is, or why it is none. Never raises; the signature is verified before anything is read."""
    match = _GRANT.fullmatch(text) if len(text) <= LIMIT_GRANT else None
    if match is None:
        return GrantRefusal.MALFORMED
    if not ring.verify(_PURPOSE, match[1], Signed(match[2], match[3])):
        return GrantRefusal.UNSIGNED
    try:
        grant = msgspec.json.decode(urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)), type=Grant)
    except (msgspec.MsgspecError, binascii.Error):  # signed by another version of this program
        return GrantRefusal.MALFORMED
    return grant if now < grant.expires + SKEW_S else GrantRefusal.EXPIRED


def is_allowed(media_type: str, types: tuple[str, ...]) -> bool:
    """Tell whether a media type, parameters aside, is one of ``types``, such as ``image/png`` or ``image/*``; () is all."""
    bare = media_type.partition(";")[0].strip().lower()
    family = bare.partition("/")[0] + "/*"
    return not types or bare in types or family in types
