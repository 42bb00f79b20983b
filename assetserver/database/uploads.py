"""Records of uploads in SQL: the engine of ``uploads.records.UploadRecords``.

What a change needs is looked at, and then it is made, all in a transaction that alone may write: two processes can neither
exceed a quota together, nor both find a name free, nor complete an upload with a blob that the other removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import singledispatchmethod
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from assetserver.errors import (
    AssetServerError,
    BadRequestError,
    BlobMissingError,
    ForbiddenError,
    QuotaError,
    UploadGoneError,
    UploadMissingError,
)
from assetserver.jobs.job import NewJob
from assetserver.pictures.records import PictureRecord
from assetserver.storage.blobs import Digest
from assetserver.uploads.records import Add, Advance, Change, Complete, Fail, Held, Quota, Remove, Upload
from assetserver.uploads.session import check_conditions

from .connections import Database
from .jobs import enqueue_within
from .pictures import Announce, add_within, announce_nothing, drop_within, find_within
from .schema import HAS_NAME, uploads, variants
from .uploadrows import ALIVE, COLUMNS, to_row, to_upload

_MANY = 500
"""How many values one statement asks for; SQLite takes 999 in its oldest form."""

_IS_HELD = and_(ALIVE, or_(uploads.c.state == "uploading", uploads.c.kind == "tus-partial"), uploads.c.expires.is_not(None))
_HELD_BYTES = func.coalesce(uploads.c.size, uploads.c.offset)

_WANTED: BindParameter[str] = bindparam("wanted")
_INSERT = insert(uploads)
_UPDATE = update(uploads).where(uploads.c.id == _WANTED)
_FIND = select(*COLUMNS, uploads.c.gone).where(uploads.c.id == _WANTED)
_SHOWN = (uploads.c.collection == bindparam("collection"), uploads.c.by_name == _WANTED, HAS_NAME)
_FIND_BY_NAME: Select[Any] = (
    select(*COLUMNS).where(*_SHOWN, uploads.c.state == "complete", ALIVE).order_by(uploads.c.number.desc()).limit(1)
)
"""Made once, and given their values when executed: to build and hash a statement of twenty values takes 0.3 ms."""

_PAYER: BindParameter[str] = bindparam("payer")
_IS_OF_PAYER = or_(uploads.c.account == _PAYER, and_(uploads.c.account == "", uploads.c.owner == _PAYER))
_OF_PAYER = case((_IS_OF_PAYER, _HELD_BYTES), else_=0)
_HELD = select(func.coalesce(func.sum(_OF_PAYER), 0), func.coalesce(func.sum(_HELD_BYTES), 0)).where(_IS_HELD)


class SqlUploads:
    """The records in ``database``. ``announce``: see ``pictures.Announce``."""

    def __init__(self, database: Database, announce: Announce = announce_nothing) -> None:
        self._database = database
        self._announce = announce

    def commit(self, changes: Sequence[Change], is_stored: Callable[[Digest], bool]) -> list[Exception | None]:
        """Make ``changes``; see ``UploadRecords.commit``."""
        with self._database.write() as connection:
            makers = _Changes(connection, is_stored, self._announce)
            refusals = [makers.try_make(change) for change in changes]
            makers.insert_gathered()
            if makers.new_jobs:
                enqueue_within(connection, makers.new_jobs, self._database.now(connection))
                self._database.notify(connection)
        if makers.new_jobs:
            self._database.wake_workers()
        return refusals

    def find(self, upload_id: str) -> Upload:
        """Return an upload; see ``UploadRecords.find``."""
        with self._database.read() as connection:
            return _find(connection, upload_id)

    def find_many(self, upload_ids: Iterable[str]) -> dict[str, Upload]:
        """Return those of these uploads that there are; see ``UploadRecords.find_many``."""
        with self._database.read() as connection:
            queries = (select(*COLUMNS).where(uploads.c.id.in_(some), ALIVE) for some in _in_pieces(upload_ids))
            return {row.id: to_upload(row) for query in queries for row in connection.execute(query)}

    def find_pictures(self, keys: Iterable[str]) -> dict[str, PictureRecord]:
        """Return those of these pictures that there are; see ``UploadRecords.find_pictures``."""
        with self._database.read() as connection:
            found = (find_within(connection, some) for some in _in_pieces(keys))
            return {key: one for some in found for key, one in some.items()}

    def find_by_name(self, collection: str, name: str) -> Upload | None:
        """Return the newest complete upload that is stored under ``name``."""
        with self._database.read() as connection:
            return _find_by_name(connection, collection, name)

    def list_uploads(self, owner: str | None, cursor: str, limit: int) -> tuple[list[Upload], str]:
        """Return uploads, the newest first; see ``UploadRecords.list_uploads``."""
        wanted: list[ColumnElement[bool]] = [ALIVE] if owner is None else [ALIVE, uploads.c.owner == owner]
        if cursor:
            wanted.append(uploads.c.number < _parse_cursor(cursor))
        query = select(*COLUMNS, uploads.c.number).where(*wanted).order_by(uploads.c.number.desc()).limit(limit + 1)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        page = rows[:limit]
        return [to_upload(row) for row in page], str(page[-1].number) if len(rows) > limit else ""

    def held(self, owner: str) -> Held:
        """Return the bytes that unfinished uploads hold; see ``UploadRecords.held``."""
        with self._database.read() as connection:
            return _held(connection, owner)

    def list_expired(self, now: float) -> list[Upload]:
        """Return the uploads whose end has come."""
        return self._list(and_(ALIVE, uploads.c.expires.is_not(None), uploads.c.expires <= now))

    def list_stuck(self) -> list[Upload]:
        """Return uploads of which every byte is there and which nobody completed."""
        is_open = and_(ALIVE, uploads.c.state == "uploading", uploads.c.expires.is_not(None))  # the index has only those
        return self._list(and_(is_open, uploads.c.size == uploads.c.offset))

    def unfinished(self, upload_ids: Iterable[str]) -> set[str]:
        """Return which of these uploads are not complete yet."""
        wanted = and_(ALIVE, uploads.c.state == "uploading")
        return self._which(uploads.c.id, upload_ids, wanted)

    def referenced(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return which of these blobs a record names."""
        wanted = list(digests)
        found = self._which(uploads.c.sha256, wanted, ALIVE) | self._which(variants.c.sha256, wanted, true())
        return {Digest(one) for one in found}

    def drop_blob(self, digest: Digest, remove: Callable[[], object]) -> bool:
        """Call ``remove`` if no record names ``digest``; see ``UploadRecords.drop_blob``."""
        with self._database.write() as connection:
            of_upload = select(uploads.c.sha256).where(uploads.c.sha256 == digest, ALIVE)
            of_variant = select(variants.c.sha256).where(variants.c.sha256 == digest)
            is_named = any(connection.execute(one.limit(1)).first() for one in (of_upload, of_variant))
            if not is_named:
                remove()
            return not is_named

    def forget_gone(self, before: float) -> int:
        """Forget the ids that are gone since before then; return their number."""
        with self._database.write() as connection:
            return connection.execute(uploads.delete().where(uploads.c.gone < before)).rowcount

    def _list(self, wanted: ColumnElement[bool]) -> list[Upload]:
        with self._database.read() as connection:
            return [to_upload(row) for row in connection.execute(select(*COLUMNS).where(wanted))]

    def _which(self, column: ColumnElement[str], values: Iterable[str], wanted: ColumnElement[bool]) -> set[str]:
        found: set[str] = set()
        with self._database.read() as connection:
            for some in _in_pieces(values):
                found.update(connection.execute(select(column).where(column.in_(some), wanted)).scalars())
        return found


