"""One request that brings bytes of an upload, from the first to what is kept of them however it ends."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from functools import partial

import anyio
import msgspec

from assetserver.errors import AssetServerError, QuotaError, UploadGoneError
from assetserver.storage.blobs import StagedUpload
from assetserver.storage.pools import wait_future

from . import session
from .allowance import Allowance, Load
from .deposit import Deposit, Gathered, batch_bytes, close_file, finish_writing, receive_chunks
from .depot import Depot
from .digests import Hashes, HashMemory, hash_whole
from .records import Advance, Complete, NewUpload, Upload
from .turns import Turns

Checksum = tuple[str, bytes]
"""An algorithm of ``digests`` and what it must give."""


def complete_new(new: NewUpload, done: Upload) -> Complete:
    """Return the change that records ``done``, which came in one request as ``new``."""
    return Complete(done, is_new=True, if_none_match=new.if_none_match, if_match=new.if_match, only_own=new.only_own)


class Appending:
    """An append to ``upload``, which holds the right to ``file`` if it has one. ``upload`` is always what is recorded.

    ``expires``: when an upload that is written to now will end.
    """

    def __init__(
        self,
        depot: Depot,
        turns: Turns,
        allowance: Allowance,
        memory: HashMemory,
        upload: Upload,
        file: StagedUpload | None,
        expires: Callable[[], float],
    ) -> None:
        self.upload = upload
        self._depot = depot
        self._turns = turns
        self._allowance = allowance
        self._memory = memory
        self._file = file
        self._expires = expires

    async def receive_whole(self, new: NewUpload, plan: session.Append, chunks: AsyncIterable[bytes], load: Load) -> Upload:
        """Receive a whole file and complete it; or keep nothing."""
        deposit = self._depot.deposit(self.upload, None, hash_whole(new.expected))
        gathered = Gathered(self._depot.files, deposit, plan.stop)

        async def count() -> None:
            load.hold(gathered.end)

        try:
            with self._turns.receiving(self.upload.id, None):
                await receive_chunks(chunks, gathered, self._batch_bytes, count)
            session.check_end(plan, gathered.end)
            await gathered.settle()
            return await self._depot.complete(
                msgspec.structs.replace(self.upload, expires=None),
                deposit,
                gathered.take(),
                partial(complete_new, new),
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await gathered.wait()
                await self._depot.on_files(deposit.abandon)
            raise
        finally:
            await close_file(self._depot.files, deposit)

    async def append(
        self, plan: session.Append, chunks: AsyncIterable[bytes], checksum: Checksum | None, completes: bool | None
    ) -> Upload:
        """Receive ``chunks``, keep what can be kept, and complete the upload if that is its end."""
        checked = None if checksum is None else Hashes([checksum[0]])
        deposit = await self._prepare(checked)
        before = None if checksum is None or deposit.hashes is None else deposit.hashes.copy()
        gathered = Gathered(self._depot.files, deposit, plan.stop)

        async def checkpoint() -> None:
            await self._record(deposit, self.upload.size)

        is_whole = False
        try:
            with self._turns.receiving(self.upload.id, self._file):
                await receive_chunks(chunks, gathered, self._batch_bytes, checkpoint if checksum is None else None)
                is_whole = True
        finally:
            with anyio.CancelScope(shield=True):
                if checksum is None or checked is None:
                    await self._keep(deposit, gathered, completes if is_whole else None)
                else:
                    await self._keep_checked(deposit, gathered, before, checksum if is_whole else None)
        session.check_end(plan, self.upload.offset)
        return await self.complete() if session.is_complete(self.upload, completes) else self.upload

    async def declare(self, length: int) -> Upload:
        """Record how long the upload will be; it is completed by an append, or when somebody asks."""
        await self._advance(self.upload.offset, length)
        return self.upload

    async def complete(self) -> Upload:
        """Make a blob of the upload, of which every byte is durable."""
        return await self._depot.complete_known(self.upload, await self._prepare(None))

    async def _prepare(self, checked: Hashes | None) -> Deposit:
        """Return where the upload goes on: behind its last byte that is recorded. Whatever lies there is cut off."""
        file, upload = self._file, self.upload
        if file is None:
            raise AssertionError("only a file that is claimed is appended to")
        size = await self._depot.on_files(file.size)
        if size < upload.offset:
            await self._depot.fail(upload)
            raise UploadGoneError(f"the disk lost bytes of upload {upload.id}: {size} are left of {upload.offset}")
        if size > upload.offset:
            await self._depot.on_files(file.cut, upload.offset)
        hashes = self._memory.take(upload.id, upload.offset)
        if hashes is None and upload.offset == 0:
            hashes = hash_whole(upload.expected)
        return self._depot.deposit(upload, file, hashes, checked)

    async def _keep(self, deposit: Deposit, gathered: Gathered, completes: bool | None) -> None:
        """Record all that was written; then raise what kept the rest from it."""
        failure: AssetServerError | None = None
        try:
            await finish_writing(gathered, self._depot.files, deposit)
        except AssetServerError as error:
            failure = error
        is_whole = failure is None
        try:
            await self._record(deposit, session.final_size(self.upload, deposit.offset, completes, is_whole))
        except QuotaError:  # what is not counted must not lie there either
            await self._forget(deposit, None)
            raise
        if deposit.hashes is not None:
            self._memory.keep(self.upload.id, deposit.offset, deposit.hashes)
        if failure is not None:
            raise failure

    async def _keep_checked(
        self, deposit: Deposit, gathered: Gathered, before: Hashes | None, checksum: Checksum | None
    ) -> None:
        """Record what was written if it came whole and has ``checksum``; else forget it."""
        try:
            await finish_writing(gathered, self._depot.files, deposit)
            if checksum is not None and deposit.checked is not None:
                deposit.checked.check(dict([checksum]))
        except AssetServerError:
            await self._forget(deposit, before)
            raise
        if checksum is None:
            await self._forget(deposit, before)
        else:
            await self._keep(deposit, gathered, None)

    async def _forget(self, deposit: Deposit, before: Hashes | None) -> None:
        await self._depot.on_files(deposit.cut, self.upload.offset, before)
        if before is not None:
            self._memory.keep(self.upload.id, self.upload.offset, before)

    async def _record(self, deposit: Deposit, size: int | None) -> None:
        """Make what was written durable, and then say so."""
        if deposit.offset != self.upload.offset:
            await wait_future(self._depot.files.submit(deposit.sync, is_first=self.upload.offset == 0))
        if (deposit.offset, size) != (self.upload.offset, self.upload.size):
            await self._advance(deposit.offset, size)

    async def _advance(self, offset: int, size: int | None) -> None:
        expires = self._expires()
        await self._depot.commits.commit(Advance(self.upload.id, offset, size, expires, self._allowance.quota))
        self.upload = msgspec.structs.replace(self.upload, offset=offset, size=size, expires=expires)

    def _batch_bytes(self) -> int:
        return batch_bytes(self._allowance.active)
