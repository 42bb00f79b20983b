"""The last bytes of a body whose client is gone: Uvicorn has them, and would only tell that the client left.

Uploads that go on later keep all that arrived; so what was received is handed over before ``http.disconnect``.
"""

from __future__ import annotations

from typing import Any, Protocol

from starlette.types import Message, Receive


class Exchange(Protocol):
    """What is known of one request: the bytes of its body that nobody has taken, and whether more will come."""

    body: bytes
    more_body: bool
    response_complete: bool


def receive_rest(receive: Receive, exchange: Any) -> Receive:
    """Return ``receive`` that first gives the bytes that are left of the body where it would tell of a client that left."""
    known: Exchange = exchange

    async def receive_all() -> Message:
        message = await receive()
        if message["type"] != "http.disconnect" or not known.body or known.response_complete:
            return message
        rest, known.body = known.body, b""
        return {"type": "http.request", "body": rest, "more_body": known.more_body}

    return receive_all
