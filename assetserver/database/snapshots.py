"""Records at one moment, for backups: a copy of the database that stands for itself.

What was not complete has no bytes in a backup: in the copy, unfinished uploads are gone, so that whoever resumes one is told to
begin anew.
"""

from __future__ import annotations

from sqlalchemy import select

from .schema import uploads, variants
from .sqlite import SqliteDatabase
from .uploadrows import ALIVE


def take_snapshot(source: SqliteDatabase, target: str, now: float) -> set[str]:
    """Copy the records to a new file at ``target``, durably; return the digests of all blobs that they name.

    ``now``: seconds since 1970. Raises as every transaction does.
    """
    source.copy_to(target)
    copy = SqliteDatabase(target)
    try:
        with copy.write() as connection:
            connection.execute(uploads.update().where(uploads.c.state == "uploading", ALIVE).values(gone=now))
            of_uploads = select(uploads.c.sha256).where(uploads.c.sha256 != "", ALIVE)
            of_variants = select(variants.c.sha256).where(variants.c.sha256 != "")
            return {*connection.execute(of_uploads).scalars(), *connection.execute(of_variants).scalars()}
    finally:
        copy.close()
