"""What every request meets first: who it is of, and what is told of it, in logs and spans."""

from __future__ import annotations

from typing import Any

from starlette.middleware import Middleware

from .delivery.forwarding import Forwarding, Proxies
from .delivery.preamble import PREAMBLE, Preambles
from .errors import SettingsError
from .observe import LOG, AccessLog, FileSink, JournalSink, LogWriter, RequestIds, StreamSink
from .semantics.forwarding import TrustedProxies
from .settings import Settings
from .spans import Spans, Traced


class Entrance:
    """The parts that ``settings`` ask for; ``ids`` and ``writer`` are None where they want none.

    Raises ``SettingsError`` where the PROXY protocol is demanded, and nobody may speak it, or other things come first.
    """

    def __init__(self, settings: Settings) -> None:
        server = settings.server
        trusted = TrustedProxies(server.trusted_proxies)
        self.ids = RequestIds() if server.request_id else None
        self.proxies = Proxies(trusted, server.forwarded_fields, server.forwarded_host)
        self.writer = self._open_log(settings)
        self._preambles = None if server.proxy_protocol == "off" else Preambles(server.proxy_protocol, trusted)
        self._spans = Spans()
        if self._preambles and (wrong := _what_is_wrong(settings)):
            raise SettingsError(f"{settings.locate('server', 'proxy_protocol')}: server.proxy_protocol {wrong}")

    def _open_log(self, settings: Settings) -> LogWriter | None:
        form, path = settings.server.access_log, settings.server.access_log_file
        if form == "off":
            return None
        in_file = FileSink(path) if path else StreamSink()
        find_client = self.proxies.find_client if self.proxies.trusted else None
        return LogWriter(form, JournalSink() if form == "journald" else in_file, self.ids, find_client)

    def middleware(self) -> list[Middleware]:
        """Return what stands around the application, the outermost first."""
        return [
            Middleware(Forwarding, self.proxies),
            Middleware(Traced, self._spans),
            Middleware(AccessLog, self.writer, self.ids),
        ]

    def state(self) -> dict[str, Any]:
        """Return what the server and its connections find in the lifespan state."""
        return {LOG: self.writer, PREAMBLE: self._preambles}

    def open(self) -> None:
        """Begin to write: in the process that serves."""
        self._spans.open()
        if self.writer is not None:
            self.writer.start()

    async def close(self) -> None:
        """Write and send what is left, each for a few seconds at most."""
        await self._spans.close()
        if self.writer is not None:
            self.writer.close()


def _what_is_wrong(settings: Settings) -> str:
    """Return why the PROXY protocol cannot be demanded, or ""."""
    server = settings.server
    if not server.trusted_proxies:
        return "wants server.trusted_proxies: those who may send it"
    if server.tls_certificate or server.http2:
        return "goes with neither TLS nor HTTP/2 here: its header comes before both; let who sends it end them"
    return ""
