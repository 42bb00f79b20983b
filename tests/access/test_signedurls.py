"""Signed, expiring URLs."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.access.keys import KeyRing, parse_key
from assetserver.access.signedurls import Admission, UrlRefusal, sign_url, verify_url

NOW = 1_800_000_000
OLD = parse_key("old:" + "o" * 40)
NEW = parse_key("new:" + "n" * 40)
RING = KeyRing([NEW, OLD])
PATH = "abc/a b ü.png"
QUERY = sign_url(RING, PATH, NOW + 60).encode()


def test_a_signed_url_admits_until_it_expires():
    assert verify_url(RING, PATH, QUERY, now=NOW + 59.9) == Admission(NOW + 60)
    assert verify_url(RING, PATH, QUERY, now=NOW + 60) is UrlRefusal.EXPIRED


def test_programs_can_sign_as_the_readme_says():
    text = f"assetserver media url 1\nnew\n{NOW + 60}\n{PATH}".encode()
    signature = urlsafe_b64encode(hmac.digest(b"n" * 40, text, "sha256")).rstrip(b"=").decode()
    assert f"expires={NOW + 60}&key=new&signature={signature}".encode() == QUERY


def test_urls_of_an_older_key_still_admit():
    query = sign_url(KeyRing([OLD]), PATH, NOW + 60).encode()
    assert verify_url(RING, PATH, query, now=NOW) == Admission(NOW + 60)
    assert verify_url(KeyRing([NEW]), PATH, query, now=NOW) is UrlRefusal.WRONG


@pytest.mark.parametrize(
    ("path", "query", "refusal"),
    [
        ("abc/b.png", QUERY, UrlRefusal.WRONG),
        (PATH, QUERY.replace(b"expires=", b"expires=9"), UrlRefusal.WRONG),
        (PATH, QUERY.replace(b"key=new", b"key=old"), UrlRefusal.WRONG),
        (PATH, QUERY + b"x", UrlRefusal.WRONG),
        (PATH, QUERY + b"&expires=99999999999", UrlRefusal.WRONG),
        (PATH, QUERY.replace(b"expires=%d" % (NOW + 60), b"expires=-1"), UrlRefusal.WRONG),
        (PATH, b"signature=" + b"s" * 43, UrlRefusal.WRONG),
        (PATH, b"", UrlRefusal.UNSIGNED),
        (PATH, b"x=" + b"y" * 4096 + b"&" + QUERY, UrlRefusal.UNSIGNED),
    ],
)
def test_a_url_that_was_not_signed_so_does_not_admit(path, query, refusal):
    assert verify_url(RING, path, query, now=NOW) is refusal


def test_other_parts_of_the_query_do_not_matter():
    assert verify_url(RING, PATH, b"download=1&" + QUERY, now=NOW) == Admission(NOW + 60)


@given(st.binary())
def test_no_query_makes_it_raise(query):
    assert verify_url(RING, PATH, query, now=NOW) in UrlRefusal
