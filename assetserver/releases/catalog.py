"""The compact index of a release, or of names kept beside it: one read-only file, mapped by every worker.

No object per file in memory: a look-up is a binary search over the map, about 17 steps for 100,000 files, and only for paths
that are not hot. Layout: magic, counts; then per path the first 16 bytes of its SHA-256 and the offset of its record, sorted;
then the rules; then the records, each with its length and CRC-32: a damaged one is one file less, never another file's bytes.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from hashlib import sha256
from zlib import crc32

import msgspec

from assetserver.errors import PublishError
from assetserver.semantics.fingerprints import is_immutable

logger = logging.getLogger(__name__)

_MAGIC = b"ASCATv2\n"
_HEAD = struct.Struct("<8sQQ")
_SLOT = struct.Struct("<16sQ")
_RECORD = struct.Struct("<II")


class CatalogEntry(msgspec.Struct, frozen=True, array_like=True):
    """What is served at a path: its blob and size in bytes, its compressed forms (coding, blob, size).

    ``reason``: why the name is, or may be, the hash of the content (see ``names``). ``links``: values of its ``Link`` field.
    """

    path: str
    digest: bytes
    size: int
    reason: str = ""
    forms: tuple[tuple[str, bytes, int], ...] = ()
    links: tuple[str, ...] = ()

    @property
    def immutable(self) -> bool:
        """Whether the file never changes under this name."""
        return is_immutable(self.reason)

    def because(self, reason: str) -> CatalogEntry:
        """Return the same with another reason."""
        return self if reason == self.reason else msgspec.structs.replace(self, reason=reason)


def encode_catalog(entries: Iterable[CatalogEntry], rules: bytes = b"") -> bytes:
    """Return the index of ``entries``, whose paths are distinct, and of a site's encoded ``rules``."""
    slots: list[tuple[bytes, int]] = []
    records = bytearray()
    encode = msgspec.msgpack.Encoder().encode
    for entry in entries:
        slots.append((_key(entry.path), len(records)))
        record = encode(entry)
        records += _RECORD.pack(len(record), crc32(record)) + record
    slots.sort()
    block = _RECORD.pack(len(rules), crc32(rules)) + rules
    start = _HEAD.size + len(slots) * _SLOT.size + len(block)
    table = b"".join(_SLOT.pack(key, start + offset) for key, offset in slots)
    return _HEAD.pack(_MAGIC, len(slots), len(block)) + table + block + bytes(records)


class Catalog:
    """An index, mapped from the file at ``path``. Raises ``PublishError`` if the file is not one.

    Iterating yields every sound entry, in the order of their hashes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._complained = False
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            magic, self._count, rules_size = _HEAD.unpack(file.read(_HEAD.size).ljust(_HEAD.size, b"\0"))
            self._rules_at = _HEAD.size + self._count * _SLOT.size
            is_index = magic == _MAGIC and size >= self._rules_at + rules_size
            if is_index:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                self.rules = self._read(self._rules_at)
        if not is_index or self.rules is None:
            raise PublishError(f"{path} is not an index of this version, or damaged; activate the release again")

    def __len__(self) -> int:
        """Return the number of paths."""
        return int(self._count)

    def __iter__(self) -> Iterator[CatalogEntry]:
        for at in range(_HEAD.size, self._rules_at, _SLOT.size):
            if entry := self._entry(at):
                yield entry

    def get(self, path: str) -> CatalogEntry | None:
        """Return what is served at ``path``, or None; also for a damaged record, which is told once in the log."""
        key = _key(path)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            at = _HEAD.size + middle * _SLOT.size
            found = self._map[at : at + 16]
            if found == key:
                entry = self._entry(at)
                return entry if entry is not None and entry.path == path else None
            if found < key:
                low = middle + 1
            else:
                high = middle
        return None

    def _entry(self, slot_at: int) -> CatalogEntry | None:
        record = self._read(_SLOT.unpack_from(self._map, slot_at)[1])
        if record is not None:
            return msgspec.msgpack.decode(record, type=CatalogEntry)
        if not self._complained:
            logger.error("%s is damaged; remove it and activate the release again: the index is made anew", self.path)
            self._complained = True
        return None

    def _read(self, at: int) -> bytes | None:
        """Return the record that begins at ``at``, or None if it is damaged."""
        head = self._map[at : at + _RECORD.size]
        if len(head) < _RECORD.size:
            return None
        length, checksum = _RECORD.unpack(head)
        record = self._map[at + _RECORD.size : at + _RECORD.size + length]
        return record if len(record) == length and crc32(record) == checksum else None


def _key(path: str) -> bytes:
    return sha256(path.encode()).digest()[:16]
