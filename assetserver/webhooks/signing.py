"""Signatures of webhooks. Pure.

Source: Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): HMAC-SHA256 over ``id.timestamp.body``, by every secret that
counts, so that secrets can be replaced; receivers accept any, and refuse old timestamps.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_SHORTEST, _LONGEST = 24, 64


def parse_secret(text: str) -> bytes:
    """Return the bytes of a secret, ``whsec_`` and 24 to 64 bytes in base64. Raises ``ValueError`` for what is none."""
    if not text.startswith(_PREFIX):
        raise ValueError(f"it does not begin with {_PREFIX}")
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("it is not base64") from error
    if not _SHORTEST <= len(secret) <= _LONGEST:
        raise ValueError(f"it has {len(secret)} bytes, not {_SHORTEST} to {_LONGEST}")
    return secret


def sign_fields(secrets: Sequence[bytes], event_id: str, sent_s: int, body: bytes) -> dict[str, str]:
    """Return the fields of a webhook that is sent at ``sent_s``, in seconds since 1970."""
    signed = f"{event_id}.{sent_s}.".encode() + body
    digests = (hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets)
    signatures = " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)
    return {"webhook-id": event_id, "webhook-timestamp": str(sent_s), "webhook-signature": signatures}
