"""Records of uploads in SQLite and in PostgreSQL, and the jobs that they cause."""

import pytest

from assetserver.database.jobs import SqlJobs
from assetserver.database.sqlite import SqliteDatabase
from assetserver.database.uploads import SqlUploads
from assetserver.errors import UploadGoneError
from assetserver.jobs.job import NewJob
from assetserver.uploads.records import Add, Complete, Fail

from ..contracts.uploadrecords import AMPLE, UploadRecordsContract, completed, everything, upload

JOBS = (NewJob(kind="webhook", payload="1"), NewJob(kind="webhook", payload="2"))


class TestSqliteUploads(UploadRecordsContract):
    @pytest.fixture
    def records(self, sqlite) -> SqlUploads:
        return SqlUploads(sqlite)

    def test_another_process_sees_the_same(self, records, tmp_path):
        self.make(records, Add(upload(1), AMPLE))
        other = SqliteDatabase(str(tmp_path / "records.sqlite3"))
        other.open()
        assert SqlUploads(other).find(upload(1).id) == upload(1)
        other.close()

    def test_jobs_are_queued_with_the_upload_that_causes_them(self, records, sqlite):
        check_jobs(records, SqlJobs(sqlite))


class TestPostgresUploads(UploadRecordsContract):
    @pytest.fixture
    def records(self, postgresql) -> SqlUploads:
        return SqlUploads(postgresql)

    def test_jobs_are_queued_with_the_upload_that_causes_them(self, records, postgresql):
        check_jobs(records, SqlJobs(postgresql))


def check_jobs(records: SqlUploads, queue: SqlJobs) -> None:
    """Of three uploads that end in one transaction, one is refused: its jobs are not queued."""
    for number in (1, 2, 3):
        assert records.commit([Add(upload(number), AMPLE)], everything) == [None]
    records.commit([Fail(upload(2).id)], everything)
    ends = [Complete(completed(upload(number)), is_new=False, jobs=JOBS[: 4 - number]) for number in (1, 2, 3)]
    refusals = records.commit(ends, everything)
    assert [type(one) for one in refusals] == [type(None), UploadGoneError, type(None)]
    assert [job.payload for job in queue.list_jobs().jobs] == ["1", "2", "1"]
