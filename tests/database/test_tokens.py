"""Tokens and uses of grants, kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from assetserver.access.grants import SKEW_S, Grant
from assetserver.access.tokens import issue_token, verify_token
from assetserver.database.sqlite import SqliteDatabase
from assetserver.database.tokens import SqlGrants, SqlTokens

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "data" / "records.sqlite3")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    return request.getfixturevalue(request.param)


def test_a_token_is_found_as_it_was_kept(database):
    records = SqlTokens(database)
    token, record = issue_token(["upload", "read"], now=NOW, prefix="a-", note="für CI", lifetime_s=60)
    records.add(record)
    assert records.find(token.id) == record
    assert records.find("0" * 12) is None
    assert verify_token(token, records.find(token.id), now=NOW)


def test_the_secret_is_in_no_file(path, tmp_path):
    database = SqliteDatabase(path)
    database.open()
    token, record = issue_token(["admin"], now=NOW)
    SqlTokens(database).add(record)
    database.close()
    for file in (tmp_path / "data").iterdir():
        assert token.secret.encode() not in file.read_bytes()


def test_tokens_are_listed_the_oldest_first(database):
    records = SqlTokens(database)
    made = [issue_token(["read"], now=NOW + age)[1] for age in (2, 0, 1)]
    for record in made:
        records.add(record)
    assert [one.created for one in records.list_all()] == [NOW, NOW + 1, NOW + 2]


def test_a_token_is_revoked_once(database):
    records = SqlTokens(database)
    token, record = issue_token(["read"], now=NOW)
    records.add(record)
    assert [records.revoke(token.id, NOW + 5), records.revoke(token.id, NOW + 6), records.revoke("no", NOW)] == [
        True,
        False,
        False,
    ]
    assert records.find(token.id).revoked == NOW + 5


@pytest.mark.parametrize("uses", [1, 3])
def test_a_grant_is_used_as_often_as_it_says_whoever_asks_at_once(database, uses):
    records = SqlGrants(database)
    grant = Grant("nonce", "issuer", NOW + 60, uses=uses)
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(records.claim, [grant] * 8))
    assert sum(claimed) == uses
    records.release(grant)
    assert [records.claim(grant), records.claim(grant)] == [True, False]


def test_a_grant_without_a_number_of_uses_is_not_counted(database):
    records = SqlGrants(database)
    grant = Grant("nonce", "issuer", NOW + 60, uses=0)
    assert all(records.claim(grant) for _ in range(3))
    records.release(grant)


def test_what_has_expired_is_forgotten_but_not_while_clocks_may_differ(database):
    records = SqlGrants(database)
    grant = Grant("nonce", "issuer", NOW)
    assert records.claim(grant)
    assert records.forget_expired(NOW + SKEW_S) == 0
    assert not records.claim(grant)
    assert records.forget_expired(NOW + 3 * SKEW_S) == 1


def test_records_outlive_the_process(path):
    token, record = issue_token(["read"], now=NOW)
    for write in (True, False):
        database = SqliteDatabase(path)
        database.open()
        if write:
            SqlTokens(database).add(record)
        assert msgspec.structs.asdict(SqlTokens(database).find(token.id)) == msgspec.structs.asdict(record)
        database.close()
