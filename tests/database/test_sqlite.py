"""SQLite as it is opened here: durable, never half migrated, several processes at once, errors that say what to do."""

import os
import sqlite3
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from sqlalchemy import insert, inspect, select, text

from assetserver.cli import main
from assetserver.database import schema
from assetserver.database.drivers import choose_driver, is_affected
from assetserver.database.sqlite import SqliteDatabase
from assetserver.errors import BusyError, SchemaError, StorageError


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "data" / "records.sqlite3")


@pytest.fixture
def database(path):
    opened = SqliteDatabase(path, patience_s=0.2)
    opened.open()
    yield opened
    opened.close()


def pragma(database, name):
    with database.read() as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def put_version(database, version):
    with database.write() as connection:
        connection.execute(insert(schema.versions).values(version=version))


def test_commits_survive_a_power_cut_and_readers_never_wait(database):
    assert (pragma(database, "journal_mode"), pragma(database, "synchronous")) == ("wal", 2)
    with database.write() as connection:
        put = insert(schema.versions).values(version=7)
        connection.execute(put)
        with database.read() as reader:
            assert reader.execute(select(schema.versions.c.version)).scalars().all() == [schema.CURRENT]


def test_what_fails_within_a_transaction_is_undone(database):
    def fail():
        with database.write() as connection:
            connection.execute(insert(schema.versions).values(version=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.read() as connection:
        assert schema.version_of(connection) == schema.CURRENT


def test_opening_again_changes_nothing(database):
    database.open()
    with database.read() as connection:
        assert connection.execute(select(schema.versions.c.version)).scalars().all() == [schema.CURRENT]


def test_an_old_version_takes_the_steps_that_it_lacks(database, monkeypatch):
    def add_column(connection):
        connection.execute(text("ALTER TABLE tokens ADD COLUMN colour TEXT"))

    newer = schema.CURRENT + 1
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, add_column))
    monkeypatch.setattr(schema, "CURRENT", newer)
    database.open()
    database.open()
    with database.read() as connection:
        assert schema.version_of(connection) == newer
        assert connection.execute(text("SELECT colour FROM tokens")).all() == []


def test_records_of_version_1_become_those_of_today(database):
    texts = dict.fromkeys(("state", "name", "collection", "owner", "sha256", "media_type", "by_name"), "")
    with database.write() as connection:
        connection.execute(
            insert(schema.uploads).values(id="a", offset=0, metadata="{}", kind="tus", created=1.0, terms="{}", **texts)
        )
        for lost in ("INDEX uploads_by_picture", "TABLE pictures", "TABLE variants", "TABLE jobs"):
            connection.execute(text(f"DROP {lost}"))
        for column in ("account", "picture"):
            connection.execute(text(f"ALTER TABLE uploads DROP COLUMN {column}"))
        connection.execute(text("DELETE FROM schema_versions WHERE version > 1"))
        connection.execute(text("INSERT OR IGNORE INTO schema_versions VALUES (1)"))
    database.open()
    with database.read() as connection:
        assert connection.execute(text("SELECT account, picture FROM uploads")).all() == [("", "")]
        assert schema.version_of(connection) == schema.CURRENT
        found = inspect(connection)
        assert set(found.get_table_names()) == set(schema.METADATA.tables)
        for table in schema.METADATA.tables.values():
            assert {index["name"] for index in found.get_indexes(table.name)} >= {index.name for index in table.indexes}


def test_a_step_that_fails_leaves_the_version_before(database, monkeypatch):
    def fail(connection):
        connection.execute(text("CREATE TABLE half (a TEXT)"))
        connection.execute(text("CREATE TABLE half (a TEXT)"))

    before = schema.CURRENT
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, fail))
    monkeypatch.setattr(schema, "CURRENT", before + 1)
    with pytest.raises(StorageError):
        database.open()
    with database.read() as connection:
        assert schema.version_of(connection) == before
        assert connection.execute(text("SELECT name FROM sqlite_master WHERE name = 'half'")).all() == []


def test_records_of_a_newer_program_are_not_touched(database):
    put_version(database, schema.CURRENT + 1)
    with pytest.raises(SchemaError, match="install a newer assetserver"):
        database.open()


def test_a_file_that_is_no_database_is_refused_and_left_alone(path):
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        file.write("these are my notes, and not a database\n" * 100)
    with pytest.raises(SchemaError, match="not a database"):
        SqliteDatabase(path).open()
    assert os.path.getsize(path) == 3900


OPEN = "import sys; from assetserver.database.sqlite import SqliteDatabase; SqliteDatabase(sys.argv[1]).open()"


def test_processes_that_start_together_migrate_once(path):
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, path], stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint


def test_a_new_file_that_another_process_turns_to_wal_is_waited_for(path, monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    other = choose_driver().connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("assetserver.database.sqlite.time.sleep", lambda _: other.close())
    database = SqliteDatabase(path)
    database.open()
    assert pragma(database, "journal_mode") == "wal"
    database.close()


def test_a_new_file_that_another_program_keeps_is_busy(path, tmp_path):
    (tmp_path / "data").mkdir()
    other = choose_driver().connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyError, match="locked"):
        SqliteDatabase(path, patience_s=0.1).open()
    other.close()


def test_who_waits_too_long_for_another_writer_is_told_to_come_again(database, path):
    other = SqliteDatabase(path)
    with other.write(), pytest.raises(BusyError) as caught, database.write():
        pass
    assert caught.value.retryable
    other.close()
    with database.write():
        pass


def test_a_database_locked_by_another_program_is_busy(database, path):
    lock = sqlite3.connect(path, isolation_level=None) if choose_driver() is sqlite3 else choose_driver().connect(path)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BusyError, match="locked"), database.write():
        pass
    lock.rollback()
    lock.close()


def test_writers_of_one_process_take_turns(path):
    database = SqliteDatabase(path)
    database.open()

    def add(number):
        put_version(database, number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(100, 130)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with database.read() as connection:
        assert len(connection.execute(select(schema.versions.c.version)).all()) == 31
    database.close()


@pytest.mark.parametrize(
    ("version", "affected"),
    [((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 54, 0), False)],
)
def test_the_versions_that_may_corrupt_a_wal_are_known(version, affected):
    assert is_affected(version) == affected


def test_the_newer_sqlite_is_taken():
    assert choose_driver().sqlite_version_info >= sqlite3.sqlite_version_info


def test_with_an_affected_sqlite_only_one_process_at_a_time_checkpoints(path, monkeypatch):
    monkeypatch.setattr("assetserver.database.sqlite.WAL_LIMIT_BYTES", 100_000)
    database = SqliteDatabase(path, driver=sqlite3)
    database.is_affected = True
    database.open()
    assert pragma(database, "wal_autocheckpoint") == 0
    sizes = []
    for number in range(100, 200):
        put_version(database, number)
        sizes.append(os.path.getsize(path + "-wal"))
    assert min(sizes) == 0
    assert max(sizes) < 200_000
    database.close()


@pytest.mark.parametrize(("version", "warned"), [("3.40.1", True), ("3.51.3", False)])
def test_check_warns_of_a_sqlite_that_may_corrupt(version, warned, monkeypatch, tmp_path):
    numbers = tuple(map(int, version.split(".")))
    driver = SimpleNamespace(sqlite_version=version, sqlite_version_info=numbers)
    monkeypatch.setattr("assetserver.database.drivers.choose_driver", lambda: driver)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 0, result.output
    assert (f"warning: SQLite {version}" in result.output) == warned


def test_importing_the_server_does_not_import_sqlalchemy():
    script = "import sys, assetserver.app, assetserver.cli; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
