"""Where uploads end: the blob, the record, and the order of the two; with the threads on which that blocks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import msgspec

from assetserver.errors import AssetServerError, BlobMissingError, BusyError, ChecksumMismatchError, UnsupportedTypeError
from assetserver.jobs.job import NewJob
from assetserver.pictures.records import PictureRecord
from assetserver.settingtables import UploadSettings
from assetserver.storage.blobs import BlobStore, Digest, StagedUpload, Staging
from assetserver.storage.pools import FilePool, FileQueue, Gathering, Work, raise_if_stopping, wait_done, wait_future

from .commits import FEW, Commits
from .deposit import Deposit, close_file, told_errors
from .digests import Hashes, hash_whole
from .records import Change, Complete, Fail, Held, NewPicture, Remove, Upload, UploadRecords
from .sniff import HEAD_BYTES, is_among, sniff
from .sweep import SweepReport, drop_blob, sweep_leftovers

logger = logging.getLogger(__name__)

FILE_THREADS = 8
"""They wait for the disk; hashing lets go of the interpreter."""

SMALL_THREADS = 16
"""Those for small files, which wait for no large one: a disk syncs more in a second, the more wait for it."""

RECORD_THREADS = 4
NICENESS = 5
"""Who asks for a file waits less for who sends one; uploads take as long as before. With 10 and more, a thread that holds the
interpreter waits so long for a core that others keep busy that those who ask wait twice as long as with 0 (2026-11-28)."""

FRESH_S = 1.0
_ATTEMPTS = 3
_MOST_OWNERS = 1000

T = TypeVar("T")
P = ParamSpec("P")

FollowUp = Callable[[Upload], Sequence[NewJob]]
"""The jobs that a complete upload causes. They are recorded with it, in one transaction."""

AfterRemoval = Callable[[Upload, PictureRecord | None], Sequence[NewJob]]
"""The jobs that the removal of an upload causes, of which this was made; as above."""

PictureOf = Callable[[Upload], NewPicture | None]
"""What is to be made of a complete upload, if it is a picture; as above."""


class Depot:
    """Files, blobs and records of uploads, for one event loop. Opens nothing before it is used."""

    def __init__(  # noqa: PLR0913 - by name; each is one part that it joins
        self,
        staging: Staging,
        blobs: BlobStore,
        open_records: Callable[[], UploadRecords],
        settings: UploadSettings,
        *,
        changed: Callable[[], None],
        follow_up: FollowUp,
        picture_of: PictureOf,
        on_complete: Callable[[Upload], None],
    ) -> None:
        self.files = FilePool("assetserver-uploads", FILE_THREADS, niceness=NICENESS)
        self._asking = FilePool("assetserver-records", RECORD_THREADS, niceness=NICENESS)
        self._small_files = FilePool("assetserver-small", SMALL_THREADS, niceness=NICENESS)
        self._storing = 0
        self._small = Gathering(FileQueue(self._small_files, SMALL_THREADS), lambda: self._storing > FEW)
        self.commits = Commits(self._asking, self._write, lambda: self._storing)
        self._staging = staging
        self._blobs = blobs
        self._open_records = open_records
        self._settings = settings
        self._changed = changed
        self._follow_up = follow_up
        self._picture_of = picture_of
        self._on_complete = on_complete
        self._records: UploadRecords | None = None
        self._free: tuple[float, int] = (-FRESH_S, 0)
        self._held: dict[str, tuple[float, Held]] = {}
        self._lock = threading.Lock()

    async def ask(self, question: Callable[[UploadRecords], T]) -> T:
        """Return what ``question`` makes of the records, on a thread."""
        return await wait_future(self._asking.submit(lambda: question(self._opened())))

    async def on_files(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` does, on a thread for files. Raises ``StorageError`` and its kin for what the disk says."""
        return await wait_future(self.files.submit(_tell, partial(work, *args, **kwargs)))

    async def held(self, owner: str) -> Held:
        """Return what unfinished uploads held, those of all processes, less than a second ago.

        Many small files in a row need not add up the same every time; ``Add`` looks at what is held right then.
        """
        asked, held = self._held.get(owner, (-FRESH_S, Held(0, 0)))
        if (now := time.monotonic()) - asked >= FRESH_S:
            held = await self.ask(lambda records: records.held(owner))
            if len(self._held) >= _MOST_OWNERS:
                self._held.clear()
            self._held[owner] = now, held
        return held

    async def free_bytes(self) -> int:
        """Return how much fitted on the disk less than a second ago; ``Deposit.write`` looks at what fits right then."""
        asked, free = self._free
        if (now := time.monotonic()) - asked >= FRESH_S:
            free = await self.on_files(self._staging.free_bytes)
            self._free = now, free
        return free

    def deposit(
        self, upload: Upload, file: StagedUpload | None, hashes: Hashes | None, checked: Hashes | None = None
    ) -> Deposit:
        """Return where the bytes of ``upload`` go on."""
        return Deposit(
            self._staging,
            upload.id,
            file,
            hashes,
            checked=checked,
            offset=upload.offset,
            reserve_bytes=self._settings.reserve_bytes,
        )

    async def complete(
        self, upload: Upload, deposit: Deposit, pieces: Sequence[bytes], change: Callable[[Upload], Complete]
    ) -> Upload:
        """Write the last ``pieces``, make the file a blob and ``change`` the records; return the upload, which is complete.

        It is not interrupted. Raises ``ChecksumMismatchError`` and ``UnsupportedTypeError`` for what the bytes are not.
        """
        with anyio.CancelScope(shield=True):
            done = await wait_future(self.files.submit(self._seal, upload, deposit, pieces))
            recorded = self._with_jobs(change(done))
            for _ in range(_ATTEMPTS):
                try:
                    await self.commits.commit(recorded)
                except BlobMissingError:  # the last record of the same bytes was removed right now, and the blob with it
                    await self.on_files(self._link, deposit, Digest(done.sha256))
                else:
                    return done
        raise BusyError(f"blob {done.sha256} is removed again and again")

    async def store(self, upload: Upload, content: bytes, change: Callable[[Upload], Complete]) -> Upload:
        """As ``complete``, for a whole file that is in memory: one thread does all of it, and the records are next.

        What fails leaves nothing. It is not interrupted.
        """
        outcome: Future[Upload] = Future()
        work = partial(copy_context().run, self._store, upload, content, change, outcome)
        self._storing += 1
        self._small.submit(Work(work, partial(outcome.set_exception, InterruptedError("the server is stopping"))))
        try:
            return await wait_future(outcome)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await wait_done(outcome)
                if outcome.exception() is None:  # who waited for it is gone, and it is recorded
                    raise
                await self.on_files(self._staging.remove, upload.id)
                if isinstance(error, BlobMissingError):  # as above; it happens once in a lifetime
                    return await self._store_slowly(upload, content, change)
            raise
        finally:
            self._storing -= 1

    async def complete_known(self, upload: Upload, deposit: Deposit) -> Upload:
        """As ``complete``, for an upload that has a record; if its bytes are wrong, it fails for good."""
        keeps = upload.expires if upload.kind == "tus-partial" else None
        try:
            return await self.complete(
                msgspec.structs.replace(upload, expires=keeps), deposit, (), lambda done: Complete(done, is_new=False)
            )
        except (ChecksumMismatchError, UnsupportedTypeError):
            await self.fail(upload)
            raise

    async def concatenate(self, upload: Upload, digests: Sequence[str]) -> Upload:
        """Make ``upload`` of the blobs ``digests``, one after the other."""
        deposit = self.deposit(upload, None, hash_whole(upload.expected))
        whole = msgspec.structs.replace(upload, expires=None)
        try:
            await wait_future(self.files.submit(_copy, self._blobs, digests, deposit))
            return await self.complete(whole, deposit, (), lambda done: Complete(done, is_new=True))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.on_files(deposit.abandon)
            raise
        finally:
            await close_file(self.files, deposit)

    async def fail(self, upload: Upload) -> None:
        """Record that ``upload`` failed for good, and keep nothing of it."""
        with anyio.CancelScope(shield=True):
            await self.commits.commit(Fail(upload.id))
            await self.on_files(self._staging.remove, upload.id)

    async def forget(self, upload: Upload, digests: Sequence[str]) -> None:
        """Remove what a removed upload leaves: its file, and each of its ``digests`` that no other record names."""
        await self.on_files(self._staging.remove, upload.id)
        for digest in digests:
            await self.ask(partial(_drop_blob, self._blobs, digest))

    async def sweep(self, now: float, grace_s: float) -> SweepReport:
        """Remove what nobody needs; see ``sweep.sweep_leftovers``."""
        return await self.on_files(lambda: sweep_leftovers(self._opened(), self._staging, self._blobs, now, grace_s))

    def close(self) -> None:
        """End the threads. What has not started is dropped; they start anew if they are used again."""
        self._small_files.close()
        self._asking.close()
        self.files.close()

    def _opened(self) -> UploadRecords:
        with self._lock:
            if self._records is None:
                self._records = self._open_records()
            return self._records

    async def _store_slowly(self, upload: Upload, content: bytes, change: Callable[[Upload], Complete]) -> Upload:
        deposit = self.deposit(upload, None, hash_whole(upload.expected))
        try:
            return await self.complete(upload, deposit, [content], change)
        except BaseException:
            await self.on_files(deposit.abandon)
            raise
        finally:
            await close_file(self.files, deposit)

    def _store(self, upload: Upload, content: bytes, change: Callable[[Upload], Complete], outcome: Future[Upload]) -> None:
        """Make ``content`` a durable blob, and have its record made; whatever fails is told to who waits for ``outcome``."""
        try:
            hashes = hash_whole(upload.expected)
            hashes.update([content])
            done = self._finish(upload, hashes, len(content), sniff(content[:HEAD_BYTES], upload.media_type))
            recorded = self._with_jobs(change(done))
            with told_errors():
                self._staging.store(upload.id, content, Digest(done.sha256))
                self._blobs.confirm([Digest(done.sha256)])
        except BaseException as error:  # noqa: BLE001 - on this thread nobody else would hear of it
            outcome.set_exception(error)
        else:
            self.commits.submit(recorded, outcome, done)

    def _with_jobs(self, change: Complete) -> Complete:
        picture = self._picture_of(change.upload)
        job = None if picture is None else picture.job
        return msgspec.structs.replace(change, jobs=tuple(self._follow_up(change.upload)), picture_job=job)

    def _finish(self, upload: Upload, hashes: Hashes, size: int, media_type: str) -> Upload:
        """Return what ``upload`` is once its bytes are durable. Raises for bytes that are not those that were agreed on."""
        hashes.check(upload.expected)
        if upload.types and not is_among(media_type, upload.types):
            raise UnsupportedTypeError(f"the content is {media_type}; allowed here: {', '.join(upload.types)}")
        done = msgspec.structs.replace(
            upload, state="complete", offset=size, size=size, sha256=hashes.hex_digest(), media_type=media_type
        )
        picture = self._picture_of(done)
        return done if picture is None else msgspec.structs.replace(done, picture=picture.key)

    def _seal(self, upload: Upload, deposit: Deposit, pieces: Sequence[bytes]) -> Upload:
        """Write the last ``pieces``; make the file a blob, durable with its name."""
        deposit.write(pieces)
        hashes = deposit.hashes or deposit.hash_all(upload.expected)
        done = self._finish(upload, hashes, deposit.offset, deposit.sniff(upload.media_type))
        self._link(deposit, Digest(done.sha256))
        return done

    def _link(self, deposit: Deposit, digest: Digest) -> None:
        """Each thread syncs the folder of its own blob: one after the other, they would be as slow as the disk syncs."""
        deposit.seal(digest)
        with told_errors():
            self._blobs.confirm([digest])

    def _write(self, changes: Sequence[Change]) -> Sequence[Exception | None]:
        """Write the records of blobs that are durable; then their staging files may go."""
        refusals = self._opened().commit(changes, lambda digest: self._blobs.size_of(digest) is not None)
        made = [change for change, refused in zip(changes, refusals, strict=True) if refused is None]
        complete = [change.upload for change in made if isinstance(change, Complete)]
        for upload in complete:
            self._on_complete(upload)
        with suppress(OSError):  # what happened is durable; a file that stays is swept
            for upload in complete:
                self._staging.remove(upload.id)
        if any(isinstance(change, Remove) or (isinstance(change, Complete) and change.upload.by_name) for change in made):
            self._tell_changed()
        return refusals

    def _tell_changed(self) -> None:
        """Tell who serves uploads that names changed. What is recorded stays recorded: nobody is told that it failed."""
        try:
            self._changed()
        except (OSError, AssetServerError) as error:
            logger.error("what is served by name may be the version before for a second: %s", error)  # noqa: TRY400


def _tell(work: Callable[[], T]) -> T:
    with told_errors():
        return work()


def _drop_blob(blobs: BlobStore, digest: str, records: UploadRecords) -> bool:
    return drop_blob(records, blobs, digest)


def _copy(blobs: BlobStore, digests: Sequence[str], deposit: Deposit) -> None:
    with told_errors():
        for digest in digests:
            for piece in blobs.read(Digest(digest)):
                raise_if_stopping()
                deposit.write([piece])
