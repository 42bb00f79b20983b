"""The interfaces of a blob store, and of uploads that become blobs. ``files`` and ``staging`` are their engines.

``tests/contracts`` holds what every engine keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

Digest = NewType("Digest", str)
"""SHA-256 of a blob's bytes, 64 lower-case hex digits; its only name."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob: ``size`` in bytes, ``stored`` in seconds since 1970."""

    digest: Digest
    size: int
    stored: float


class BlobStore(Protocol):
    """Blobs by digest. A blob is never changed; two puts of the same bytes are one blob. All methods block.

    Every method may be called from any thread and repeated.
    """

    def put(self, digest: Digest, pieces: Iterable[bytes], *, confirmed: bool = True) -> int:
        """Store the bytes that ``pieces`` are and return their number; on return they survive a crash of the machine.

        Not ``confirmed``: only after ``confirm``, which for many blobs takes less time than doing it for each. Does not
        replace: if the blob is there, ``pieces`` may not even be read. Raises ``DigestMismatchError`` if the bytes are not
        those of ``digest``; then nothing is stored.
        """
        ...

    def confirm(self, digests: Iterable[Digest]) -> None:
        """Make the blobs that are there survive a crash of the machine, also if who stored them was killed at the last step."""
        ...

    def size_of(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None if it is not there."""
        ...

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a blob. Raises ``BlobMissingError`` if it is not there."""
        ...

    def list_blobs(self) -> Iterator[BlobInfo]:
        """Yield every blob, in any order; those that come or go meanwhile may or may not be among them."""
        ...

    def delete(self, digest: Digest) -> bool:
        """Remove a blob; return whether it was there."""
        ...

    def sweep(self, older_than_s: float, *, dry_run: bool = False) -> list[int]:
        """Remove what puts that were killed left behind, if nobody wrote to it for ``older_than_s``; return the sizes in bytes.

        ``dry_run``: only tell. A put in flight that is swept all the same may fail, and stores the whole blob or nothing.
        """
        ...


class BlobWriter(Protocol):
    """A blob that arrives piece by piece, whenever its sender has some. All methods block; one thread at a time."""

    @property
    def size(self) -> int:
        """Bytes written so far."""
        ...

    def write(self, pieces: Iterable[bytes]) -> None:
        """Take more bytes."""
        ...

    def finish(self) -> bool:
        """Store the blob; on return it survives a crash of the machine. False if it was there.

        Raises ``DigestMismatchError`` if the bytes are not those of its digest; then nothing is stored.
        """
        ...

    def close(self) -> None:
        """Forget what is not stored; may be repeated."""
        ...


class PushedBlobs(Protocol):
    """What engines can do that take bytes as they come: ``put`` asks for them, and holds a thread until it has all."""

    def begin(self, digest: Digest) -> BlobWriter:
        """Return a writer of a new blob; the caller closes it."""
        ...


@dataclass(frozen=True, slots=True)
class StagedInfo:
    """A file of an upload: ``size`` in bytes, durable or not; ``changed`` in seconds since 1970."""

    upload_id: str
    size: int
    changed: float


class LocalBlobs(Protocol):
    """What only engines on this machine can do: name a file that the kernel can send."""

    def path_of(self, digest: Digest) -> str:
        """Return where the blob's file is or would be."""
        ...


class StagedUpload(Protocol):
    """The open file of an upload. All methods block for no longer than the disk does."""

    path: str

    def try_claim(self) -> bool:
        """Take the right to write, or leave a wish for it and return False. May be repeated until it is there."""
        ...

    def is_wanted(self) -> bool:
        """Tell whether somebody else wishes to write."""
        ...

    def is_removed(self) -> bool:
        """Tell whether the file has lost its name: who held the right before finished the upload, or removed it."""
        ...

    def size(self) -> int:
        """Return the length in bytes, durable or not."""
        ...

    def write(self, offset: int, pieces: Sequence[bytes]) -> None:
        """Write ``pieces`` one after the other from ``offset`` on. Durable only after ``sync``."""
        ...

    def cut(self, offset: int) -> None:
        """Forget whatever lies beyond ``offset``."""
        ...

    def sync(self) -> None:
        """Make what was written survive a crash of the machine."""
        ...

    def read(self, start: int, most: int) -> bytes:
        """Return up to ``most`` bytes from ``start`` on, none at the end."""
        ...

    def close(self) -> None:
        """Give up the right. May be repeated."""
        ...


class Staging(Protocol):
    """Uploads on their way to become blobs, by id. All methods block, and may be called from any thread."""

    def open(self, upload_id: str) -> StagedUpload:
        """Open the file of an upload, made if it is not there. Claim it before anything else, and look ``is_removed``."""
        ...

    def confirm(self) -> None:
        """Make the names of files survive a crash of the machine; their bytes do after ``sync``."""
        ...

    def seal(self, file: StagedUpload, digest: Digest) -> None:
        """Make the file also the blob ``digest``, whose bytes the caller knows it has; nothing writes to it any more.

        Its bytes are durable on return, its name as a blob after ``BlobStore.confirm``. May be repeated.
        """
        ...

    def store(self, upload_id: str, content: bytes, digest: Digest) -> None:
        """As ``open``, ``write`` and ``seal``, for a new upload of which nobody else knows: without the right to write to it.

        Raises ``FileExistsError`` if the upload has a file.
        """
        ...

    def remove(self, upload_id: str) -> bool:
        """Remove the file of an upload; return whether it was there. What was sealed stays a blob."""
        ...

    def list_staged(self) -> Iterator[StagedInfo]:
        """Yield every file, in any order; those that come or go meanwhile may or may not be among them."""
        ...

    def make(self) -> None:
        """Make room for uploads, if nothing was ever uploaded."""
        ...

    def is_there(self) -> bool:
        """Tell whether there was ever ``make`` or ``open``."""
        ...

    def free_bytes(self) -> int:
        """Return how many more bytes fit on the disk."""
        ...
