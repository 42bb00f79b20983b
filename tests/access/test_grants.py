"""Presigned upload grants."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.access.grants import (
    SKEW_S,
    GrantRefusal,
    GrantRequest,
    format_grant,
    is_allowed,
    issue_grant,
    parse_grant,
)
from assetserver.access.keys import KeyRing, parse_key

NOW = 1_800_000_000.0
RING = KeyRing([parse_key("first:" + "f" * 40)])
OTHER = KeyRing([parse_key("first:" + "g" * 40)])
WANTED = GrantRequest(lifetime_s=60, max_size=1000, types=("image/*",), prefix="avatar-", collection="people", uses=3)


def test_a_grant_says_what_was_asked_for():
    text, grant = issue_grant(RING, WANTED, issuer="abc", now=NOW)
    assert parse_grant(RING, text, now=NOW) == grant
    assert (grant.issuer, grant.expires, grant.max_size, grant.uses) == ("abc", NOW + 60, 1000, 3)
    assert grant.id != issue_grant(RING, WANTED, issuer="abc", now=NOW)[1].id


def test_a_grant_lasts_until_it_expires_and_a_little_for_clocks():
    text, grant = issue_grant(RING, WANTED, issuer="", now=NOW)
    assert parse_grant(RING, text, now=grant.expires + SKEW_S - 1) == grant
    assert parse_grant(RING, text, now=grant.expires + SKEW_S) is GrantRefusal.EXPIRED


@pytest.mark.parametrize(("issuer_expires", "expires"), [(None, 60), (NOW + 20, 20), (NOW + 90, 60)])
def test_a_grant_does_not_outlive_its_issuer(issuer_expires, expires):
    _, grant = issue_grant(RING, WANTED, issuer="", now=NOW, issuer_expires=issuer_expires)
    assert grant.expires == NOW + expires


def test_a_grant_of_another_key_does_not_count():
    text, _ = issue_grant(OTHER, WANTED, issuer="", now=NOW)
    assert parse_grant(RING, text, now=NOW) is GrantRefusal.UNSIGNED


def test_a_grant_that_was_changed_does_not_count():
    text, grant = issue_grant(RING, WANTED, issuer="", now=NOW)
    larger = format_grant(RING, msgspec.structs.replace(grant, max_size=None))
    forged = larger.rpartition(".")[0] + "." + text.rpartition(".")[2]
    assert parse_grant(RING, forged, now=NOW) is GrantRefusal.UNSIGNED


@pytest.mark.parametrize("text", ["", "asg_", "asg_e30.first", "asg_" + "e" * 5000 + ".first." + "s" * 43, "ast_0_0"])
def test_what_is_no_grant_is_told_so(text):
    assert parse_grant(RING, text, now=NOW) is GrantRefusal.MALFORMED


def test_a_signed_text_that_means_nothing_is_malformed():
    signed = RING.sign("upload grant 1", "e30")
    assert parse_grant(RING, f"asg_e30.{signed.key}.{signed.signature}", now=NOW) is GrantRefusal.MALFORMED
    signed = RING.sign("upload grant 1", "e")
    assert parse_grant(RING, f"asg_e.{signed.key}.{signed.signature}", now=NOW) is GrantRefusal.MALFORMED


@given(st.text())
def test_no_text_makes_reading_a_grant_raise(text):
    assert isinstance(parse_grant(RING, "asg_" + text, now=NOW), GrantRefusal)


@pytest.mark.parametrize(
    ("media_type", "types", "allowed"),
    [
        ("image/png", (), True),
        ("image/png", ("image/png",), True),
        ("IMAGE/PNG; charset=x", ("image/png",), True),
        ("image/png", ("image/*",), True),
        ("image/png", ("image/jpeg", "video/*"), False),
        ("imagex/png", ("image/*",), False),
        ("", ("image/*",), False),
    ],
)
def test_types_are_named_or_by_family(media_type, types, allowed):
    assert is_allowed(media_type, types) is allowed


@pytest.mark.parametrize(
    "body", ['{"uses": -1}', '{"lifetime_s": 0}', '{"types": ["*/*"]}', '{"types": ["image"]}', '{"size": 5}']
)
def test_a_wish_that_cannot_be_granted_is_refused(body):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=GrantRequest)
