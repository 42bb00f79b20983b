"""How commands ask a running server what it does: at its admin listener, or with a token beside everything else."""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit

from .baseurl import admin_url, base_url
from .errors import AssetServerError, UnauthorisedError
from .settings import Settings

PATIENCE_S = 5.0
LIMIT_BYTES = 32 << 20
"""Longest answer that is read: nobody else's server fills our memory."""

_OK = 200
_NO_TOKEN = (401, 403)
_WITHOUT_LISTENER = (
    'set [admin] listen = "127.0.0.1:9000" in the settings and start the server anew, or name a token with --token '
    "(assetserver token create --scope metrics)"
)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket at the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class AdminClient:
    """Asks the server at ``address``: a URL, or the path of a Unix socket. ``token`` is shown if there is one.

    ``certificate``: the file of the one that the server must show, whatever names are in it; without, as browsers judge.
    """

    def __init__(self, address: str, token: str = "", certificate: str = "") -> None:
        self.address = address
        self._token = token
        self._certificate = certificate

    def fetch(self, path: str, *allowed: int) -> bytes:
        """Return what is at ``path``; with another status than 200 if that is ``allowed``. Blocks, for seconds at most.

        Raises ``UnauthorisedError`` if that is not shown to us, ``AssetServerError`` if nobody answers, or otherwise.
        """
        connection = self._open()
        try:
            fields = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            connection.request("GET", path, headers=fields)
            answer = connection.getresponse()
            content = answer.read(LIMIT_BYTES)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AssetServerError(f"no server answers at {self.address}: {reason.lower()}") from error
        finally:
            connection.close()
        if answer.status in _NO_TOKEN:
            raise UnauthorisedError(f"{self.address} does not show this to everybody; {_WITHOUT_LISTENER}", "")
        if answer.status != _OK and answer.status not in allowed:
            raise AssetServerError(f"{self.address}{path} answers {answer.status}: this is no assetserver that tells of itself")
        return content

    def _open(self) -> http.client.HTTPConnection:
        if not self.address.startswith("http"):
            return _UnixConnection(self.address)
        parts = urlsplit(self.address)
        host = parts.hostname or ""
        if parts.scheme != "https":
            return http.client.HTTPConnection(host, parts.port, timeout=PATIENCE_S)
        return http.client.HTTPSConnection(host, parts.port, timeout=PATIENCE_S, context=_trust(self._certificate))


def _trust(certificate: str) -> ssl.SSLContext:
    """Return what believes a server: whoever has the key of ``certificate``, or as browsers do."""
    if not certificate:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=certificate)
    except OSError as error:
        raise AssetServerError(f"{certificate} cannot be read, by which the server is known: {error.strerror}") from error
    context.check_hostname = False  # it is asked at an address, and its certificate has the names that visitors use
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def find_server(settings: Settings, url: str = "", token: str = "") -> AdminClient:
    """Return who asks the server at ``url``, or without one, the server of ``settings``.

    Raises ``AssetServerError`` if the settings do not tell where it is.
    """
    if url:
        return AdminClient(url.rstrip("/"), token)
    own = admin_url(settings) or settings.admin.listen
    url = own or base_url(settings) or settings.server.uds
    if not url:
        raise AssetServerError("the settings do not tell where the server is; name it with --url")
    is_known = own or not settings.server.public_url
    return AdminClient(url, token, settings.server.tls_certificate if is_known else "")
