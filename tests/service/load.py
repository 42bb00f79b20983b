"""Clients that ask again and again, until stdin ends; then a line of JSON says how many answers they had, and what was lost.

usage: load.py PORT CLIENTS. Every second client opens a connection for each request; the others keep theirs until an answer
says that it is the last, or they see that it was closed. A request that was sent and not answered in full is lost.
"""

import json
import socket
import sys
import threading
import time

REQUEST = b"GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n"
CONTENT = b"hello world"
LIMIT_S = 30.0


class Client(threading.Thread):
    """One client; ``answered`` and ``slowest_s`` are of it alone."""

    def __init__(self, port: int, is_over: threading.Event, *, keeps: bool) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._is_over = is_over
        self._keeps = keeps
        self._connection: socket.socket | None = None
        self.answered = self.noticed = 0
        self.slowest_s = 0.0
        self.lost: list[str] = []

    def run(self) -> None:
        while not self._is_over.is_set():
            begun_s = time.monotonic()
            try:
                self._ask()
            except OSError as error:
                self.lost.append(repr(error))
                self._hang_up()
            self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)

    def _ask(self) -> None:
        if self._connection is None or self._is_closed(self._connection):
            self._connection = socket.create_connection(("127.0.0.1", self._port), LIMIT_S)
        self._connection.sendall(REQUEST)
        received = b""
        while not received.endswith(CONTENT):
            piece = self._connection.recv(4096)
            if not piece:
                raise ConnectionError(f"an answer ended after {len(received)} bytes")
            received += piece
        if not received.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(received[:40].decode("latin-1"))
        self.answered += 1
        if not self._keeps or b"connection: close" in received:
            self._hang_up()

    def _is_closed(self, connection: socket.socket) -> bool:
        connection.settimeout(0)
        try:
            if connection.recv(1, socket.MSG_PEEK):
                raise ConnectionError("an answer to nothing")
        except BlockingIOError:
            return False
        finally:
            connection.settimeout(LIMIT_S)
        self.noticed += 1
        self._hang_up()
        return True

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    is_over = threading.Event()
    clients = [Client(port, is_over, keeps=index % 2 == 0) for index in range(count)]
    for one in clients:
        one.start()
    while sys.stdin.readline():  # each line is a question: how many so far?
        print(sum(one.answered for one in clients), flush=True)
    is_over.set()
    for one in clients:
        one.join(LIMIT_S)
    told = {
        "answered": sum(one.answered for one in clients),
        "noticed": sum(one.noticed for one in clients),
        "lost": [text for one in clients for text in one.lost][:20],
        "slowest_s": max(one.slowest_s for one in clients),
        "alive": sum(one.is_alive() for one in clients),
    }
    print(json.dumps(told), flush=True)


main()
