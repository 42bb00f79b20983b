"""Counters in memory that a server's processes share: one block each, which the next process takes over.

Laws:
- A block is written by one process at a time: whoever holds its lock, which the kernel takes back from one that dies.
- Counters only grow: a block is never cleared, whoever has it. Gauges are those of who has it, and nobody's count as 0.
- A slot is written by one thread, or through ``Block.add``.
- Nothing lies on disk, but for workers that run apart (``apart``). The memory is a descriptor (``memfd_create``), which forks
  inherit, and a master that executes itself anew hands over by number.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from .families import GAUGES, LAYOUT, NANOSECONDS, SLOT_BYTES, SLOTS, Family

_NAME = "assetserver-metrics"
_PAGE = mmap.PAGESIZE
_HEADER = struct.Struct("=QQ")  # layout, number of blocks
_TITLE_SLOTS = 4  # process id, role, when it began (ns since 1970), unused
_PID, _ROLE, _STARTED = range(3)
_BLOCK_BYTES = -(-(_TITLE_SLOTS + SLOTS) * SLOT_BYTES // _PAGE) * _PAGE
_FLOCK = struct.Struct("hhqqi0q")  # struct flock: type, whence, start, length, process id


class Role(IntEnum):
    """What a process does that has a block."""

    SERVER = 1
    JOBS = 2
    MASTER = 3


class Reading(NamedTuple):
    """A block as it was read: who has it (``pid`` is 0 if nobody does), since when (seconds since 1970), and its slots."""

    place: int
    pid: int
    role: Role
    started: float
    slots: list[int]


class Block:
    """The counters of one process: ``slots`` are 64-bit numbers; see ``families``."""

    def __init__(self, place: int, words: memoryview) -> None:
        self.place = place
        self._title = words[:_TITLE_SLOTS]
        self.slots = words[_TITLE_SLOTS : _TITLE_SLOTS + SLOTS]
        self._lock = threading.Lock()

    def take(self, role: Role) -> None:
        """Begin to write it: counters go on, gauges begin anew."""
        for slot in GAUGES:
            self.slots[slot] = 0
        self._title[_PID], self._title[_ROLE], self._title[_STARTED] = os.getpid(), role, time.time_ns()

    def add(self, slot: int, count: int = 1) -> None:
        """Count, from any thread."""
        with self._lock:
            self.slots[slot] += count

    def observe(self, histogram: Family, first: int, seconds: float) -> None:
        """Note a duration in the series of a histogram whose slots begin at ``first``, from any thread."""
        with self._lock:
            self.slots[first + histogram.bucket(seconds)] += 1
            self.slots[first + histogram.width - 1] += max(0, int(seconds * NANOSECONDS))

    def read(self, pid: int) -> Reading:
        """Return what it holds now; ``pid`` is who has it."""
        return _to_reading(self.place, pid, [*self._title.tolist(), *self.slots.tolist()])


class Board:
    """All blocks of a server. ``descriptor`` is the shared memory, -1 where no other process has it."""

    def __init__(self, places: int = 1, descriptor: int = -1) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _PAGE + places * _BLOCK_BYTES)
        words = memoryview(self._memory)
        self._blocks = [
            Block(place, words[start : start + _BLOCK_BYTES].cast("Q"))
            for place, start in enumerate(range(_PAGE, _PAGE + places * _BLOCK_BYTES, _BLOCK_BYTES))
        ]
        self._own: Block | None = None
        self._owner = 0

    @property
    def places(self) -> int:
        """How many blocks there are."""
        return len(self._blocks)

    def claim(self, role: Role = Role.SERVER) -> Block:
        """Return the block of this process: the first that nobody has. May be repeated.

        Where all are taken, one that nobody else sees: what it counts is lost, and nothing else is.
        """
        if self._own is not None and self._owner == os.getpid():
            return self._own
        block = next((one for one in self._blocks if self._lock(one)), None)
        if block is None:
            block = Block(-1, memoryview(mmap.mmap(-1, _BLOCK_BYTES)).cast("Q"))
        block.take(role)
        self._own, self._owner = block, os.getpid()
        return block

    def read(self) -> Iterator[Reading]:
        """Yield what every block holds."""
        for block in self._blocks:
            yield block.read(self._holder(block))

    def total(self) -> list[int]:
        """Return all slots, added up; gauges only of processes that live."""
        return add_up(list(self.read()))

    def _lock(self, block: Block) -> bool:
        if self.descriptor < 0:
            return True
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _PAGE + block.place * _BLOCK_BYTES)
        except OSError:
            return False
        return True

    def _holder(self, block: Block) -> int:
        """Return the id of the process that has a block, or 0. One's own lock is not told of: it is in nobody's way."""
        if self._owner == os.getpid() and block is self._own:
            return self._owner
        if self.descriptor < 0:
            return 0
        return _holder(self.descriptor, block.place)


def add_up(readings: Sequence[Reading]) -> list[int]:
    """Return all slots of at least one reading, added up; gauges only of processes that live."""
    totals = list(map(sum, zip(*(one.slots for one in readings), strict=True)))
    living = [one.slots for one in readings if one.pid]
    for slot in GAUGES:
        totals[slot] = sum(one[slot] for one in living)
    return totals


def _holder(descriptor: int, place: int) -> int:
    """Return the id of the process that holds the lock of a block, or 0."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _PAGE + place * _BLOCK_BYTES, 1, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return pid if kind != fcntl.F_UNLCK else 0


