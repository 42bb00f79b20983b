"""Pictures and their variants in SQL: what belongs into one transaction with uploads and jobs, and a worker's view.

A picture is recorded with the first upload of its bytes, made by the job that is queued with it, and goes with the last one.
The job that works on it has its key in the ``key``: only what is queued or running has one that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from assetserver.errors import BlobMissingError, LeaseLostError
from assetserver.jobs.job import Failure, Job, Lease, NewJob
from assetserver.pictures.records import Found, Look, Made, PictureRecord, State, StoredVariant
from assetserver.storage.blobs import Digest
from assetserver.uploads.records import Upload

from .connections import Database
from .jobs import cancel_within, complete_within, enqueue_within
from .schema import HAS_PICTURE, IS_ACTIVE, jobs, pictures, uploads, variants
from .uploadrows import ALIVE, COLUMNS, to_upload

KIND = "image"
_FIRST, _LATER = "image:", "image-later:"

Announce = Callable[[Upload, PictureRecord], Sequence[NewJob]]
"""The jobs that tell others that what is made of an upload is ready, or has failed; recorded with that."""

_VARIANT_COLUMNS = [variants.c[name] for name in StoredVariant.__struct_fields__]


def announce_nothing(_: Upload, __: PictureRecord) -> Sequence[NewJob]:
    """Tell nobody."""
    return ()


def name_job(picture: str, *, is_later: bool) -> str:
    """Return the ``key`` of the job that makes a picture ready, or of the one that makes what may come later."""
    return (_LATER if is_later else _FIRST) + picture


def add_within(connection: Connection, upload: Upload, job: NewJob, announce: Announce) -> Sequence[NewJob]:
    """Record the picture of a complete upload, in the caller's transaction; return the jobs that follow from that.

    What is known already is not made again, unless it failed for a reason that may have gone.
    """
    key = upload.picture
    state = connection.execute(select(pictures.c.state).where(pictures.c.key == key)).scalar()
    if state in ("ready", "refused"):
        return announce(upload, find_within(connection, [key])[key])
    if state is None:
        row = {"key": key, "source": upload.sha256, "state": "waiting", "reason": "", "look": "", "pending": ""}
        connection.execute(insert(pictures), row)
    elif state == "failed":
        connection.execute(update(pictures).where(pictures.c.key == key).values(state="waiting", reason=""))
    return (job,)


def drop_within(connection: Connection, key: str, now: float) -> None:
    """Forget a picture that no upload has any more, and end the work on it, in the caller's transaction."""
    if connection.execute(select(uploads.c.id).where(uploads.c.picture == key, HAS_PICTURE, ALIVE).limit(1)).first():
        return
    connection.execute(delete(variants).where(variants.c.picture == key))
    connection.execute(delete(pictures).where(pictures.c.key == key))
    for is_later in (False, True):
        cancel_within(connection, name_job(key, is_later=is_later), "the upload was removed", now)


def find_within(connection: Connection, keys: Collection[str]) -> dict[str, PictureRecord]:
    """Return pictures by key; see ``UploadRecords.find_pictures``."""
    found = connection.execute(select(pictures).where(pictures.c.key.in_(keys))).all()
    made: dict[str, list[StoredVariant]] = {row.key: [] for row in found}
    for row in connection.execute(select(variants.c.picture, *_VARIANT_COLUMNS).where(variants.c.picture.in_(keys))):
        values = {name: getattr(row, name) for name in StoredVariant.__struct_fields__}
        made.setdefault(row.picture, []).append(StoredVariant(**values))
    works = _find_work(connection, [row.key for row in found if row.state in ("waiting", "failed")])
    return {row.key: _to_record(row, tuple(made[row.key]), works.get(name_job(row.key, is_later=False))) for row in found}