class _Changes:
    """Makes changes within a transaction; each looks at everything first, so that one that is refused has changed nothing."""

    def __init__(self, connection: Connection, is_stored: Callable[[Digest], bool], announce: Announce) -> None:
        self.new_jobs: list[NewJob] = []
        self._connection = connection
        self._is_stored = is_stored
        self._announce = announce
        self._gathered: list[dict[str, object]] = []

    def insert_gathered(self) -> None:
        """Insert the rows of new uploads that stand alone, in one go: one by one, each takes 0.15 ms (measured 2026-11-27)."""
        if rows := self._gathered:
            self._gathered = []
            self._connection.execute(_INSERT, rows)

    def try_make(self, change: Change) -> Exception | None:
        try:
            if isinstance(change, Complete) and change.is_new and not change.upload.by_name:
                self._gather(change)
            else:
                self.insert_gathered()  # it may look at them
                self._make(change)
        except AssetServerError as error:
            return error
        return None

    @singledispatchmethod
    def _make(self, change: Change) -> None:
        raise TypeError(change)

    @_make.register
    def _add(self, change: Add) -> None:
        self._check_quota(change.upload.payer, change.upload.size or 0, change.quota)
        self._connection.execute(_INSERT, to_row(change.upload))

    @_make.register
    def _advance(self, change: Advance) -> None:
        upload = _find(self._connection, change.id)
        if upload.state != "uploading":
            raise UploadGoneError(f"upload {change.id} is {upload.state}")
        offset = max(upload.offset, change.offset)
        size = upload.size if change.size is None else change.size
        more = _count_held(size, offset) - _count_held(upload.size, upload.offset)
        if more > 0:  # what counts already may go on, though the quota became smaller
            self._check_quota(upload.payer, more, change.quota)
        values = {"offset": offset, "size": size, "expires": change.expires}
        self._connection.execute(_UPDATE, values | {"wanted": change.id})

    @_make.register
    def _complete(self, change: Complete) -> None:
        upload = change.upload
        if upload.by_name:
            current = _find_by_name(self._connection, upload.collection, upload.by_name)
            if change.only_own and current is not None and current.owner != upload.owner:
                raise ForbiddenError(f"what is stored under the name {upload.by_name!a} belongs to another token")
            digest = None if current is None else current.sha256
            check_conditions(upload.by_name, digest, change.if_match, none=change.if_none_match)
        if not change.is_new and (state := _find(self._connection, upload.id).state) != "uploading":
            raise UploadGoneError(f"upload {upload.id} is {state}")
        self._check_stored(upload)
        row = to_row(upload)
        if change.is_new:
            self._connection.execute(_INSERT, row)
        else:
            self._connection.execute(_UPDATE, row | {"wanted": upload.id})
        self._follow_up(change)

    def _gather(self, change: Complete) -> None:
        self._check_stored(change.upload)
        self._gathered.append(to_row(change.upload))
        self._follow_up(change)

    def _follow_up(self, change: Complete) -> None:
        self.new_jobs += change.jobs
        if change.picture_job is not None:
            self.new_jobs += add_within(self._connection, change.upload, change.picture_job, self._announce)

    def _check_stored(self, upload: Upload) -> None:
        if not self._is_stored(Digest(upload.sha256)):
            raise BlobMissingError(f"blob {upload.sha256} was removed meanwhile")

    @_make.register
    def _fail(self, change: Fail) -> None:
        self._connection.execute(
            update(uploads).where(uploads.c.id == change.id, uploads.c.state == "uploading", ALIVE).values(state="failed")
        )

    @_make.register
    def _remove(self, change: Remove) -> None:
        upload = _find(self._connection, change.id)
        if upload.by_name:
            self._free_name(upload)
        self._connection.execute(
            update(uploads)
            .where(uploads.c.id == change.id)
            .values(gone=change.now, metadata="{}", name="", by_name="", sha256="", terms="", expires=None, picture="")
        )
        if upload.picture:
            drop_within(self._connection, upload.picture, change.now)
        self.new_jobs += change.jobs

    def _free_name(self, upload: Upload) -> None:
        """If ``upload`` is what its name shows, take the name from what its owner stored under it before, too."""
        shown = _find_by_name(self._connection, upload.collection, upload.by_name)
        if shown is None or shown.id != upload.id:
            return
        same = (uploads.c.collection == upload.collection, uploads.c.by_name == upload.by_name, HAS_NAME)
        self._connection.execute(update(uploads).where(*same, uploads.c.owner == upload.owner).values(by_name=""))

    def _check_quota(self, owner: str, more: int, quota: Quota) -> None:
        held = _held(self._connection, owner)
        if held.by_owner + more > quota.per_owner:
            raise QuotaError(
                f"{held.by_owner} bytes are held by unfinished uploads of {owner}; {quota.per_owner} are the limit"
            )
        if held.in_all + more > quota.in_all:
            raise QuotaError(f"{held.in_all} bytes are held by unfinished uploads; {quota.in_all} are the limit")


