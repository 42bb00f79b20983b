"""PostgreSQL as it is reached here: one writer at a time where that matters, restarts survived, errors that say what to do."""

import subprocess
import sys
import threading

import pytest
from sqlalchemy import insert, select

from assetserver.app import create_app
from assetserver.database import schema
from assetserver.database.jobs import SqlJobs
from assetserver.database.postgres import PostgresDatabase
from assetserver.errors import BusyError, SchemaError, SettingsError, StorageError
from assetserver.jobs.job import Failure, NewJob
from assetserver.settings import load_settings

NEW = [NewJob(kind="a", payload="{}")]


def versions(connection):
    return connection.execute(select(schema.versions.c.version)).scalars().all()


def test_opening_again_changes_nothing(postgresql):
    postgresql.open()
    with postgresql.read() as connection:
        assert versions(connection) == [schema.CURRENT]


OPEN = "import sys; from assetserver.database.postgres import PostgresDatabase; PostgresDatabase(sys.argv[1]).open()"


def test_processes_that_start_together_migrate_once(postgres):
    url = postgres.create_database()
    processes = [subprocess.Popen([sys.executable, "-c", OPEN, url], stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint


def test_records_of_a_newer_program_are_not_touched(postgresql):
    with postgresql.write() as connection:
        connection.execute(insert(schema.versions).values(version=schema.CURRENT + 1))
    with pytest.raises(SchemaError, match="install a newer assetserver"):
        postgresql.open()


def test_what_fails_within_a_transaction_is_undone(postgresql):
    def fail():
        with postgresql.write() as connection:
            connection.execute(insert(schema.versions).values(version=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with postgresql.read() as connection:
        assert versions(connection) == [schema.CURRENT]


def test_a_reader_sees_one_moment_and_waits_for_nobody(postgresql):
    with postgresql.read() as reader:
        assert versions(reader) == [schema.CURRENT]
        with postgresql.write() as connection:
            connection.execute(insert(schema.versions).values(version=7))
        assert versions(reader) == [schema.CURRENT]


def test_what_a_dead_job_means_is_recorded_while_nobody_else_writes_alone(postgres):
    """Else an upload of the same picture, which looks at it at that moment, would be told of nothing."""
    first, second = (PostgresDatabase(url, patience_s=0.3) for url in [postgres.create_database()] * 2)
    first.open()
    queue = SqlJobs(second, on_dead={"a": lambda *_: ()})
    queue.enqueue([*NEW, NewJob(kind="b", payload="{}")])
    with_meaning, without = queue.claim("w", {"a": 1, "b": 1}, 0.0)
    with first.write():
        assert queue.fail(without, Failure("no", is_permanent=True), 0.0)
        with pytest.raises(BusyError):
            queue.fail(with_meaning, Failure("no", is_permanent=True), 0.0)
        with pytest.raises(BusyError):
            queue.sweep()
    assert queue.fail(with_meaning, Failure("no", is_permanent=True), 0.0)
    first.close()
    second.close()


def test_who_waits_too_long_for_another_that_writes_alone_is_told_to_come_again(postgres):
    first, second = (PostgresDatabase(url, patience_s=0.3) for url in [postgres.create_database()] * 2)
    first.open()
    with first.write(), pytest.raises(BusyError) as caught, second.write():
        pass
    assert caught.value.retryable
    with first.write(), second.write(alone=False):
        pass
    for database in (first, second):
        database.close()


def test_a_server_that_is_not_there_is_told_of_without_the_password(tmp_path):
    database = PostgresDatabase(f"postgresql://me:geheim@/records?host={tmp_path}", patience_s=1.0)
    with pytest.raises(StorageError, match=r"^database records at /.* cannot be reached: ") as caught:
        database.open()
    assert caught.value.retryable
    assert "geheim" not in str(caught.value)


def test_without_psycopg_the_remedy_is_told_at_the_start(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    settings = load_settings(None, {"ASSETSERVER_DATABASE__URL": "postgresql://a@b/c"})
    with pytest.raises(
        SettingsError, match=r"^ASSETSERVER_DATABASE__URL: PostgreSQL needs psycopg.*pip install 'assetserver\["
    ):
        create_app(settings)


def test_a_database_that_is_missing_is_told_of(postgres):
    database = PostgresDatabase(postgres.create_database().replace("/test_", "/missing_"))
    with pytest.raises(StorageError, match="does not exist"):
        database.open()


def test_a_restart_of_the_server_is_survived_and_who_listens_listens_again(postgres, postgresql, monkeypatch):
    monkeypatch.setattr("assetserver.database.postgres._RECONNECT_S", 0.0)
    queue = SqlJobs(postgresql)
    listener = queue.listen("w1")
    listener.wait(0)
    queue.enqueue(NEW)
    postgres.stop("immediate")
    with pytest.raises(StorageError):
        queue.enqueue(NEW)
    for _ in range(3):
        listener.wait(0.01)
    postgres.start()
    for _ in range(3):
        listener.wait(0.01)
    assert queue.count() == {"queued": 1}
    threading.Timer(0.05, lambda: queue.enqueue(NEW)).start()
    while queue.count() == {"queued": 1}:
        listener.wait(60)
    listener.close()
