"""What is asked for most, day by day, on disk: a small file for each day and each process that serves, bounded and merged.

Written every few seconds, and not synced: after a power cut, a day may lack its last moments, or what one process counted. Days
are those of UTC. Files of another version, or damaged, count for nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import msgspec

from .board import Block
from .families import CACHE_RESULTS, CODINGS, family
from .requests import Interest
from .sketch import Frequent, Sketch

CAPACITY = 1000
LIMIT_NAME = 512
"""Longer paths are cut: they are for people."""

KEEP_DAYS = 35
_DAY_S = 86_400
_FILE = re.compile(r"(\d{4}-\d\d-\d\d)\.\d+\.json")
_CACHE = family("cache_requests_total")


class Kept(msgspec.Struct, frozen=True):
    """A sketch as it is written."""

    floor: int
    rows: list[Frequent]


class Day(msgspec.Struct, frozen=True):
    """What one process, or all of them, counted in a day: assets, missing names with a fingerprint, and results of the cache.

    ``cache`` has the number of answers by coding, and in it by result.
    """

    assets: Kept
    missing: Kept
    cache: dict[str, dict[str, int]]


class Popular(Interest):
    """Counts for one process, whose counters are ``block``; ``folder`` is where days are kept, "" for nowhere.

    To be used in one thread; ``write`` may be called from any.
    """

    def __init__(self, block: Block, folder: str = "", now: Callable[[], float] = time.time) -> None:
        self._block = block
        self._folder = folder
        self._now = now
        self._is_changed = False
        self._begin(_name_day(now()))
        self._resume()

    def note(self, path: str, count: int, *, is_missing: bool) -> None:
        """Hear that ``path`` was asked for ``count`` times more."""
        self._is_changed = True
        (self._missing if is_missing else self._assets).add(path[:LIMIT_NAME], count)

    def today(self) -> Day:
        """Return what was counted today."""
        return Day(_keep(self._assets), _keep(self._missing), self._cache())

    def take(self) -> tuple[str, bytes] | None:
        """Return what is to be written, as path and content, or None for nothing new; begin the next day if it is there.

        To be called every few seconds.
        """
        taken = (self._path(), msgspec.json.encode(self.today())) if self._is_changed and self._folder else None
        self._is_changed = False
        if (day := _name_day(self._now())) != self._day:
            self._begin(day)
        return taken

    def _begin(self, day: str) -> None:
        self._day = day
        self._assets, self._missing = Sketch(CAPACITY), Sketch(CAPACITY)
        self._before = self._read_slots()
        self._carried: dict[str, dict[str, int]] = {}

    def _resume(self) -> None:
        """Go on with what the last process of this place counted today."""
        day = _read(self._path()) if self._folder and self._block.place >= 0 else None
        if day is not None:
            self._assets, self._missing = _restore(day.assets), _restore(day.missing)
            self._carried = day.cache

    def _cache(self) -> dict[str, dict[str, int]]:
        now, found = self._read_slots(), {coding: dict(results) for coding, results in self._carried.items()}
        for (coding, result), count in now.items():
            if more := count - self._before[coding, result]:
                results = found.setdefault(coding, {})
                results[result] = results.get(result, 0) + more
        return found

    def _read_slots(self) -> dict[tuple[str, str], int]:
        slots = self._block.slots
        return {(coding, result): slots[_CACHE.slot(result, coding)] for coding in CODINGS for result in CACHE_RESULTS}

    def _path(self) -> str:
        return os.path.join(self._folder, f"{self._day}.{max(0, self._block.place)}.json")


def write(path: str, content: bytes) -> None:
    """Replace a file, in a folder that is made, but not what that is in. That it cannot be written harms nobody."""
    with suppress(OSError):
        os.mkdir(os.path.dirname(path), 0o700)
    with suppress(OSError):
        with open(path + "~", "wb") as file:
            file.write(content)
        os.replace(path + "~", path)


def remove_old(folder: str, now: float) -> None:
    """Remove the files of days that nobody looks at any more."""
    first = _name_day(now - KEEP_DAYS * _DAY_S)
    for name, day in _list(folder):
        if day < first:
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def read_days(folder: str, days: int, now: float) -> Day:
    """Return what all processes counted in the last ``days``, today among them."""
    first = _name_day(now - (days - 1) * _DAY_S)
    assets, missing = Sketch(CAPACITY), Sketch(CAPACITY)
    cache: dict[str, dict[str, int]] = {}
    for name, day in _list(folder):
        read = _read(os.path.join(folder, name)) if day >= first else None
        if read is None:
            continue
        assets, missing = assets.merged(_restore(read.assets)), missing.merged(_restore(read.missing))
        for coding, results in read.cache.items():
            known = cache.setdefault(coding, {})
            for result, count in results.items():
                known[result] = known.get(result, 0) + count
    return Day(_keep(assets), _keep(missing), cache)


def _list(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in sorted(names):
        if found := _FILE.fullmatch(name):
            yield name, found[1]


def _read(path: str) -> Day | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Day)
    except (OSError, msgspec.DecodeError):
        return None


def _keep(sketch: Sketch) -> Kept:
    bounded = sketch.bounded()
    return Kept(bounded.floor, bounded.top(CAPACITY))


def _restore(kept: Kept) -> Sketch:
    return Sketch(CAPACITY, kept.floor, kept.rows)


def _name_day(now: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(now))
