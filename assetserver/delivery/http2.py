"""HTTP/2, as an experiment: Uvicorn's own protocol for connections that begin so, ``AssetProtocol`` for all others.

Over TLS the client chooses by ALPN; in clear it begins with the preface of HTTP/2 ("prior knowledge"). Such connections know
neither the hot path nor files that the kernel sends, nor our deadlines and limits: Uvicorn's apply.

Source: RFC 9113 §3.3, §3.4.
"""

from __future__ import annotations

from uvicorn.protocols.http.auto_zttp_impl import AutoZttpProtocol
from uvicorn.protocols.http.zttp_h2_impl import ZttpH2Protocol

from .protocol import AssetProtocol


class EitherProtocol(AutoZttpProtocol):
    """A connection of which it is not known yet what it will speak."""

    def _switch(self, http2: bool, initial_data: bytes = b"") -> None:
        make = ZttpH2Protocol if http2 else AssetProtocol
        protocol = make(config=self.config, server_state=self.server_state, app_state=self.app_state, _loop=self.loop)
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if initial_data:
            protocol.data_received(initial_data)
