"""Jobs in SQLite and in PostgreSQL, and what only one of the two can do."""

import os

import pytest
from sqlalchemy import text

from assetserver.database import schema
from assetserver.database.jobs import _CLAIM, _DUE, _ENDS, SqlJobs

from ..contracts.jobqueue import START, JobQueueContract, new


class TestSqliteJobs(JobQueueContract):
    @pytest.fixture
    def database(self, sqlite):
        return sqlite

    def test_a_worker_that_is_gone_loses_its_jobs_at_once(self, queue):
        (job_id,) = queue.enqueue([new()])
        with self.living(queue, "w1"):
            self.claim(queue)
            assert queue.sweep() == 0
        assert queue.sweep() == 1
        job = queue.find(job_id)
        assert (job.state, job.attempts, job.reason, job.run_at) == ("queued", 1, "worker w1 died", START)

    def test_a_bell_that_nobody_hears_is_removed_by_who_rings(self, queue, tmp_path):
        folder = tmp_path / "records.sqlite3-workers"
        listener = queue.listen("dead")
        os.close(listener._descriptor)
        listener._descriptor = -1
        assert os.listdir(folder) == ["dead"]
        queue.enqueue([new()])
        assert os.listdir(folder) == []

    def test_statements_use_the_indexes(self, sqlite):
        with sqlite.read() as connection:
            for statement, index in ((_CLAIM, "jobs_ready"), (_DUE, "jobs_due"), (_ENDS, "jobs_leased")):
                compiled = statement.compile(dialect=connection.dialect)
                names = dict.fromkeys(compiled.positiontup or (), "x")
                plan = connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {compiled}", tuple(names[one] for one in compiled.positiontup)
                ).all()
                assert index in str(plan), plan

    def test_records_of_version_2_get_a_table_of_jobs(self, sqlite):
        with sqlite.write() as connection:
            for lost in ("TABLE jobs", "TABLE pictures", "TABLE variants", "INDEX uploads_by_picture"):
                connection.execute(text(f"DROP {lost}"))
            connection.execute(text("ALTER TABLE uploads DROP COLUMN picture"))
            connection.execute(text("DELETE FROM schema_versions"))
            connection.execute(text("INSERT INTO schema_versions VALUES (2)"))
        sqlite.open()
        SqlJobs(sqlite).enqueue([new(key="a"), new(key="a")])
        assert SqlJobs(sqlite).count() == {"queued": 1}
        with sqlite.read() as connection:
            assert schema.version_of(connection) == schema.CURRENT


class TestPostgresJobs(JobQueueContract):
    @pytest.fixture
    def database(self, postgresql):
        return postgresql
