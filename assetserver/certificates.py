"""TLS: the certificate and its key, read again when their files change; who connects from then on gets the new one.

A connection keeps the certificate that it began with. Each new one is given the newest context in its handshake (the callback
of SNI, which is called whether a name is sent or not), so a pair that does not fit never takes the place of one that does:
nothing of a context that serves is ever changed.

Versions and ciphers: Mozilla's "intermediate" configuration (https://wiki.mozilla.org/Security/Server_Side_TLS, 5.7), of whose
ciphers those with forward secrecy by elliptic curves.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Sequence

from .errors import SettingsError
from .settings import Settings
from .wording import short_path

logger = logging.getLogger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of 1.3 are all good."""


class Certificates:
    """The pair of PEM files at ``certificate``, with intermediates, and ``key``. ``protocols``: those of ALPN, best first."""

    def __init__(self, certificate: str, key: str, protocols: Sequence[str]) -> None:
        self._paths = (certificate, key)
        self._protocols = list(protocols)
        self._mark = self._look()
        self._newest = self._load()
        self.context = self._load()
        """What a listening socket is opened with; it only hands on to the newest."""
        self.context.sni_callback = self._choose

    def refresh(self) -> bool:
        """Look whether the files changed; return whether another certificate is used from now on. A bad one is logged."""
        mark = self._look()
        if mark == self._mark:
            return False
        try:
            self._newest = self._load()
        except (OSError, ValueError) as error:
            if mark is not None:  # while it is being replaced, one of them may not be there
                logger.error("the certificate was changed, and the one before stays in use: %s", describe(error, *self._paths))  # noqa: TRY400
                self._mark = mark
            return False
        self._mark = mark
        logger.warning("a new certificate is in use: %s", self._paths[0])
        return True

    def _choose(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _look(self) -> tuple[tuple[int, int, int], ...] | None:
        """Return what tells the files from those of another moment, or None if one of them is not there."""
        try:
            found = [os.stat(path) for path in self._paths]
        except OSError:
            return None
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(self._protocols)
        context.load_cert_chain(*self._paths, password=_refuse_password)
        return context


def open_certificates(settings: Settings) -> Certificates | None:
    """Return the certificate of ``settings``, None if they name none. Raises ``SettingsError`` for what cannot be used."""
    protocols = ("h2", "http/1.1") if settings.server.http2 else ("http/1.1",)
    certificate, key = settings.server.tls_certificate, settings.server.tls_key
    if not certificate:
        return None
    try:
        return Certificates(certificate, key or certificate, protocols)
    except (OSError, ValueError) as error:
        place = settings.locate("server", "tls_certificate")
        raise SettingsError(f"{place}: {describe(error, certificate, key or certificate)}") from error


def describe(error: Exception, certificate: str, key: str) -> str:
    """Say what is wrong with a pair of files, in words that lead somewhere."""
    names = f"{short_path(certificate)} and {short_path(key)}" if key != certificate else short_path(certificate)
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, FileNotFoundError | PermissionError):
        missing = next((path for path in (certificate, key) if not os.access(path, os.R_OK)), certificate)
        return f"{short_path(missing)} cannot be read ({error.strerror}); name PEM files with tls_certificate and tls_key"
    if reason == "KEY_VALUES_MISMATCH":
        return f"{names} do not belong together; name the key that the certificate was made for with tls_key"
    if isinstance(error, ValueError):
        return f"the key in {short_path(key)} is encrypted; store it without a password, readable by this user alone"
    what = f" ({reason.lower().replace('_', ' ')})" if reason else ""
    return f"{names} hold no certificate and key in PEM{what}; a certificate comes first, then those that signed it"


def _refuse_password() -> str:
    raise ValueError("the key is encrypted")
