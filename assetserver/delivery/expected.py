"""What ``protocol`` builds on that is Uvicorn's own, and no promise of it."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXPECTED = (
    *("connection_made", "connection_lost", "data_received", "send_400_response", "on_message_begin", "on_url", "on_header"),
    *("on_headers_complete", "on_body", "on_message_complete", "on_response_complete", "_unset_keepalive_if_required"),
    *("_should_upgrade", "handle_websocket_upgrade"),
)


def what_is_missing() -> str:
    """Return which method of Uvicorn's protocol is not there, or ""."""
    return next((name for name in _EXPECTED if not callable(getattr(HttpToolsProtocol, name, None))), "")
