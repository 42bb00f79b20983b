"""Pictures in SQLite and in PostgreSQL: one transaction with the uploads that have them and the jobs that make them."""

from __future__ import annotations

from functools import partial

import pytest

from assetserver.database.connections import Database
from assetserver.database.jobs import SqlJobs
from assetserver.database.pictures import KIND, SqlPictures, end_within
from assetserver.database.uploads import SqlUploads
from assetserver.errors import BlobMissingError, LeaseLostError
from assetserver.jobs.job import LATER, Failure, Lease, NewJob
from assetserver.jobs.queue import Listener
from assetserver.pictures.records import Look, Made, PictureRecord, StoredVariant
from assetserver.storage.blobs import Digest
from assetserver.uploads.records import Complete, Remove, Upload

from ..contracts.uploadrecords import DIGEST, completed, everything, upload

KEY = "f" * 64
FIRST = NewJob(kind=KIND, payload="{}", key=f"image:{KEY}", max_attempts=2)
SECOND = NewJob(kind=KIND, payload="{}", key=f"image-later:{KEY}", priority=LATER, max_attempts=2)
LOOK = Look(width=640, height=480, colour="#112233", placeholder="data:image/webp;base64,AA==", thumbhash="00")


def make_variant(kind: str = "jpeg", width: int = 640, digest: str = "1" * 64) -> StoredVariant:
    return StoredVariant(format=kind, width=width, height=480, size=9, sha256=digest)


def tell(one: Upload, picture: PictureRecord) -> list[NewJob]:
    return [NewJob(kind="told", payload=f"{one.id} {picture.state} {len(picture.variants)}")]


class Shop:
    """Uploads, pictures and jobs of one database, and a worker."""

    def __init__(self, database: Database) -> None:
        self.uploads = SqlUploads(database, tell)
        self.pictures = SqlPictures(database, tell)
        self.jobs = SqlJobs(database, on_dead={KIND: partial(end_within, announce=tell)})
        self.listener: Listener = self.jobs.listen("w1")

    def add(self, number: int, **values: object) -> Upload:
        one = completed(upload(number), picture=KEY, **values)
        assert self.uploads.commit([Complete(one, is_new=True, picture_job=FIRST)], everything) == [None]
        return one

    def remove(self, number: int) -> None:
        assert self.uploads.commit([Remove(upload(number).id, 3000.0)], everything) == [None]

    def look(self) -> PictureRecord:
        return self.uploads.find_pictures([KEY])[KEY]

    def claim(self) -> Lease:
        (lease,) = self.jobs.claim("w1", {KIND: 1}, 10.0)
        return lease

    def told(self) -> list[str]:
        return [job.payload for job in reversed(self.jobs.list_jobs(kind="told").jobs)]

    def states(self) -> list[str]:
        return [job.state for job in reversed(self.jobs.list_jobs(kind=KIND).jobs)]

    def finish(self, later: NewJob | None = SECOND) -> None:
        made = Made(variants=(make_variant(),), look=LOOK, pending=("avif",) if later else ())
        assert self.pictures.complete(self.claim(), KEY, made, everything, later)


