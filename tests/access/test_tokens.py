"""Tokens: form, hash, expiry, scopes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from assetserver.access.principal import Principal
from assetserver.access.tokens import TokenRefusal, issue_token, parse_token, verify_token

NOW = 1_800_000_000.0


def test_a_token_proves_who_holds_it():
    token, record = issue_token(["upload", "read", "upload"], now=NOW, prefix="avatars-", note="the shop")
    principal = verify_token(parse_token(str(token)), record, now=NOW)
    assert principal == Principal(token.id, frozenset({"upload", "read"}), "avatars-")


def test_only_a_hash_is_kept():
    token, record = issue_token(["admin"], now=NOW)
    assert token.secret.encode() not in msgspec.json.encode(record)
    assert token.secret not in repr(token)


@dataclass
class Case:
    change: dict
    now: float
    refusal: TokenRefusal | None


@pytest.mark.parametrize(
    "case",
    [
        Case({"digest": "0" * 64}, NOW, TokenRefusal.UNKNOWN),
        Case({"expires": NOW + 60}, NOW + 59, None),
        Case({"expires": NOW + 60}, NOW + 60, TokenRefusal.EXPIRED),
        Case({"revoked": NOW}, NOW, TokenRefusal.REVOKED),
        Case({"digest": "0" * 64, "revoked": NOW}, NOW, TokenRefusal.UNKNOWN),
    ],
)
def test_a_token_counts_until_it_expires_or_is_revoked(case):
    token, record = issue_token(["upload"], now=NOW)
    found = verify_token(token, msgspec.structs.replace(record, **case.change), now=case.now)
    assert (found if case.refusal else None) is case.refusal


def test_an_unknown_id_is_refused_as_a_wrong_secret_is():
    assert verify_token(issue_token(["admin"], now=NOW)[0], None, now=NOW) is TokenRefusal.UNKNOWN


@pytest.mark.parametrize(
    "change", [str.upper, lambda text: text[:-1], lambda text: text + "0", lambda text: text + "\n", str.strip]
)
def test_a_token_has_one_spelling(change):
    text = str(issue_token(["upload"], now=NOW)[0])
    assert (parse_token(change(text)) is None) == (change(text) != text)


@pytest.mark.parametrize(
    ("scopes", "asked", "has"),
    [
        ({"upload"}, ("upload",), True),
        ({"upload"}, ("read",), False),
        ({"upload"}, ("upload", "read"), True),
        ({"admin"}, ("publish",), True),
        (set(), ("read",), False),
    ],
)
def test_admin_is_every_scope(scopes, asked, has):
    assert Principal("x", frozenset(scopes)).has_scope(*asked) is has
