"""A network that breaks: a proxy on loopback that cuts connections once so many bytes have gone up."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self

PIECE_BYTES = 16 << 10
RESET = struct.pack("ii", 1, 0)


class BreakingProxy:
    """Passes bytes on to ``target``; resets every connection whose turn it is when ``cuts`` bytes have gone up in all.

    ``cuts``: totals of bytes from clients, ascending; at each, the connection that brought it there is reset on both sides.
    """

    def __init__(self, cuts: list[int]) -> None:
        self.cut = 0
        self.target = ("", 0)
        self._cuts = list(cuts)
        self._passed = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self.target)
                threading.Thread(target=self._pass_up, args=(client, server), daemon=True).start()
                threading.Thread(target=_pass, args=(server, client), daemon=True).start()

    def _pass_up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                server.sendall(piece)
                if self._is_time(len(piece)):
                    for end in (client, server):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        end.shutdown(socket.SHUT_RDWR)
                        end.close()
                    return
            server.shutdown(socket.SHUT_WR)

    def _is_time(self, count: int) -> bool:
        with self._lock:
            self._passed += count
            if self._cuts and self._passed >= self._cuts[0]:
                self._cuts.pop(0)
                self.cut += 1
                return True
            return False


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
