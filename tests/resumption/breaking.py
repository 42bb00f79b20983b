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
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass bytes both ways until both are done, or the connection is cut."""
        with client, socket.create_connection(self.target) as server:
            down = threading.Thread(target=_pass_down, args=(server, client), daemon=True)
            down.start()
            if self._pass_up(client, server):
                for end in (client, server):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)  # wakes who waits for it; else it stays open behind close()
            down.join()

    def _pass_up(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass bytes to the server; return whether the connection is to be cut."""
        with suppress(OSError):
            while piece := client.recv(PIECE_BYTES):
                server.sendall(piece)
                if self._is_time(len(piece)):
                    return True
            server.shutdown(socket.SHUT_WR)
        return False

    def _is_time(self, count: int) -> bool:
        with self._lock:
            self._passed += count
            if self._cuts and self._passed >= self._cuts[0]:
                self._cuts.pop(0)
                self.cut += 1
                return True
            return False


def _pass_down(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while piece := server.recv(PIECE_BYTES):
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
