"""The tables, and the steps that lead to them. Columns are from ``uploads.records``, ``access.tokens`` and ``jobs.job``.

A new database gets the tables as they are here, an old one the steps that it lacks, within one transaction that nobody else
writes in: any number of processes may start together. Steps are only ever added: what is released is never edited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    inspect,
    literal_column,
    select,
    text,
)

from assetserver.errors import SchemaError
from assetserver.jobs.job import STATES

METADATA = MetaData()

uploads = Table(
    "uploads",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("size", BigInteger),
    Column("offset", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("by_name", Text, nullable=False),
    Column("account", Text, nullable=False, server_default=""),
    Column("terms", Text, nullable=False),
    Column("gone", Float),
    Column("picture", Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,  # a number is never given twice: cursors stay valid
)
"""``terms``: what was agreed at creation, as JSON. ``gone``: when it was removed; its other columns mean nothing then.

``picture``: the key of what is made of it, or "".
"""


def _only(condition: ColumnElement[bool]) -> dict[str, Any]:
    """Return what makes an index one of some rows alone, in the words of each database."""
    return {"sqlite_where": condition, "postgresql_where": condition}


_NOTHING = literal_column("''", Text)
HAS_NAME = uploads.c.by_name != _NOTHING
HAS_PICTURE = uploads.c.picture != _NOTHING
"""With texts, not parameters, and said beside what is asked for: only then a database sees that an index of some rows alone has
all of them. Without, it reads the whole table."""

Index("uploads_by_name", uploads.c.collection, uploads.c.by_name, uploads.c.number, **_only(HAS_NAME))
Index("uploads_by_blob", uploads.c.sha256)
Index("uploads_by_owner", uploads.c.owner, uploads.c.number)
Index("uploads_unfinished", uploads.c.owner, uploads.c.expires, **_only(uploads.c.expires.is_not(None)))
Index("uploads_gone", uploads.c.gone, **_only(uploads.c.gone.is_not(None)))
_BY_PICTURE = Index("uploads_by_picture", uploads.c.picture, **_only(HAS_PICTURE))

tokens = Table(
    "tokens",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Float),
)
"""``scopes``: separated by spaces. ``digest``: of the secret, which is kept nowhere."""

grant_uses = Table(
    "grant_uses",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("uses", Integer, nullable=False),
    Column("expires", Float, nullable=False),
)

jobs = Table(
    "jobs",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("key", Text),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("run_at", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("finished", Float),
    Column("lease_until", Float),
    Column("lease_token", Text),
    Column("worker", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("signal", Integer, nullable=False),
    Column("trace", Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)
"""``key``: null where there is none, so that any number may have none. Times in seconds since 1970."""

_QUEUED, _RUNNING, _DONE, _DEAD, _CANCELLED = (literal_column(f"'{state}'", Text) for state in STATES)
IS_QUEUED = jobs.c.state == _QUEUED
IS_RUNNING = jobs.c.state == _RUNNING
IS_ACTIVE = jobs.c.state.in_((_QUEUED, _RUNNING))
IS_ENDED = jobs.c.state.in_((_DONE, _DEAD, _CANCELLED))
"""With texts: as above."""

Index("jobs_ready", jobs.c.kind, jobs.c.priority.desc(), jobs.c.run_at, jobs.c.id, **_only(IS_QUEUED))
Index("jobs_due", jobs.c.kind, jobs.c.run_at, **_only(IS_QUEUED))
Index("jobs_leased", jobs.c.lease_until, **_only(IS_RUNNING))
Index("jobs_active", jobs.c.key, unique=True, **_only(IS_ACTIVE))
Index("jobs_ended", jobs.c.finished, **_only(IS_ENDED))

pictures = Table(
    "pictures",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("look", Text, nullable=False),
    Column("pending", Text, nullable=False),
)
"""Of ``pictures.records``. ``look``: JSON, or "" while nobody looked. ``pending``: formats, separated by spaces."""

variants = Table(
    "variants",
    METADATA,
    Column("picture", Text, primary_key=True),
    Column("format", Text, primary_key=True),
    Column("width", Integer, primary_key=True),
    Column("height", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
)

Index("variants_by_blob", variants.c.sha256)

versions = Table("schema_versions", METADATA, Column("version", Integer, primary_key=True))
"""The versions that the tables had; the greatest is the one that they have."""


def _add_account(connection: Connection) -> None:
    """What was begun with a grant counts for that grant alone until it ends: who made it is not in its record."""
    connection.execute(text("ALTER TABLE uploads ADD COLUMN account TEXT DEFAULT '' NOT NULL"))


def _add_jobs(connection: Connection) -> None:
    jobs.create(connection, checkfirst=True)


def _add_pictures(connection: Connection) -> None:
    """What was uploaded before has no picture: nobody asked for one."""
    connection.execute(text("ALTER TABLE uploads ADD COLUMN picture TEXT DEFAULT '' NOT NULL"))
    _BY_PICTURE.create(connection)
    pictures.create(connection, checkfirst=True)
    variants.create(connection, checkfirst=True)


def _add_traces(connection: Connection) -> None:
    """What was queued before belongs to no trace."""
    if "trace" not in {
        column["name"] for column in inspect(connection).get_columns(jobs.name)
    }:  # made just now, as it is above
        connection.execute(text("ALTER TABLE jobs ADD COLUMN trace TEXT DEFAULT '' NOT NULL"))


STEPS: tuple[Callable[[Connection], None], ...] = (_add_account, _add_jobs, _add_pictures, _add_traces)
"""What leads from each version of the tables to the next one, the first from version 1 to 2."""

CURRENT = 1 + len(STEPS)


def version_of(connection: Connection) -> int:
    """Return the version of the tables, 0 where there are none."""
    if not inspect(connection).has_table(versions.name):
        return 0
    return int(connection.execute(select(func.coalesce(func.max(versions.c.version), 0))).scalar_one())


def migrate(connection: Connection) -> None:
    """Make the tables what they are above, in a transaction of which the caller says the end. May be repeated.

    Raises ``SchemaError`` for the records of a newer version of this program: writing to them could lose what it knows.
    """
    found = version_of(connection)
    if found > CURRENT:
        raise SchemaError(f"the records have version {found}, this program knows {CURRENT}: install a newer assetserver")
    if found == 0:
        METADATA.create_all(connection)
    else:
        for step in STEPS[found - 1 :]:
            step(connection)
    if found < CURRENT:
        connection.execute(insert(versions).values(version=CURRENT))