def _to_reading(place: int, pid: int, words: Sequence[int]) -> Reading:
    """Return a block as it is in its ``words``, title and slots."""
    role = Role(words[_ROLE] or Role.SERVER)
    return Reading(place, pid, role, words[_STARTED] / NANOSECONDS, list(words[_TITLE_SLOTS : _TITLE_SLOTS + SLOTS]))


def create_board(places: int) -> Board:
    """Return a board for ``places`` processes, and those that replace them before they ended, which forks share."""
    descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC)
    return _grow(descriptor, places)


def adopt_board(descriptor: int, places: int) -> Board:
    """Return the board behind an inherited ``descriptor``, with room for ``places``: counters go on.

    One of another version's layout means something else: then a new one, and the descriptor is closed. Raises ``OSError`` for
    what is no board.
    """
    had = places_in(descriptor)
    if not had:
        os.close(descriptor)
        return create_board(places)
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only argument
    return _grow(descriptor, max(had, places))


def _grow(descriptor: int, places: int) -> Board:
    os.ftruncate(descriptor, file_bytes(places))
    write_header(descriptor, places)
    return Board(places, descriptor)


# What lies behind a descriptor


def file_bytes(places: int) -> int:
    """Return how much memory a board takes."""
    return _PAGE + places * _BLOCK_BYTES


def write_header(descriptor: int, places: int) -> None:
    """Say of ``file_bytes(places)`` of memory that it is a board."""
    os.pwrite(descriptor, _HEADER.pack(LAYOUT, places), 0)


def places_in(descriptor: int) -> int:
    """Return how many blocks a board has; 0 for one of another layout, and for what is none. Raises ``OSError``."""
    layout, places = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0).ljust(_HEADER.size, b"\0"))
    return places if layout == LAYOUT and os.fstat(descriptor).st_size == file_bytes(places) else 0


def read_blocks(descriptor: int, places: int) -> Iterator[Reading]:
    """Yield what ``places`` blocks hold, without mapping them; none of them may be one's own. Raises ``OSError``."""
    for place in range(places):
        words = memoryview(os.pread(descriptor, _BLOCK_BYTES, _PAGE + place * _BLOCK_BYTES).ljust(_BLOCK_BYTES, b"\0"))
        yield _to_reading(place, _holder(descriptor, place), words.cast("Q"))
