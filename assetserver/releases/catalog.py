"""The compact index of a release, or of names kept beside it: one read-only file; no object per file in memory.

A look-up is a binary search in the hashes, which a process holds (16 bytes per file, with the offsets), and one read of a
record; hot paths need none. Not mapped: whoever cut a mapped file would end every process that reads it (SIGBUS).
Layout: magic, counts, CRC-32 of hashes, offsets and rules; then the first 8 bytes of the SHA-256 of each path, as numbers, in
order; the offsets of their records, in the same order; the rules; and the records, each with its length, CRC-32 and path:
neither damage nor two paths with one hash give another's file.
"""

from __future__ import annotations

import logging
import os
import struct
import sys
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import sha256
from zlib import crc32

import msgspec

from assetserver.errors import PublishError
from assetserver.semantics.fingerprints import is_immutable

logger = logging.getLogger(__name__)

_MAGIC = b"ASCATv5\n"
_HEAD = struct.Struct("<8sQQI")
_NUMBER_BYTES = 8
_RECORD = struct.Struct("<II")
_GUESS_BYTES = 1024
"""What nearly every record fits into: one read."""
_LIMIT_BYTES = 1 << 24


class CatalogEntry(msgspec.Struct, frozen=True, array_like=True):
    """What is served at a path: its blob and size in bytes, its compressed forms (coding, blob, size).

    ``reason``: why the name is, or may be, the hash of the content (see ``names``). ``links``: values of its ``Link`` field.
    ``deltas``: what it has that other blobs have not (dictionary, blob, size; see ``library.Delta``), which may be gone.
    """

    path: str
    digest: bytes
    size: int
    reason: str = ""
    forms: tuple[tuple[str, bytes, int], ...] = ()
    links: tuple[str, ...] = ()
    deltas: tuple[tuple[bytes, bytes, int], ...] = ()

    @property
    def immutable(self) -> bool:
        """Whether the file never changes under this name."""
        return is_immutable(self.reason)

    def because(self, reason: str) -> CatalogEntry:
        """Return the same with another reason."""
        return self if reason == self.reason else msgspec.structs.replace(self, reason=reason)


def encode_catalog(entries: Iterable[CatalogEntry], rules: bytes = b"") -> bytes:
    """Return the index of ``entries``, whose paths are distinct, and of a site's encoded ``rules``."""
    slots: list[tuple[int, int]] = []
    records = bytearray()
    encode = msgspec.msgpack.Encoder().encode
    for entry in entries:
        slots.append((key_of(entry.path), len(records)))
        record = encode(entry)
        records += _RECORD.pack(len(record), crc32(record)) + record
    slots.sort()
    start = _HEAD.size + len(slots) * 2 * _NUMBER_BYTES + len(rules)
    keys = _in_file_order(array("Q", (key for key, _ in slots)))
    offsets = _in_file_order(array("Q", (start + offset for _, offset in slots)))
    table = keys.tobytes() + offsets.tobytes() + rules
    return _HEAD.pack(_MAGIC, len(slots), len(rules), crc32(table)) + table + bytes(records)


class Catalog:
    """The index in the file at ``path``. Raises ``PublishError`` if the file is not one.

    ``rules`` are the encoded ones. Iterating yields every sound entry, in the order of their hashes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._complained = False
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        magic, self._count, rules_size, checksum = _HEAD.unpack(os.pread(self._file, _HEAD.size, 0).ljust(_HEAD.size, b"\0"))
        half = self._count * _NUMBER_BYTES
        is_index = magic == _MAGIC and os.fstat(self._file).st_size >= _HEAD.size + 2 * half + rules_size
        content = os.pread(self._file, 2 * half + rules_size, _HEAD.size) if is_index else b""
        if not is_index or crc32(content) != checksum:
            raise PublishError(f"{path} is not an index of this version, or damaged; activate the release again")
        self._keys, self._offsets = (_in_file_order(array("Q", content[at : at + half])) for at in (0, half))
        self.rules = content[2 * half :]

    def __len__(self) -> int:
        """Return the number of paths."""
        return int(self._count)

    def __iter__(self) -> Iterator[CatalogEntry]:
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            content = file.read()
        for offset in self._offsets:
            length = int.from_bytes(content[offset : offset + 4], "little")
            if entry := self._decode(content[offset : offset + _RECORD.size + length]):
                yield entry

    def get(self, path: str) -> CatalogEntry | None:
        """Return what is served at ``path``, or None; also for a damaged record, which is told once in the log."""
        key = key_of(path)
        for at in range(bisect_left(self._keys, key), self._count):
            if self._keys[at] != key:
                break
            entry = self._read(self._offsets[at])
            if entry is not None and entry.path == path:
                return entry
        return None

    def may_have(self, key: int) -> bool:
        """Tell whether a path has this ``key_of``: then most likely it is that path; else it is not here for sure."""
        at = bisect_left(self._keys, key)
        return at < self._count and self._keys[at] == key

    def _read(self, offset: int) -> CatalogEntry | None:
        record = os.pread(self._file, _GUESS_BYTES, offset)
        length = int.from_bytes(record[:4], "little")
        if _GUESS_BYTES < _RECORD.size + length <= _LIMIT_BYTES:
            record = os.pread(self._file, _RECORD.size + length, offset)
        return self._decode(record[: _RECORD.size + length])

    def _decode(self, record: bytes) -> CatalogEntry | None:
        """Return the entry that ``record`` encodes, with length and CRC before it, or None if it is damaged."""
        length, checksum = _RECORD.unpack(record[: _RECORD.size].ljust(_RECORD.size, b"\0"))
        content = record[_RECORD.size :]
        if content and len(content) == length and crc32(content) == checksum:
            return msgspec.msgpack.decode(content, type=CatalogEntry)
        if not self._complained:
            logger.error("%s is damaged; remove it and activate the release again: the index is made anew", self.path)
            self._complained = True
        return None


def key_of(path: str) -> int:
    """Return the number by which a path is found: the first 8 bytes of its SHA-256."""
    return int.from_bytes(sha256(path.encode()).digest()[:_NUMBER_BYTES], "little")


def _in_file_order(numbers: array[int]) -> array[int]:
    """Return numbers as they stand in the file, little end first, or such numbers as this machine reads them."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
