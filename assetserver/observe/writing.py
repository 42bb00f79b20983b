"""Writes records in the background, so that no request waits for a slow pipe or disk.

The serving thread notes of a request whose answer is repeated what is there already, and every 64 make a batch of lines, which
it joins itself: two threads that take turns at the interpreter cost each line as much as the line itself. A thread of its own
writes the batches, and joins what is left twice a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from .briefs import FindClient, choose_briefs
from .formats import FORMATS, encode_line
from .identifiers import RequestIds
from .records import Entry, Peer, Record
from .sinks import Sink, StreamSink

logger = logging.getLogger(__name__)

LOG = "assetserver.log"
"""Under this name the lifespan state of an application holds its ``LogWriter``, None if there is none."""

FLUSH_S = 0.5
TURN_LINES = 64
PATIENCE_S = 2.0
AGAIN_S = 5.0
"""How long nothing is written after that failed."""

TELL_EVERY_S = 10.0

LIMIT_TURNS, LIMIT_WAITING = 1024, 32 << 20
"""Most batches of lines that wait to be written, and bytes in them: clients may send 64 KiB of what is logged with each
request. Those beyond are dropped and counted, for the log must not eat the memory."""

_MANY_TURNS = LIMIT_TURNS // 8
"""So many batches are not kept waiting for the next time to write, and written at once: every time that the thread writes, the
one that serves has to give way three times."""

_Turn = tuple[bytes, int]
"""Records as they are written, and how many they are."""

_NOBODY = Peer(None, b"")
"""Whose connection it is does not matter where a line is written already."""


class LogWriter:
    """Writes records to ``sink`` in the background, in one of ``FORMATS``; ``close`` writes what is left.

    ``ids`` are those whose numbers repeated answers have; ``find_client`` finds the client of what came through a proxy. What
    cannot be written is dropped, told once, and counted in ``dropped``: serving goes on.

    ``entries`` are requests whose answers were repeated, until they are joined: who appends one, over a connection that
    ``meet`` made a peer of, calls ``take_turn`` once there are ``turn_lines`` of them. One thread appends, and never waits.
    """

    def __init__(
        self, form: str, sink: Sink | None = None, ids: RequestIds | None = None, find_client: FindClient | None = None
    ) -> None:
        self.dropped = 0
        self._format = FORMATS[form]
        briefs = choose_briefs(form, ids.prefix if ids else b"", find_client)
        self.meet, self._join_entries = briefs.meet, briefs.join
        self._sink = sink or StreamSink()
        self.entries: list[Entry] = []  # the thread that writes only takes from its beginning
        self.turn_lines = 1  # the first one starts the thread
        self._turns: deque[_Turn] = deque()
        self._joined = self._written = 0  # bytes so far, each counted by one thread at a time
        self._told = 0
        self._told_s = self._broken_s = float("-inf")
        self._is_broken = False
        self._is_to_reopen = False
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._joining = threading.Lock()
        self._writing = threading.Lock()

    def append(self, record: Record) -> None:
        """Take a record; never waits. To be called by the thread that appends to ``entries``."""
        self.entries.append((0.0, _NOBODY, None, encode_line(self._format(record)), 0))
        if len(self.entries) >= self.turn_lines:
            self.take_turn()

    @property
    def trouble(self) -> str:
        """What is wrong, or "": records are lost while that is so."""
        return f"{self._sink.name} cannot be written" if self._is_broken else ""

    def reopen(self) -> None:
        """Have what is written from now on go to a file that is opened by its path once more."""
        self._is_to_reopen = True
        self._wake.set()

    def flush(self) -> None:
        """Write what has been taken so far."""
        with self._writing:
            with self._joining:
                self._join_waiting()
            if self._is_to_reopen:
                self._is_to_reopen = False
                self._broken_s = float("-inf")
                self._sink.close()
            while self._turns:
                turns, count = self._take_turns()
                self._write(turns, count)
                self._written += sum(map(len, turns))
            self._tell_dropped()

    def _write(self, turns: list[bytes], count: int) -> None:
        if self._is_broken and time.monotonic() - self._broken_s < AGAIN_S:
            self.dropped += count
            return
        try:
            self.dropped += self._sink.write(turns)
        except (OSError, ValueError) as error:  # the reader of a pipe is gone, the disk is full: serving goes on
            self.dropped += count
            self._note_broken(error)
            return
        if self._is_broken:
            self._is_broken = False
            lost, self._told = self.dropped - self._told, self.dropped
            logger.warning("access log: %s is written to again; about %d records were lost", self._sink.name, lost)

    def _note_broken(self, error: Exception) -> None:
        if not self._is_broken:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            logger.warning("access log: cannot write to %s: %s; records are lost until that works", self._sink.name, reason)
        self._is_broken, self._broken_s = True, time.monotonic()

    def _tell_dropped(self) -> None:
        dropped, now_s = self.dropped - self._told, time.monotonic()
        if dropped and not self._is_broken and now_s - self._told_s >= TELL_EVERY_S:
            self._told, self._told_s = self.dropped, now_s
            logger.warning("access log: %d records dropped; it is not read fast enough", dropped)

    def take_turn(self) -> None:
        """Join what has been taken if there is enough of it, unless the writing thread is at it; see that one is there."""
        if self._thread is None:
            self.start()
        if len(self.entries) < TURN_LINES or not self._joining.acquire(blocking=False):
            return
        try:
            if len(self._turns) >= LIMIT_TURNS or self._joined - self._written >= LIMIT_WAITING:
                self.dropped += len(self.entries)
                self.entries.clear()
            else:
                self._join_waiting()
        finally:
            self._joining.release()
        if len(self._turns) >= _MANY_TURNS and not self._wake.is_set():
            self._wake.set()

    def _join_waiting(self) -> None:
        if taken := self.entries[:]:
            del self.entries[: len(taken)]
            turn = self._join_entries(taken, time.time() - time.monotonic())
            self._joined += len(turn)
            self._turns.append((turn, len(taken)))

    def _take_turns(self) -> tuple[list[bytes], int]:
        """Return the next records to write, not too many, for other processes wait meanwhile; and how many they are."""
        turns = [self._turns.popleft() for _ in range(min(len(self._turns), _MANY_TURNS))]
        return [data for data, _ in turns], sum(count for _, count in turns)

    def close(self) -> None:
        """Write what is left and end the thread. The writer starts anew if it is used again.

        Gives up after ``PATIENCE_S`` if nobody reads the log: stopping must not wait for that.
        """
        thread, self._thread, self.turn_lines = self._thread, None, 1
        if thread is not None:
            self._stop.set()
            self._wake.set()
            thread.join(PATIENCE_S)
            if thread.is_alive():
                waiting = len(self.entries) + sum(count for _, count in tuple(self._turns))
                logger.warning("access log: nobody reads it, about %d records are lost", waiting)

    def start(self) -> None:
        """Begin to write, and say so if that is impossible: not only once there is something to write."""
        self._stop, self.turn_lines = threading.Event(), TURN_LINES
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="assetserver-log", daemon=True)
        self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        with self._writing:
            try:
                self._sink.open()
            except OSError as error:
                self._note_broken(error)
        while not stop.is_set():
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self.flush()
        self.flush()
        self._sink.close()
