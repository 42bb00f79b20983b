"""The compact index of a release, or of names kept beside it: one read-only file; no object per file in memory.

A look-up is a binary search in the table of hashes, which a process holds (24 bytes per file), and one read of a record; hot
paths need none. Not mapped: whoever cut a mapped file would end every process that reads it (SIGBUS).
Layout: magic, counts, CRC-32 of table and rules; then per path the first 16 bytes of its SHA-256 and the offset of its record,
sorted; then the rules; then the records, each with its length and CRC-32: damage costs a file, never gives another.
"""

from __future__ import annotations

import logging
import os
import struct
import weakref
from collections.abc import Iterable, Iterator
from hashlib import sha256
from zlib import crc32

import msgspec

from assetserver.errors import PublishError
from assetserver.semantics.fingerprints import is_immutable

logger = logging.getLogger(__name__)

_MAGIC = b"ASCATv3\n"
_HEAD = struct.Struct("<8sQQI")
_SLOT = struct.Struct("<16sQ")
_RECORD = struct.Struct("<II")
_GUESS_BYTES = 512
"""What nearly every record fits into: one read."""
_LIMIT_BYTES = 1 << 24


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
    start = _HEAD.size + len(slots) * _SLOT.size + len(rules)
    table = b"".join(_SLOT.pack(key, start + offset) for key, offset in slots) + rules
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
        table_size = self._count * _SLOT.size
        is_index = magic == _MAGIC and os.fstat(self._file).st_size >= _HEAD.size + table_size + rules_size
        content = os.pread(self._file, table_size + rules_size, _HEAD.size) if is_index else b""
        if not is_index or crc32(content) != checksum:
            raise PublishError(f"{path} is not an index of this version, or damaged; activate the release again")
        self._table, self.rules = content[:table_size], content[table_size:]

    def __len__(self) -> int:
        """Return the number of paths."""
        return int(self._count)

    def __iter__(self) -> Iterator[CatalogEntry]:
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            content = file.read()
        for at in range(0, len(self._table), _SLOT.size):
            offset = _SLOT.unpack_from(self._table, at)[1]
            length = int.from_bytes(content[offset : offset + 4], "little")
            if entry := self._decode(content[offset : offset + _RECORD.size + length]):
                yield entry

    def get(self, path: str) -> CatalogEntry | None:
        """Return what is served at ``path``, or None; also for a damaged record, which is told once in the log."""
        key = _key(path)
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            at = middle * _SLOT.size
            found = self._table[at : at + 16]
            if found == key:
                entry = self._read(_SLOT.unpack_from(self._table, at)[1])
                return entry if entry is not None and entry.path == path else None
            if found < key:
                low = middle + 1
            else:
                high = middle
        return None

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


def _key(path: str) -> bytes:
    return sha256(path.encode()).digest()[:16]
