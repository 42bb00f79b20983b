"""Who asks behind proxies: every row of ``tests/vectors/forwarding.toml``, and any fields at all."""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.forwarding import LIMIT_HOPS, Told, TrustedProxies, find_client, find_told, parse_node

CASES = tomllib.loads((Path(__file__).parents[1] / "vectors" / "forwarding.toml").read_text("utf-8"))["forwarding"]
PEER = ("10.0.0.1", 1)
PROXIES = TrustedProxies(["10.0.0.0/8"])


def write(client):
    if client is None:
        return "unix"
    host, port = client
    return host if not port else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case):
    peer = None if case["peer"] == "unix" else (case["peer"], 0)
    fields = [(name.encode(), value.encode()) for name, value in case["fields"]]
    believed = case.get("believed", "either")
    proxies = TrustedProxies(case["trusted"])

    told = find_told(peer, fields, proxies, believed)

    assert (write(told.client), told.scheme, told.host) == (case["client"], case.get("scheme"), case.get("host"))
    if len(dict(fields)) == len(fields):
        of_address = [dict(fields).get(name) for name in (b"x-forwarded-for", b"forwarded")]
        assert find_client(peer, *of_address, proxies, believed) == told.client


@pytest.mark.parametrize(
    "text",
    ["", "a.test", "unknown", "_x", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:99999", "[1.2.3.4]",
     "[::1", "::1]", "::1%eth0", "[fe80::1%25eth0]", "1.2.3.4 ", "::1:99999", "1.2.3.4:+1", "\u0661.2.3.4", "1.2.3.4:\u0661"],
)  # fmt: skip
def test_what_is_no_address_is_none(text):
    assert parse_node(text) is None


@pytest.mark.parametrize("name", ["10.0.0.1/8", "a.test", "", "*"])
def test_a_network_that_is_none_is_an_error(name):
    with pytest.raises(ValueError, match=r"does not appear|has host bits"):
        TrustedProxies([name])


def test_nobody_is_trusted_by_default():
    assert not TrustedProxies()
    assert TrustedProxies(["unix"])
    assert not TrustedProxies(["10.0.0.0/8"]).trusts(("a.test", 1)), "a peer without an address, as test clients have"


def test_no_more_proxies_than_may_be_are_looked_at():
    """Nobody has that many; a list of 64 KiB must cost no more than one of a hundred."""
    chain = b", ".join([b"192.0.2.1", *[b"10.0.0.2"] * 9000])
    assert find_told(PEER, [(b"x-forwarded-for", chain)], PROXIES).client == ("10.0.0.2", 0)
    chain = b", ".join([b"192.0.2.1", *[b"10.0.0.2"] * (LIMIT_HOPS - 1)])
    assert find_told(PEER, [(b"x-forwarded-for", chain)], PROXIES).client == ("192.0.2.1", 0)
    assert find_told(PEER, [(b"forwarded", b"for=10.0.0.2," * 900)], PROXIES).client == ("10.0.0.2", 0)


NAMES = st.sampled_from([b"x-forwarded-for", b"forwarded", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"accept"])
PIECES = st.sampled_from(
    [b"for=", b'"', b",", b";", b"\\", b" ", b"[", b"]", b":", b"10.0.0.2", b"192.0.2.1", b"::1", b"proto=https"]
)
VALUES = st.binary(max_size=40) | st.lists(PIECES, max_size=12).map(b"".join)


@given(fields=st.lists(st.tuples(NAMES, VALUES), max_size=6), believed=st.sampled_from(["either", "forwarded", "x-forwarded"]))
def test_any_fields_name_an_address_or_nothing(fields, believed):
    told = find_told(PEER, fields, PROXIES, believed)
    assert told.client is not None
    assert str(ipaddress.ip_address(told.client[0])) == told.client[0]
    assert told.scheme in (None, "http", "https")
    assert find_told(("6.6.6.6", 1), fields, PROXIES, believed) == Told(("6.6.6.6", 1))


@given(left=VALUES.filter(lambda value: b'"' not in value))
def test_nothing_that_a_client_writes_moves_what_its_proxy_appends(left):
    """As one line, which is how most proxies append (an open quotation mark hides who asks, and makes nobody else of them)."""
    for name, own in ((b"x-forwarded-for", b"192.0.2.9"), (b"forwarded", b"for=192.0.2.9")):
        assert find_told(PEER, [(name, left + b", " + own)], PROXIES).client == ("192.0.2.9", 0)
