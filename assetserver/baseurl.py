"""Where visitors come in, as far as the settings tell."""

from __future__ import annotations

import socket

from .listening import is_loopback
from .settings import Settings

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]"}  # noqa: S104 - what listens on all of them is reached at one


def admin_url(settings: Settings) -> str:
    """Return where the admin listener is, if it has an address of its own; "" for none, and for a Unix socket."""
    listen = settings.admin.listen
    host, _, port = listen.rpartition(":")
    if not host or listen.startswith(("/", "./")):
        return ""
    scheme = "https" if settings.server.tls_certificate and not _is_here(host.strip("[]")) else "http"
    return f"{scheme}://{_ANY_ADDRESS.get(host, host)}:{port}"


def _is_here(host: str) -> bool:
    """Tell whether who listens at ``host`` is heard on this machine alone; as ``listening.leaves_machine`` sees the socket."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return is_loopback(str(found[0][4][0]))


def base_url(settings: Settings) -> str:
    """Return where visitors come in, without a slash at the end, or "" if the settings do not tell."""
    server = settings.server
    if server.public_url:
        return server.public_url
    if server.uds or server.fd >= 0 or not server.port:
        return ""
    host = _ANY_ADDRESS.get(server.host, server.host)
    scheme = "https" if server.tls_certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}"
