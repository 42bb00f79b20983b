"""Pictures that were made of others, as files in a cache folder: found by a key, kept within a number of bytes.

    ab/ab12…        a picture: the key is what it is made of and how
    ab/ab12….json   its record: type, size and SHA-256, or why there is none, and what it is made of
    making/         what is being made

Laws:
- A picture counts once its record does, and both come by renaming: whoever is killed leaves nothing that is half there.
- What is found is hashed before it is served: damage, by a crash of the machine as well, is a miss and never a wrong picture.
  So nothing here is synced.
- All of it may be lost at any moment. What was not used for longest goes first.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import NamedTuple

import msgspec

from assetserver.storage.signatures import Signature, sign

from .files import hash_pieces, open_regular, raise_if_overloaded, read_pieces

logger = logging.getLogger(__name__)

LIMIT_REFUSAL = 300
"""Longest reason that is kept, in characters."""

_MAKING = "making"
_SUFFIX = ".json"
_RECORD = "record"
_LIMIT_RECORD = 1 << 14
_BLOCK = 4096
"""What the smallest file takes on disk, in bytes; counted for every one."""
_LOW = 0.9
"""How full the folder is after something had to go, as a share of its limit."""
_LOOK_SHARE = 16
"""The folder is counted anew whenever this part of its limit was added by this process: others add to it, too."""
_ABANDONED_S = 3600.0
_KEY = re.compile(r"[0-9a-f]{64}")


class StoredPicture(NamedTuple):
    """A picture that is there, and whole: where, and what. ``digest`` is its SHA-256.

    ``seen`` is the width and height of what it is made of, the right way up, as who decoded it found.
    """

    path: str
    signature: Signature
    digest: bytes
    media_type: str
    seen: tuple[int, int]


class Refusal(NamedTuple):
    """Why there is no picture, for people."""

    reason: str


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a record says: of a picture, or, with ``refusal``, that there is none until then (seconds since 1970).

    ``source`` is the SHA-256, in hexadecimal, of what it is made of.
    """

    source: str = ""
    media_type: str = ""
    sha256: str = ""
    size: int = 0
    seen: tuple[int, int] = (0, 0)
    refusal: str = ""
    until: float = 0.0


class _Kept(NamedTuple):
    """A key in the folder: when it was used last, and what it takes."""

    used: float
    size: int
    path: str


