"""SQLite finds by an index whatever is asked for one by one: what is there already costs nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from assetserver.database.jobs import SqlJobs
from assetserver.database.pictures import KIND, SqlPictures, announce_nothing, end_within
from assetserver.database.schema import METADATA
from assetserver.database.uploads import SqlUploads
from assetserver.jobs.job import Failure, NewJob
from assetserver.uploads.records import Add, Complete, Fail, Remove

from ..contracts.uploadrecords import AMPLE, completed, everything, upload

KEY = "a" * 64


@contextmanager
def statements() -> Iterator[dict[str, Any]]:
    """Gather what is executed meanwhile, with values for it."""
    found: dict[str, Any] = {}

    def note(_: object, __: object, statement: str, values: Any, ___: object, is_many: bool) -> None:
        found.setdefault(statement, values[0] if is_many else values)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_nothing_that_is_asked_for_one_by_one_reads_a_whole_table(sqlite):
    records, pictures = SqlUploads(sqlite), SqlPictures(sqlite)
    queue = SqlJobs(sqlite, on_dead={KIND: partial(end_within, announce=announce_nothing)})
    named = completed(upload(1), by_name="a.png", picture=KEY)
    work = NewJob(kind="image", payload="", key=f"image:{KEY}")
    with statements() as found:
        records.commit([Complete(named, is_new=True, picture_job=work), Add(upload(2), AMPLE)], everything)
        records.commit([Complete(completed(upload(3), by_name="a.png"), is_new=True)], everything)
        pictures.find(KEY)
        (lease,) = queue.claim("worker", {"image": 1}, 60.0)
        queue.fail(lease, Failure("no picture", is_permanent=True), 0.0)
        for ask in (records.find_pictures, records.unfinished, records.referenced):
            ask([KEY])
        records.find_by_name("", "a.png")
        records.drop_blob(KEY, lambda: None)
        records.commit([Fail(upload(2).id), Remove(named.id, 1.0)], everything)
        records.commit([Remove(upload(3).id, 1.0)], everything)
    asked = {one: values for one, values in found.items() if one.split()[0] in {"SELECT", "UPDATE", "DELETE", "WITH"}}
    assert any("by_name = ?" in one for one in asked)
    assert any("picture = ?" in one for one in asked)
    with sqlite.read() as connection:
        for one, values in asked.items():
            for *_, step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one}", values):
                assert step.removeprefix("SCAN ") not in METADATA.tables, one
