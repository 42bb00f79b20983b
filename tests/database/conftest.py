"""Databases of both kinds, opened and empty."""

from collections.abc import Iterator

import pytest

from assetserver.database.postgres import PostgresDatabase
from assetserver.database.sqlite import SqliteDatabase


@pytest.fixture
def sqlite(tmp_path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(str(tmp_path / "records.sqlite3"))
    database.open()
    yield database
    database.close()


@pytest.fixture
def postgresql(postgres) -> Iterator[PostgresDatabase]:
    database = PostgresDatabase(postgres.create_database())
    database.open()
    yield database
    database.close()