def _count_held(size: int | None, offset: int) -> int:
    """Return what an upload that is not finished holds: as ``_HELD_BYTES``."""
    return offset if size is None else size


def _find(connection: Connection, upload_id: str) -> Upload:
    row = None if "\0" in upload_id else connection.execute(_FIND, {"wanted": upload_id}).first()  # PostgreSQL takes no NUL
    if row is None:
        raise UploadMissingError(f"there is no upload {upload_id}")
    if row.gone is not None:
        raise UploadGoneError(f"upload {upload_id} was removed, or it expired")
    return to_upload(row)


def _find_by_name(connection: Connection, collection: str, name: str) -> Upload | None:
    row = connection.execute(_FIND_BY_NAME, {"collection": collection, "wanted": name}).first()
    return None if row is None else to_upload(row)


def _held(connection: Connection, owner: str) -> Held:
    by_owner, in_all = connection.execute(_HELD, {"payer": owner}).one()
    return Held(int(by_owner), int(in_all))


def _parse_cursor(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):  # noqa: PLR2004 - the digits of 64 bits
        raise BadRequestError(f"{text[:40]!r} is not a cursor that was given out here")
    return int(text)


def _in_pieces(values: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for value in values:
        some.append(value)
        if len(some) == _MANY:
            yield some
            some = []
    if some:
        yield some