def end_within(connection: Connection, job: Job, failure: Failure, announce: Announce) -> Sequence[NewJob]:
    """Record that the job of a picture is dead, in the transaction that says so; return the jobs that follow.

    What may come later, and does not, leaves the picture ready.
    """
    key, is_later = job.key.removeprefix(_FIRST), job.key.startswith(_LATER)
    if is_later:
        connection.execute(update(pictures).where(pictures.c.key == job.key.removeprefix(_LATER)).values(pending=""))
        return ()
    state: Found = "refused" if failure.is_permanent else "failed"
    failed = update(pictures).where(pictures.c.key == key, pictures.c.state == "waiting")
    if not connection.execute(failed.values(state=state, reason=failure.reason)).rowcount:
        return ()
    return _announce(connection, key, announce)


class SqlPictures:
    """Pictures as a worker sees them. All methods block, and may be called from any thread."""

    def __init__(self, database: Database, announce: Announce = announce_nothing) -> None:
        self._database = database
        self._announce = announce

    def find(self, key: str) -> PictureRecord | None:
        """Return a picture, or None if no upload has it."""
        with self._database.read() as connection:
            return find_within(connection, [key]).get(key)

    def complete(
        self, lease: Lease, key: str, made: Made, is_stored: Callable[[Digest], bool], later: NewJob | None = None
    ) -> bool:
        """Record what was made of a picture, the end of the job, and ``later``, the job that goes on; all in one transaction.

        Return False if the picture went meanwhile: nothing names the blobs. Raises ``LeaseLostError`` if another worker has
        the job, ``BlobMissingError`` if a blob went: then nothing happened, and the variants are to be stored again.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            if not complete_within(connection, lease, now):
                raise LeaseLostError(f"job {lease.job.id} was cancelled, or another worker has it")
            row = connection.execute(select(pictures.c.state).where(pictures.c.key == key)).first()
            if row is None:
                return False
            for variant in made.variants:
                if not is_stored(Digest(variant.sha256)):
                    raise BlobMissingError(f"blob {variant.sha256} was removed meanwhile")
            self._add(connection, key, made)
            new = [*([later] if later else ()), *(_announce(connection, key, self._announce) if row.state != "ready" else ())]
            enqueue_within(connection, new, now)
            self._database.notify(connection)
        self._database.wake_workers()
        return True

    def _add(self, connection: Connection, key: str, made: Made) -> None:
        """Add variants; what is there of a format and width stays: somebody may have its URL."""
        known = connection.execute(select(variants.c.format, variants.c.width).where(variants.c.picture == key)).all()
        there = {(row.format, row.width) for row in known}
        rows = [msgspec.structs.asdict(one) | {"picture": key} for one in made.variants if (one.format, one.width) not in there]
        if rows:
            connection.execute(insert(variants), rows)
        values: dict[str, object] = {"state": "ready", "reason": "", "pending": " ".join(made.pending)}
        if made.look is not None:
            values["look"] = msgspec.json.encode(made.look).decode()
        connection.execute(update(pictures).where(pictures.c.key == key).values(values))


def _announce(connection: Connection, key: str, announce: Announce) -> list[NewJob]:
    """Return the jobs that tell of a picture, for each upload that has it."""
    picture = find_within(connection, [key])[key]
    having = connection.execute(select(*COLUMNS).where(uploads.c.picture == key, HAS_PICTURE, ALIVE)).all()
    return [job for row in having for job in announce(to_upload(row), picture)]


def _find_work(connection: Connection, keys: Sequence[str]) -> dict[str, Any]:
    """Return the rows of the jobs that make these pictures ready, by the job's key."""
    if not keys:
        return {}
    wanted = [name_job(key, is_later=False) for key in keys]
    query = select(jobs.c.key, jobs.c.state, jobs.c.progress).where(jobs.c.key.in_(wanted), IS_ACTIVE)
    return {row.key: row for row in connection.execute(query)}


def _to_record(row: Any, made: tuple[StoredVariant, ...], work: Any) -> PictureRecord:
    state: State = "failed" if row.state in ("failed", "refused") else "ready" if row.state == "ready" else "queued"
    if work is not None:
        state = "processing" if work.state == "running" else "queued"
    return PictureRecord(
        key=row.key,
        source=row.source,
        state=state,
        reason=row.reason if state == "failed" else "",
        progress=work.progress if work is not None else float(state == "ready"),
        look=msgspec.json.decode(row.look, type=Look) if row.look else None,
        pending=tuple(row.pending.split()),
        variants=made,
    )