class PicturesContract:
    def test_a_picture_is_queued_made_and_told_of(self, shop):
        one = shop.add(1)
        assert shop.look() == PictureRecord(key=KEY, source=DIGEST, state="queued")
        lease = shop.claim()
        assert shop.look().state == "processing"
        made = Made(variants=(make_variant(), make_variant("webp")), look=LOOK, pending=("avif",))
        assert shop.pictures.complete(lease, KEY, made, everything, SECOND)
        found = shop.look()
        assert (found.state, found.look, found.pending, set(found.variants)) == ("ready", LOOK, ("avif",), set(made.variants))
        assert not found.is_settled
        assert shop.told() == [f"{one.id} ready 2"]
        later = shop.claim()
        assert (later.job.key, later.job.priority) == (SECOND.key, LATER)
        assert shop.look().state == "ready"
        assert shop.pictures.complete(later, KEY, Made(variants=(make_variant("avif"),)), everything)
        assert (shop.look().is_settled, shop.look().look, len(shop.look().variants)) == (True, LOOK, 3)
        assert shop.told() == [f"{one.id} ready 2"]
        assert shop.states() == ["done", "done"]

    def test_only_who_has_the_lease_writes(self, shop):
        shop.add(1)
        late = shop.claim()
        assert shop.jobs.fail(late, Failure("it stalled"), 0.0)
        shop.finish()
        before = shop.look()
        made = Made(variants=(make_variant("webp", 1),), look=Look(width=1, height=1))
        with pytest.raises(LeaseLostError):
            shop.pictures.complete(late, KEY, made, everything, FIRST)
        assert shop.look() == before
        assert shop.states() == ["done", "queued"]

    def test_the_second_run_changes_nothing(self, shop):
        shop.add(1)
        shop.finish(None)
        before = shop.look()
        shop.jobs.enqueue([FIRST])
        other = Made(variants=(make_variant(digest="2" * 64),), look=LOOK)
        assert shop.pictures.complete(shop.claim(), KEY, other, everything)
        assert shop.look() == before
        assert len(shop.told()) == 1

    def test_a_variant_never_names_a_blob_that_is_gone(self, shop):
        shop.add(1)
        lease = shop.claim()
        with pytest.raises(BlobMissingError):
            shop.pictures.complete(lease, KEY, Made(variants=(make_variant(),), look=LOOK), lambda _: False)
        assert (shop.look().state, shop.look().variants) == ("processing", ())
        assert shop.pictures.complete(lease, KEY, Made(variants=(make_variant(),), look=LOOK), everything)

    def test_uploads_of_the_same_bytes_share_it(self, shop):
        first, second = shop.add(1), shop.add(2)
        assert shop.states() == ["queued"]
        shop.finish()
        third = shop.add(3)
        assert sorted(shop.told()) == sorted(f"{one.id} ready 1" for one in (first, second, third))
        assert shop.states() == ["done", "queued"]

    def test_it_goes_with_the_last_upload_and_its_work_is_cancelled(self, shop):
        shop.add(1)
        shop.add(2)
        shop.finish()
        shop.remove(1)
        digest = Digest("1" * 64)
        assert shop.look().state == "ready"
        assert shop.uploads.referenced([digest]) == {digest}
        assert not shop.uploads.drop_blob(digest, lambda: None)
        shop.remove(2)
        assert shop.uploads.find_pictures([KEY]) == {}
        assert shop.states() == ["done", "cancelled"]
        assert shop.uploads.referenced([digest]) == set()
        assert shop.uploads.drop_blob(digest, lambda: None)

    def test_who_works_on_one_that_is_removed_writes_nothing(self, shop):
        shop.add(1)
        lease = shop.claim()
        shop.remove(1)
        with pytest.raises(LeaseLostError):
            shop.pictures.complete(lease, KEY, Made(variants=(make_variant(),), look=LOOK), everything, SECOND)
        assert shop.uploads.referenced([Digest("1" * 64)]) == set()
        assert shop.add(2).picture == KEY
        assert shop.look().state == "queued"

    def test_what_is_refused_has_failed_for_good(self, shop):
        shop.add(1)
        assert shop.jobs.fail(shop.claim(), Failure("it is damaged", is_permanent=True), 0.0)
        assert (shop.look().state, shop.look().reason, shop.look().is_settled) == ("failed", "it is damaged", True)
        shop.add(2)
        assert shop.states() == ["dead"]
        assert [text.split()[1] for text in shop.told()] == ["failed", "failed"]

    def test_what_failed_by_chance_is_tried_again_when_it_comes_again(self, shop):
        shop.add(1)
        for attempt in range(2):
            assert shop.look().state == "queued", attempt
            assert shop.jobs.fail(shop.claim(), Failure("too little memory"), 0.0)
        assert (shop.look().state, shop.look().reason) == ("failed", "too little memory")
        assert len(shop.told()) == 1
        shop.add(2)
        assert (shop.look().state, shop.look().reason) == ("queued", "")
        shop.finish()
        assert shop.look().state == "ready"

    def test_cancelled_by_hand_it_has_failed_and_retried_it_is_queued(self, shop):
        shop.add(1)
        job_id = shop.jobs.list_jobs().jobs[0].id
        shop.jobs.cancel(job_id)
        assert (shop.look().state, shop.look().reason) == ("failed", "cancelled by hand")
        shop.jobs.retry(job_id)
        assert (shop.look().state, shop.look().reason) == ("queued", "")
        shop.finish()
        assert shop.look().state == "ready"

    def test_without_what_comes_later_it_is_ready_all_the_same(self, shop):
        shop.add(1)
        shop.finish()
        assert shop.jobs.fail(shop.claim(), Failure("no AVIF", is_permanent=True), 0.0)
        assert (shop.look().state, shop.look().pending, shop.look().is_settled) == ("ready", (), True)
        assert len(shop.told()) == 1


class TestSqlitePictures(PicturesContract):
    @pytest.fixture
    def shop(self, sqlite):
        one = Shop(sqlite)
        yield one
        one.listener.close()

    def test_a_worker_that_dies_at_its_last_attempt_ends_the_picture(self, shop):
        shop.add(1)
        assert shop.jobs.fail(shop.claim(), Failure("it crashed"), 0.0)
        shop.claim()
        shop.listener.close()
        assert shop.jobs.sweep() == 1
        assert (shop.look().state, shop.look().reason) == ("failed", "worker w1 died")
        assert len(shop.told()) == 1


class TestPostgresPictures(PicturesContract):
    @pytest.fixture
    def shop(self, postgresql):
        one = Shop(postgresql)
        yield one
        one.listener.close()
