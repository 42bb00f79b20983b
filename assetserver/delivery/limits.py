"""Deadlines and limits of a connection that are no settings: who is honest never meets them."""

from __future__ import annotations

LIMIT_URL_BYTES = 16 << 10
LIMIT_FIELDS = 128
LIMIT_HEADER_BYTES = 64 << 10
LIMIT_UNREAD_BYTES = LIMIT_URL_BYTES + LIMIT_HEADER_BYTES + 4 * LIMIT_FIELDS

HEADER_S = 10.0
"""How long a client may take for the header of a request."""

BODY_IDLE_S = 30.0
"""How long a client may send nothing of a body that is waited for."""

LEFTOVER_S = 60.0
"""How long the rest of a body may come once its request was answered, however busily."""

SEND_IDLE_S = 60.0
"""How long a client may take nothing of an answer."""
