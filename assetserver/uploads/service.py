"""Uploads, from the first byte to the record that names a durable blob; every protocol comes in here.

The order is what makes it durable, and it must not change: bytes to a staging file, ``fdatasync``, link as a blob without
overwriting, fsync of the folder, one transaction, only then the answer; the staging file goes last. A process killed
between any two steps leaves an upload that goes on where it was, or nothing; ``sweep`` removes what nobody needs.

Nothing here knows HTTP. Who may do what is decided before; how fast a body must come is decided by whoever reads it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from assetserver.errors import BadRequestError, TooLargeError, UploadGoneError, UploadMissingError
from assetserver.pictures.records import PictureRecord
from assetserver.settingtables import UploadSettings
from assetserver.storage.blobs import BlobStore, StagedUpload, Staging

from . import session
from .allowance import Allowance
from .appending import Appending, complete_new
from .deposit import close_file
from .depot import AfterRemoval, Depot, FollowUp, PictureOf
from .digests import HashMemory
from .identifiers import new_id
from .records import Add, NewUpload, Remove, Upload, UploadRecords
from .sweep import SweepReport, list_digests
from .turns import Turns, claim

STOP_LIMIT_S = 10.0

Page = tuple[list[Upload], str]


class UploadService:
    """All uploads of a data folder, for one event loop; other processes may have services of the same folder.

    Nothing is opened before it is used. ``open_records`` is called on a thread, at the first touch. ``changed`` is called
    there after what is shown of complete uploads changed otherwise than by one more id. ``follow_up`` tells the jobs that a
    complete upload causes, ``picture_of`` what is to be made of one that is a picture. ``on_complete`` hears of each that is
    durable, on a thread. ``after_removal`` tells the jobs that a removal causes.
    """

    def __init__(  # noqa: PLR0913 - by name; each is one part that it joins
        self,
        staging: Staging,
        blobs: BlobStore,
        open_records: Callable[[], UploadRecords],
        settings: UploadSettings,
        *,
        changed: Callable[[], None] = lambda: None,
        follow_up: FollowUp = lambda _: (),
        picture_of: PictureOf = lambda _: None,
        on_complete: Callable[[Upload], None] = lambda _: None,
        after_removal: AfterRemoval = lambda _, __: (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._staging = staging
        self._clock = clock
        self._after_removal = after_removal
        self._turns = Turns()
        self._allowance = Allowance(settings)
        self._depot = Depot(
            staging,
            blobs,
            open_records,
            settings,
            changed=changed,
            follow_up=follow_up,
            picture_of=picture_of,
            on_complete=on_complete,
        )
        self._hashes = HashMemory()

    async def check(self, new: NewUpload) -> None:
        """Raise what would be raised later, as far as it is known before a byte of the body came.

        ``TooLargeError``, ``BusyError``, ``NoSpaceError``, ``QuotaError``, ``PreconditionFailedError``.
        """
        session.plan_receipt(new, self._settings.max_size)
        self._allowance.check_room()
        held = await self._depot.held(new.payer)
        self._allowance.check_held(new.payer, new.length or 0, held)
        self._allowance.check_space(new.length or 0, await self._depot.free_bytes())
        if new.by_name and (new.if_none_match or new.if_match is not None):
            current = await self._depot.ask(lambda records: records.find_by_name(new.collection, new.by_name))
            digest = None if current is None else current.sha256
            session.check_conditions(new.by_name, digest, new.if_match, none=new.if_none_match)

    async def receive(self, new: NewUpload, chunks: AsyncIterable[bytes]) -> Upload:
        """Receive a whole file, and return its record once both are durable. What is not whole leaves nothing.

        Raises ``BadRequestError`` for a body that ends before its declared length, ``ChecksumMismatchError``,
        ``UnsupportedTypeError``, ``UploadBusyError`` and what ``check`` raises.
        """
        plan = session.plan_receipt(new, self._settings.max_size)
        with self._turns.working(), self._allowance.receiving(new.payer, new.length) as load:
            upload = self._begin(new)
            return await self._appending(upload, None).receive_whole(new, plan, chunks, load)

    async def store(self, new: NewUpload, content: bytes) -> Upload:
        """As ``receive``, for a file of which every byte is here: nobody waits for a client, so nobody need be ended."""
        plan = session.plan_receipt(new, self._settings.max_size)
        if len(content) > plan.stop:
            raise TooLargeError(f"the body goes on beyond {plan.stop} bytes")
        session.check_end(plan, len(content))
        self._allowance.check_space(len(content), await self._depot.free_bytes())
        with self._turns.working(), self._allowance.receiving(new.payer, len(content)):
            upload = msgspec.structs.replace(self._begin(new), expires=None)
            return await self._depot.store(upload, content, partial(complete_new, new))

    async def create(self, new: NewUpload) -> Upload:
        """Begin an upload that may come in many requests. One of a protocol that ends at its length, and has none, is complete.

        Raises ``QuotaError`` also for what other processes hold.
        """
        session.plan_receipt(new, self._settings.max_size)
        self._allowance.check_space(new.length or 0, await self._depot.free_bytes())
        await self._depot.on_files(self._staging.make)  # what has a record is swept
        upload = self._begin(new)
        await self._depot.commits.commit(Add(upload, self._allowance.quota))
        return await self.settle(upload.id) if session.is_complete(upload) else upload

    async def append(
        self,
        upload_id: str,
        offset: int,
        chunks: AsyncIterable[bytes],
        *,
        content_length: int | None,
        checksum: tuple[str, bytes] | None = None,
        completes: bool | None = None,
    ) -> Upload:
        """Append ``chunks`` at ``offset``, and return the upload with what is durable, complete if it is.

        Takes over from whoever appends right now, here or in another process. What arrived stays when the client goes, the
        server stops or somebody else takes over; but not what came with a ``checksum`` (algorithm, digest) and cannot be
        checked, or is wrong. ``completes``: see ``session.plan_append``.

        Raises what that does, ``UploadBusyError`` when taken over, ``ChecksumMismatchError``, ``UnsupportedTypeError``.
        """
        await self.find(upload_id)  # who asks for what is not there takes nobody's turn
        async with self._turn(upload_id) as (upload, file):
            plan = session.plan_append(upload, offset, content_length, completes, self._settings.max_size)
            if upload.state == "complete":
                await _expect_end(chunks, plan.stop)
                return upload
            with self._allowance.receiving(upload.payer, None):
                try:
                    return await self._appending(upload, file).append(plan, chunks, checksum, completes)
                except TooLargeError:
                    if upload.kind == "resumable":  # draft-ietf-httpbis-resumable-upload-11 §4.4: it is of no use any more
                        await self._depot.fail(upload)
                    raise

    async def declare_length(self, upload_id: str, length: int) -> Upload:
        """Say how long an upload will be. Raises ``BadRequestError`` if that was said already, otherwise, or too late."""
        async with self._turn(upload_id) as (upload, file):
            session.check_length(length, session.limit_of(self._settings.max_size, upload.max_size))
            if upload.size == length:
                return upload
            if upload.size is not None or length < upload.offset:
                raise BadRequestError(f"the length of upload {upload_id} cannot become {length}")
            return await self._appending(upload, file).declare(length)

    async def concatenate(self, new: NewUpload) -> Upload:
        """Make one upload of ``new.parts``, in their order; they stay until they expire.

        Raises ``BadRequestError`` for what is no complete part of the same owner, ``UploadMissingError``, ``TooLargeError``.
        """
        parts = [await self.find(part) for part in new.parts]
        for part in parts:
            if not session.can_be_part(part, new.owner):
                raise BadRequestError(f"upload {part.id} is not a part that is complete")
        whole = msgspec.structs.replace(new, length=sum(part.offset for part in parts))
        session.plan_receipt(whole, self._settings.max_size)
        with self._turns.working(), self._allowance.receiving(new.payer, whole.length):
            upload = self._begin(whole)
            return await self._depot.concatenate(upload, [part.sha256 for part in parts])

    async def find(self, upload_id: str) -> Upload:
        """Return an upload. Raises ``UploadMissingError``, or ``UploadGoneError`` once it was removed or expired."""
        upload = await self._depot.ask(lambda records: records.find(upload_id))
        if upload.state == "uploading" and upload.expires is not None and upload.expires <= self._clock():
            raise UploadGoneError(f"upload {upload_id} expired")
        return upload

    async def find_many(self, upload_ids: Iterable[str]) -> dict[str, Upload]:
        """Return those of these uploads that there are, by id."""
        return await self._depot.ask(lambda records: records.find_many(upload_ids))

    async def find_pictures(self, uploads: Iterable[Upload]) -> dict[str, PictureRecord]:
        """Return what is made of these uploads, by ``Upload.picture``."""
        keys = {one.picture for one in uploads if one.picture}
        return await self._depot.ask(lambda records: records.find_pictures(keys)) if keys else {}

    async def settle(self, upload_id: str) -> Upload:
        """Return an upload with the offset at which the next append may begin: whoever appends right now gives way.

        Completes one of which every byte is there, and that a crash kept from it.
        """
        upload = await self.find(upload_id)
        if upload.state != "uploading":
            return upload
        async with self._turn(upload_id) as (current, file):
            if current.state == "uploading" and session.is_complete(current):
                return await self._appending(current, file).complete()
            return current

    async def find_by_name(self, name: str, collection: str = "") -> Upload:
        """Return the newest upload that is stored under a name. Raises ``UploadMissingError``."""
        upload = await self._depot.ask(lambda records: records.find_by_name(collection, name))
        if upload is None:
            raise UploadMissingError(f"nothing is stored under the name {name!a}")
        return upload

    async def list(self, *, owner: str | None, cursor: str, limit: int) -> Page:
        """Return up to ``limit`` uploads, the newest first, and a cursor for the next ones or "".

        ``owner``: its uploads alone. Raises ``BadRequestError`` for a cursor that was not given out here.
        """
        return await self._depot.ask(lambda records: records.list_uploads(owner, cursor, limit))

    async def remove(self, upload_id: str) -> None:
        """Remove an upload, and its blob if no other has the same; who appends to it right now is ended.

        Raises ``UploadMissingError`` or ``UploadGoneError``.
        """
        upload = await self._depot.ask(lambda records: records.find(upload_id))
        if upload.state == "uploading":
            async with self._turn(upload_id) as (current, _):
                await self._remove(current)
        else:
            await self._remove(upload)

    async def sweep(self) -> SweepReport:
        """Remove what nobody needs; see ``sweep``. Opens nothing where nothing was ever uploaded."""
        if not await self._depot.on_files(self._staging.is_there):
            return SweepReport()
        for stuck in await self._depot.ask(lambda records: records.list_stuck()):
            if session.is_complete(stuck) and stuck.id not in self._turns:
                await self.settle(stuck.id)
        return await self._depot.sweep(self._clock(), self._settings.grace_s)

    async def close(self) -> None:
        """Stop: whoever appends keeps what arrived and ends, and nobody begins. Then the threads end."""
        await self._turns.stop(STOP_LIMIT_S)
        self._depot.close()

    def _begin(self, new: NewUpload) -> Upload:
        return Upload(
            id=new_id(),
            state="uploading",
            name=new.name,
            collection=new.collection,
            owner=new.owner,
            account=new.account,
            size=new.length,
            offset=0,
            sha256="",
            media_type=new.declared_type,
            metadata=new.metadata,
            kind=new.kind,
            created=self._clock(),
            expires=self._expires(),
            by_name=new.by_name,
            expected=new.expected,
            max_size=new.max_size,
            types=new.types,
        )

    def _appending(self, upload: Upload, file: StagedUpload | None) -> Appending:
        return Appending(self._depot, self._turns, self._allowance, self._hashes, upload, file, self._expires)

    def _expires(self) -> float:
        return self._clock() + self._settings.expiry_s

    @asynccontextmanager
    async def _turn(self, upload_id: str) -> AsyncIterator[tuple[Upload, StagedUpload]]:
        """Hold the right to write to an upload, and know what it is while nobody else can change it."""
        with self._turns.working():
            file = await claim(self._staging, self._depot.files, self._turns, upload_id)
            try:
                yield await self._look(upload_id), file
            finally:
                await close_file(self._depot.files, file)

    async def _look(self, upload_id: str) -> Upload:
        """Return an upload to whose file nobody else writes. What lies there of one that is not open is removed."""
        try:
            upload = await self.find(upload_id)
        except (UploadMissingError, UploadGoneError):
            await self._depot.on_files(self._staging.remove, upload_id)
            raise
        if upload.state != "uploading":
            await self._depot.on_files(self._staging.remove, upload_id)
        return upload

    async def _remove(self, upload: Upload) -> None:
        pictures = await self.find_pictures([upload])
        picture = pictures.get(upload.picture)
        await self._depot.commits.commit(Remove(upload.id, self._clock(), tuple(self._after_removal(upload, picture))))
        await self._depot.forget(upload, list_digests(upload, picture))


async def _expect_end(chunks: AsyncIterable[bytes], stop: int) -> None:
    async for chunk in chunks:
        if chunk:
            raise TooLargeError(f"the upload is complete with {stop} bytes, and the body has more")
