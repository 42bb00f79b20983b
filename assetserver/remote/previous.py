"""What was published from this machine the last time: the texts, from which only the difference to their next version travels.

Kept in a folder of this user's caches, one below it for each site of each server: ``index``, and each text, compressed, by its
digest. It holds what was sent, so it can be removed at any moment, and be lost: then whole files travel. What the server
has is never fetched to spare an upload: it would travel as compressed as the new file does, the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from threading import Semaphore

import msgspec

from assetserver.semantics.fingerprints import split_name
from assetserver.semantics.mediatypes import is_compressible, media_type_of
from assetserver.semantics.representation import ContentCoding
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import DECODE_ERRORS, DELTA_LIMIT_BYTES, compress, decode
from assetserver.storage.durable import replace_quickly

MINIMUM_BYTES = 512
"""Smaller files travel whole."""

AT_ONCE = 2
"""A server decodes no more with a dictionary at once: they take more of its memory than others."""

LIMIT_BYTES = 64 << 20
"""So much of a site is kept, before compression."""

_INDEX = "index"
_PRIVATE = 0o700


class _Known(msgspec.Struct, frozen=True):
    digest: str
    size: int


class Previous:
    """What was sent to ``site`` of the server at ``url``, in ``folder``; "" keeps nothing, and finds nothing.

    Methods block; ``find`` may be called from any thread. Who sends a difference takes one of ``turns``. Nothing is raised: a
    cache that cannot be used is none.
    """

    def __init__(self, folder: str, url: str, site: str) -> None:
        own = sha256(f"{url}\n{site}".encode()).hexdigest()[:32]
        self._folder = os.path.join(folder, own) if folder else ""
        self._files = self._read_index()
        self._families = _by_family(self._files)
        self.turns = Semaphore(AT_ONCE)

    def find(self, path: str, size: int) -> tuple[Digest, bytes] | None:
        """Return digest and bytes of the version before of the file at ``path``, which has ``size`` bytes now, or None.

        That of the same path, or of a name that differs in its hash alone; of several, the one whose size is nearest.
        """
        if not is_kept(path, size):
            return None
        parts = split_name(path)
        known = [self._files[path]] if path in self._files else self._families.get(parts.family, []) if parts else []
        for one in sorted(known, key=lambda one: abs(one.size - size))[:1]:
            if (content := self._read(one.digest)) is not None:
                return Digest(one.digest), content
        return None

    def keep(self, files: Iterable[tuple[str, Digest, int]], read: Callable[[str], Iterable[bytes]]) -> None:
        """Keep what was published now, and nothing else: path, digest and size of each file; ``read`` gives its bytes."""
        if not self._folder:
            return
        kept, total = dict[str, _Known](), 0
        with suppress(OSError):
            os.makedirs(self._folder, _PRIVATE, exist_ok=True)
            for path, digest, size in files:
                if is_kept(path, size) and total + size <= LIMIT_BYTES and self._store(digest, size, read):
                    kept[path] = _Known(digest, size)
                    total += size
            replace_quickly(os.path.join(self._folder, _INDEX), msgspec.json.encode(kept))
            self._remove_all_but({_INDEX, *(one.digest for one in kept.values())})

    def _store(self, digest: str, size: int, read: Callable[[str], Iterable[bytes]]) -> bool:
        place = os.path.join(self._folder, digest)
        if not os.path.exists(place):
            content = b"".join(read(digest))
            if sha256(content).hexdigest() != digest:  # it was built anew meanwhile
                return False
            replace_quickly(place, b"".join(compress(ContentCoding.ZSTD, [content], size)))
        return True

    def _remove_all_but(self, names: set[str]) -> None:
        for name in os.listdir(self._folder):
            if name not in names:
                os.unlink(os.path.join(self._folder, name))

    def _read(self, digest: str) -> bytes | None:
        try:
            with open(os.path.join(self._folder, digest), "rb") as file:
                content = b"".join(_limited(decode(ContentCoding.ZSTD, [file.read(2 * DELTA_LIMIT_BYTES)])))
        except (OSError, *DECODE_ERRORS):
            return None
        return content if sha256(content).hexdigest() == digest else None

    def _read_index(self) -> dict[str, _Known]:
        try:
            with open(os.path.join(self._folder, _INDEX), "rb") as file:
                files = msgspec.json.decode(file.read(), type=dict[str, _Known])
        except (OSError, msgspec.MsgspecError, UnicodeError):
            return {}
        return {path: one for path, one in files.items() if os.path.basename(one.digest) == one.digest}


def is_kept(path: str, size: int) -> bool:
    """Tell whether a file is one of which the difference may travel: text, neither tiny nor huge."""
    return MINIMUM_BYTES <= size <= DELTA_LIMIT_BYTES and is_compressible(media_type_of(path))


def _limited(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield ``pieces`` up to what a kept file may have: the cache may be anybody's by now."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > DELTA_LIMIT_BYTES:
            raise EOFError("this was not kept here")
        yield piece


def _by_family(files: Mapping[str, _Known]) -> dict[tuple[str, str, str], list[_Known]]:
    families: dict[tuple[str, str, str], list[_Known]] = {}
    for path, one in files.items():
        if (parts := split_name(path)) is not None:
            families.setdefault(parts.family, []).append(one)
    return families