class VariantStore:
    """The pictures in ``folder``, ``limit_bytes`` of them, shared by processes. All methods block, and may be repeated.

    Each process that keeps pictures may go beyond the limit by a sixteenth of it. ``clock`` is seconds since 1970.
    """

    def __init__(self, folder: str, limit_bytes: int, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._size_bytes = 0
        self._added_bytes = limit_bytes
        self._lock = threading.Lock()

    def is_known(self, key: str) -> bool:
        """Tell whether ``find`` may find something: one stat."""
        return os.path.exists(self._path_of(key) + _SUFFIX)

    def find(self, key: str) -> StoredPicture | Refusal | None:
        """Return the picture of ``key``, or why there is none, or None if that is not known. Counts as a use.

        Raises ``OverloadedError`` where the process is out of descriptors.
        """
        path = self._path_of(key)
        try:
            with open(path + _SUFFIX, "rb") as file:
                record = msgspec.json.decode(file.read(_LIMIT_RECORD), type=_Record)
            if record.refusal:
                return Refusal(record.refusal) if self._clock() < record.until else None
            if 0 in record.seen:  # it was written by an earlier version
                return None
            descriptor, status = open_regular(path)
        except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
            return None
        except OSError as error:
            raise_if_overloaded(error, "open a picture")
            logger.warning("%s is not used: %s", path, error.strerror)
            return None
        try:
            digest, size = hash_pieces(read_pieces(descriptor))
            if (digest.hex(), size) != (record.sha256, record.size) or sign(os.fstat(descriptor)) != sign(status):
                return None
        finally:
            os.close(descriptor)
        self.touch(key)
        return StoredPicture(path, sign(status), digest, record.media_type, record.seen)

    def touch(self, key: str) -> None:
        """Note that a picture is used."""
        with suppress(OSError):
            os.utime(self._path_of(key) + _SUFFIX)

    def keep(self, key: str, file: str, media_type: str, source: str, seen: tuple[int, int]) -> None:
        """Take ``file``, made of ``source`` in a folder of ``making``, as the picture of ``key``. Raises ``OSError``.

        ``seen`` is the size of the source.
        """
        descriptor, _ = open_regular(file)
        try:
            digest, size = hash_pieces(read_pieces(descriptor))
        finally:
            os.close(descriptor)
        self._place(file, self._path_of(key))
        self._record(key, _Record(source=source, media_type=media_type, sha256=digest.hex(), size=size, seen=seen))
        self._account(_on_disk(size) + _BLOCK)

    def refuse(self, key: str, reason: str, keep_s: float, source: str) -> None:
        """Note for ``keep_s`` why there is no picture of ``key``, to be made of ``source``. Raises ``OSError``."""
        until = self._clock() + keep_s
        self._record(key, _Record(source=source, refusal=reason[:LIMIT_REFUSAL] or "unknown", until=until))
        self._account(_BLOCK)

    def sweep(self, has_source: Callable[[str], bool]) -> int:
        """Remove what is made of sources that are not there any more, or that no record tells; return how many pictures.

        ``has_source`` is asked once for each.
        """
        ask, before, removed = lru_cache(maxsize=None)(has_source), self._clock() - _ABANDONED_S, 0
        for one in self._list_kept():
            source = _read_source(one.path)
            if source is None and one.used > before:  # it is about to get its record
                continue
            if not source or not ask(source):
                _remove(one.path)
                removed += 1
        return removed

    @contextmanager
    def making(self) -> Iterator[str]:
        """Give an empty folder to make a picture in; it is removed at the end. Raises ``OSError``."""
        above = os.path.join(self.folder, _MAKING)
        os.makedirs(above, 0o700, exist_ok=True)
        folder = tempfile.mkdtemp(dir=above)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _path_of(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key")
        return os.path.join(self.folder, key[:2], key)

    def _record(self, key: str, record: _Record) -> None:
        """Write a record beside what is being made: nobody who trims the folder sees it before it is whole."""
        with self.making() as folder:
            path = os.path.join(folder, _RECORD)
            with open(path, "wb") as file:
                file.write(msgspec.json.encode(record))
            self._place(path, self._path_of(key) + _SUFFIX)

    def _place(self, file: str, path: str) -> None:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.replace(file, path)

    # The limit

    def _account(self, added_bytes: int) -> None:
        with self._lock:
            self._added_bytes += added_bytes
            self._size_bytes += added_bytes
            if self._size_bytes > self._limit_bytes or self._added_bytes > self._limit_bytes // _LOOK_SHARE:
                self._trim()

    def _trim(self) -> None:
        """Count what is there; if it is too much, remove what was not used for longest."""
        kept = sorted(self._list_kept())
        self._size_bytes, self._added_bytes = sum(one.size for one in kept), 0
        self._sweep()
        if self._size_bytes <= self._limit_bytes:
            return
        for one in kept:
            if self._size_bytes <= self._limit_bytes * _LOW:
                return
            _remove(one.path)
            self._size_bytes -= one.size

    def _list_kept(self) -> Iterator[_Kept]:
        """Yield each key of which there is anything. A picture without a record is about to get one, or was left."""
        for shelf in _scan(self.folder):
            if len(shelf.name) != 2:  # noqa: PLR2004 - hexadecimal digits
                continue
            names = {entry.name: entry for entry in _scan(shelf.path)}
            for key in filter(_KEY.fullmatch, {name.removesuffix(_SUFFIX) for name in names}):
                files = [names[one] for one in (key, key + _SUFFIX) if one in names]
                with suppress(OSError):
                    found = [file.stat(follow_symlinks=False) for file in files]
                    size = sum(_on_disk(one.st_size) for one in found)
                    yield _Kept(found[-1].st_mtime, size, os.path.join(shelf.path, key))

    def _sweep(self) -> None:
        """Remove what a process that was killed was making."""
        before = self._clock() - _ABANDONED_S
        for entry in _scan(os.path.join(self.folder, _MAKING)):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _read_source(path: str) -> str | None:
    """Return what the picture at ``path`` is made of: "" where its record does not tell, None where it has none."""
    try:
        with open(path + _SUFFIX, "rb") as file:
            return msgspec.json.decode(file.read(_LIMIT_RECORD), type=_Record).source
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError):
        return ""


def _remove(path: str) -> None:
    for one in (path + _SUFFIX, path):  # in this order: without its record a picture is nothing
        with suppress(OSError):
            os.unlink(one)


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
