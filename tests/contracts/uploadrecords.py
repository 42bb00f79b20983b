"""What every ``UploadRecords`` keeps. An engine's own test file inherits it and says how to make an empty store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from assetserver.errors import (
    BadRequestError,
    BlobMissingError,
    PreconditionFailedError,
    QuotaError,
    UploadGoneError,
    UploadMissingError,
)
from assetserver.uploads.records import Add, Advance, Complete, Fail, Held, Quota, Remove, Upload, UploadRecords

AMPLE = Quota(1 << 40, 1 << 40)
DIGEST = "ab" * 32


def upload(number: int, **values: object) -> Upload:
    """An upload that begins; ``values`` say what is special about it."""
    usual = {
        "id": f"upload-number-{number:08}",
        "state": "uploading",
        "name": "a.png",
        "collection": "",
        "owner": "me",
        "size": 100,
        "offset": 0,
        "sha256": "",
        "media_type": "image/png",
        "metadata": {},
        "kind": "tus",
        "created": 1000.5,
        "expires": 2000.5,
    }
    return Upload(**(usual | values))


def completed(one: Upload, **values: object) -> Upload:
    return msgspec.structs.replace(
        one, **({"state": "complete", "offset": one.size, "sha256": DIGEST, "expires": None} | values)
    )


def everything(_: str) -> bool:
    return True


class UploadRecordsContract:
    """Inherit it, and have a fixture ``records`` return an empty store."""

    def make(self, records: UploadRecords, *changes: object, is_stored: Callable[[str], bool] = everything) -> None:
        """Make changes one after the other; raise what refuses one."""
        for change in changes:
            if refused := records.commit([change], is_stored)[0]:
                raise refused

    def test_what_is_added_is_found_as_it_was(self, records: UploadRecords):
        rich = upload(
            1,
            name="Łódź 🎈.png",
            metadata={"a": "ä\n", "": ""},
            expected={"sha-256": bytes(range(32))},
            max_size=1 << 45,
            types=("image/*",),
            size=None,
            by_name="x",
            account="them",
        )
        self.make(records, Add(rich, AMPLE))
        assert records.find(rich.id) == rich

    def test_an_id_that_never_was_is_missing_and_one_that_was_removed_is_gone(self, records: UploadRecords):
        self.make(records, Add(upload(1), AMPLE), Remove(upload(1).id, 5.0))
        with pytest.raises(UploadGoneError):
            records.find(upload(1).id)
        with pytest.raises(UploadGoneError):
            self.make(records, Remove(upload(1).id, 6.0))
        with pytest.raises(UploadMissingError):
            records.find(upload(2).id)
        with pytest.raises(UploadMissingError):
            records.find(upload(2).id + "\0")
        assert records.forget_gone(5.0) == 0
        assert records.forget_gone(5.1) == 1
        with pytest.raises(UploadMissingError):
            records.find(upload(1).id)

    def test_an_offset_never_goes_back(self, records: UploadRecords):
        one = upload(1)
        self.make(records, Add(one, AMPLE), Advance(one.id, 60, None, 3000.0, AMPLE), Advance(one.id, 40, None, 3001.0, AMPLE))
        assert records.find(one.id) == msgspec.structs.replace(one, offset=60, expires=3001.0)

    def test_a_size_that_is_known_stays(self, records: UploadRecords):
        one = upload(1, size=None)
        self.make(records, Add(one, AMPLE), Advance(one.id, 6, 10, 1.0, AMPLE), Advance(one.id, 10, None, 1.0, AMPLE))
        assert (records.find(one.id).size, records.find(one.id).offset) == (10, 10)

    def test_what_is_not_uploading_neither_advances_nor_completes(self, records: UploadRecords):
        one, two = upload(1), upload(2)
        self.make(records, Add(one, AMPLE), Complete(completed(one), is_new=False), Add(two, AMPLE), Fail(two.id))
        assert records.find(two.id).state == "failed"
        for change in (Advance(one.id, 100, None, 1.0, AMPLE), Complete(completed(one), is_new=False)):
            with pytest.raises(UploadGoneError):
                self.make(records, change)
        with pytest.raises(UploadGoneError):
            self.make(records, Complete(completed(two), is_new=False))
        self.make(records, Fail(one.id))
        assert records.find(one.id) == completed(one)

    def test_one_that_is_refused_leaves_the_others_of_its_transaction_alone(self, records: UploadRecords):
        outcomes = records.commit(
            [Add(upload(1), AMPLE), Remove(upload(9).id, 1.0), Complete(completed(upload(2)), is_new=True)], everything
        )
        assert [type(one) for one in outcomes] == [type(None), UploadMissingError, type(None)]
        assert records.find(upload(2).id).state == "complete"
        assert records.find(upload(1).id).state == "uploading"

    def test_nothing_is_complete_without_its_blob(self, records: UploadRecords):
        with pytest.raises(BlobMissingError):
            self.make(records, Complete(completed(upload(1)), is_new=True), is_stored=lambda digest: digest != DIGEST)
        with pytest.raises(UploadMissingError):
            records.find(upload(1).id)

    def test_a_name_shows_the_newest_and_conditions_are_looked_at_with_it(self, records: UploadRecords):
        def put(number: int, digest: str, **conditions: object) -> None:
            one = completed(upload(number, by_name="logo", collection="c"), sha256=digest)
            self.make(records, Complete(one, is_new=True, **conditions))

        assert records.find_by_name("c", "logo") is None
        with pytest.raises(PreconditionFailedError):
            put(1, "11" * 32, if_match="*")
        put(1, "11" * 32, if_none_match=True)
        with pytest.raises(PreconditionFailedError):
            put(2, "22" * 32, if_none_match=True)
        with pytest.raises(PreconditionFailedError):
            put(2, "22" * 32, if_match=f'"{"22" * 16}"')
        put(2, "22" * 32, if_match=f'"x", "{"11" * 16}"')
        put(3, "33" * 32, if_match="*")
        assert records.find_by_name("c", "logo").sha256 == "33" * 32
        assert records.find_by_name("", "logo") is None

    def test_removing_what_a_name_shows_frees_the_name(self, records: UploadRecords):
        for number in range(4):
            named = {"by_name": "logo", "collection": "c" if number else ""}
            self.make(records, Complete(completed(upload(number, **named)), is_new=True))
        self.make(records, Complete(completed(upload(4, by_name="other", collection="c")), is_new=True))
        self.make(records, Remove(upload(3).id, 1.0))
        assert records.find_by_name("c", "logo") is None
        assert records.find(upload(2).id).state == "complete"
        assert records.find_by_name("", "logo").id == upload(0).id
        assert records.find_by_name("c", "other").id == upload(4).id
        put = Complete(completed(upload(5, by_name="logo", collection="c")), is_new=True, if_none_match=True)
        self.make(records, put)
        assert records.find_by_name("c", "logo").id == upload(5).id

    def test_removing_what_a_name_shows_no_more_leaves_the_name_alone(self, records: UploadRecords):
        for number in (1, 2):
            self.make(records, Complete(completed(upload(number, by_name="logo")), is_new=True))
        self.make(records, Remove(upload(1).id, 1.0))
        assert records.find_by_name("", "logo").id == upload(2).id

    def test_what_another_owner_has_under_a_name_is_not_taken_from_them(self, records: UploadRecords):
        for number, owner in ((1, "you"), (2, "me"), (3, "admin")):
            self.make(records, Complete(completed(upload(number, by_name="logo", owner=owner)), is_new=True))
        self.make(records, Remove(upload(3).id, 1.0))
        assert records.find_by_name("", "logo").id == upload(2).id
        self.make(records, Remove(upload(2).id, 1.0))
        assert records.find_by_name("", "logo").id == upload(1).id

    def test_pages_follow_each_other_though_uploads_come_and_go(self, records: UploadRecords):
        self.make(records, *[Add(upload(number, owner=f"o{number % 2}"), AMPLE) for number in range(5)])
        page, cursor = records.list_uploads(None, "", 2)
        assert [one.id for one in page] == [upload(4).id, upload(3).id]
        self.make(records, Add(upload(5), AMPLE), Remove(upload(2).id, 1.0))
        page, cursor = records.list_uploads(None, cursor, 2)
        assert [one.id for one in page] == [upload(1).id, upload(0).id]
        assert cursor == ""
        assert [one.id for one in records.list_uploads("o1", "", 9)[0]] == [upload(3).id, upload(1).id]

    @pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 30, "\uff11"])
    def test_a_cursor_of_somebody_else_is_refused(self, records: UploadRecords, cursor: str):
        with pytest.raises(BadRequestError):
            records.list_uploads(None, cursor, 2)

    def test_what_is_unfinished_is_held_and_so_are_parts(self, records: UploadRecords):
        part = upload(3, kind="tus-partial", size=5)
        self.make(
            records,
            Add(upload(1, size=70), AMPLE),
            Add(upload(2, size=None, owner="you"), AMPLE),
            Advance(upload(2).id, 8, None, 1.0, AMPLE),
            Add(part, AMPLE),
            Complete(completed(part, expires=9.0), is_new=False),
            Complete(completed(upload(4)), is_new=True),
        )
        assert records.held("me") == Held(75, 83)
        assert records.held("you") == Held(8, 83)
        self.make(records, Complete(completed(upload(1, size=70)), is_new=False))
        assert records.held("me") == Held(5, 13)

    def test_what_counts_for_another_is_held_by_them_and_not_by_its_owner(self, records: UploadRecords):
        first, second = (upload(number, owner=f"grant:{number}", account="me", size=60) for number in (1, 2))
        self.make(records, Add(first, Quota(100, 999)))
        assert (records.held("me"), records.held("grant:1")) == (Held(60, 60), Held(0, 60))
        with pytest.raises(QuotaError, match="of me"):
            self.make(records, Add(second, Quota(100, 999)))
        later = msgspec.structs.replace(second, size=None)
        self.make(records, Add(later, Quota(100, 999)), Advance(later.id, 40, None, 1.0, Quota(100, 999)))
        with pytest.raises(QuotaError, match="of me"):
            self.make(records, Advance(later.id, 41, None, 1.0, Quota(100, 999)))

    def test_a_quota_is_not_exceeded_by_two_at_once(self, records: UploadRecords):
        def add(number: int) -> bool:
            return records.commit([Add(upload(number), Quota(1000, 1000))], everything) == [None]

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(add, range(20))) == 10
        with pytest.raises(QuotaError):
            self.make(records, Add(upload(99, size=1), Quota(1000, 5000)))
        with pytest.raises(QuotaError):
            self.make(records, Add(upload(99, size=1, owner="you"), Quota(1000, 1000)))

    def test_growing_without_a_size_counts_too(self, records: UploadRecords):
        one = upload(1, size=None)
        self.make(records, Add(one, Quota(10, 10)), Advance(one.id, 10, None, 1.0, Quota(10, 10)))
        with pytest.raises(QuotaError):
            self.make(records, Advance(one.id, 11, None, 1.0, Quota(10, 10)))
        assert records.find(one.id).offset == 10

    @pytest.mark.parametrize("quota", [Quota(10, 99), Quota(99, 10)], ids=["of the owner", "of all"])
    def test_a_length_that_is_told_later_counts_as_one_told_at_once(self, records: UploadRecords, quota: Quota):
        one = upload(1, size=None)
        self.make(records, Add(one, quota), Advance(one.id, 4, None, 1.0, quota))
        with pytest.raises(QuotaError):
            self.make(records, Advance(one.id, 4, 11, 1.0, quota))
        assert (records.find(one.id).size, records.held("me")) == (None, Held(4, 4))
        self.make(records, Advance(one.id, 4, 10, 1.0, quota), Advance(one.id, 10, None, 1.0, quota))
        with pytest.raises(QuotaError):
            self.make(records, Add(upload(2, size=1), quota))

    def test_bytes_that_end_an_upload_count_too(self, records: UploadRecords):
        one = upload(1, size=None)
        self.make(records, Add(one, Quota(10, 10)))
        with pytest.raises(QuotaError):
            self.make(records, Advance(one.id, 11, 11, 1.0, Quota(10, 10)))
        assert (records.find(one.id).offset, records.find(one.id).size) == (0, None)

    def test_what_counts_already_may_end_though_the_quota_became_smaller(self, records: UploadRecords):
        one, two = upload(1, size=None), upload(2, size=50)
        self.make(records, Add(one, AMPLE), Add(two, AMPLE), Advance(one.id, 11, None, 1.0, AMPLE))
        self.make(records, Advance(one.id, 11, 11, 1.0, Quota(1, 1)), Advance(two.id, 50, None, 1.0, Quota(1, 1)))
        assert [records.find(upload.id).size for upload in (one, two)] == [11, 50]

    def test_what_has_expired_and_what_is_stuck_is_listed(self, records: UploadRecords):
        stuck = upload(3, size=7)
        self.make(
            records,
            Add(upload(1, expires=10.0), AMPLE),
            Add(upload(2, expires=11.0), AMPLE),
            Add(stuck, AMPLE),
            Advance(stuck.id, 7, None, 50.0, AMPLE),
            Complete(completed(upload(4)), is_new=True),
        )
        assert [one.id for one in records.list_expired(10.0)] == [upload(1).id]
        assert [one.id for one in records.list_stuck()] == [stuck.id]

    def test_which_are_unfinished_and_which_blobs_are_named_is_told_of_any_number(self, records: UploadRecords):
        self.make(records, Add(upload(1), AMPLE), Complete(completed(upload(2)), is_new=True))
        assert records.unfinished([upload(number).id for number in range(1500)]) == {upload(1).id}
        assert records.referenced([DIGEST, *[f"{number:064x}" for number in range(1500)]]) == {DIGEST}

    def test_a_blob_goes_only_when_nobody_names_it(self, records: UploadRecords):
        removed: list[str] = []
        self.make(records, Complete(completed(upload(1)), is_new=True), Complete(completed(upload(2)), is_new=True))
        self.make(records, Remove(upload(1).id, 1.0))
        assert not records.drop_blob(DIGEST, lambda: removed.append(DIGEST))
        self.make(records, Remove(upload(2).id, 1.0))
        assert records.drop_blob(DIGEST, lambda: removed.append(DIGEST))
        assert removed == [DIGEST]
