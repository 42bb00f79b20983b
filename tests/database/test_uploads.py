"""Records of uploads in SQLite."""

from collections.abc import Iterator

import pytest

from assetserver.database.sqlite import SqliteDatabase
from assetserver.database.uploads import SqlUploads
from assetserver.uploads.records import Add

from ..contracts.uploadrecords import AMPLE, UploadRecordsContract, upload


class TestSqlUploads(UploadRecordsContract):
    @pytest.fixture
    def records(self, tmp_path) -> Iterator[SqlUploads]:
        database = SqliteDatabase(str(tmp_path / "records.sqlite3"))
        database.open()
        yield SqlUploads(database)
        database.close()

    def test_another_process_sees_the_same(self, records, tmp_path):
        self.make(records, Add(upload(1), AMPLE))
        other = SqliteDatabase(str(tmp_path / "records.sqlite3"))
        other.open()
        assert SqlUploads(other).find(upload(1).id) == upload(1)
        other.close()
