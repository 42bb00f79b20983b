"""The header of the PROXY protocol: exact, whole, and never guessed."""

from __future__ import annotations

import itertools
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.proxyprotocol import LIMIT_V2_BYTES, Found, Incomplete, parse_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n"
WRONG, MORE = Incomplete.WRONG, Incomplete.MORE


def v2(command=0x21, family=0x11, source="192.0.2.1", target="10.0.0.1", ports=(4711, 80), more=b"", length=None):
    content = ip_address(source).packed + ip_address(target).packed + struct.pack("!HH", *ports) + more
    return SIGNATURE + struct.pack("!BBH", command, family, len(content) if length is None else length) + content


V1_CASES = {
    V1: ("192.0.2.1", 4711),
    b"PROXY TCP6 2001:DB8:0::1 ::1 65535 0\r\n": ("2001:db8::1", 65535),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n": ("192.0.2.1", 1),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n": None,
}
V1_WRONG = [
    b"GET / HTTP/1.1\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"proxy TCP4 192.0.2.1 10.0.0.1 4711 80\r\n",
    b" " + V1,
    b"\r\n" + V1,
    b"PROXY TCP4  192.0.2.1 10.0.0.1 4711 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80 \r\n",
    V1.replace(b"\r\n", b"\n"),
    b"PROXY TCP4 ::1 ::1 4711 80\r\n",
    b"PROXY TCP6 192.0.2.1 10.0.0.1 4711 80\r\n",
    b"PROXY TCP5 192.0.2.1 10.0.0.1 4711 80\r\n",
    b"PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.999 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 1 99999\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 04711 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 80\r\n",
    b"PROXY TCP4 192.0.2.1 10.0.0.1 80\r\n",
    b"PROXY TCP4 192.0.2.01 10.0.0.1 1 2\r\n",
    b"PROXY UNKNOWN\0\r\n",
    b"PROXY UNKNOWN" + b" x" * 60,
    b"P" * 107,
    b"PROXY T\n",
]
V2_CASES = {
    v2(): ("192.0.2.1", 4711),
    v2(family=0x21, source="2001:db8::1", target="::1"): ("2001:db8::1", 4711),
    v2(more=b"\x04\0\x01x"): ("192.0.2.1", 4711),
    v2(command=0x20): None,
    v2(family=0x00): None,
    v2(command=0x20, family=0x12): None,
    SIGNATURE + b"\x20\x00\0\0": None,
    SIGNATURE + b"\x21\x31\0\xd8" + b"/path".ljust(216, b"\0"): None,
}
V2_WRONG = [
    v2(command=0x22),
    v2(command=0x11),
    v2(command=0x01),
    v2(family=0x12),
    v2(family=0x13),
    v2(family=0x41),
    v2(family=0x32),
    v2(length=11),
    v2(family=0x21),
    v2(length=LIMIT_V2_BYTES),
    SIGNATURE[:-1] + b"x" + v2()[12:],
]


@pytest.mark.parametrize(("header", "source"), [*V1_CASES.items(), *V2_CASES.items()])
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", V1])
def test_a_header_says_who_connected_and_where_it_ends(header, source, rest):
    own, other = ("v1", "v2") if header.startswith(b"PROXY") else ("v2", "v1")
    assert parse_proxy_header(header + rest, own) == parse_proxy_header(header + rest, "any") == Found(source, len(header))
    assert parse_proxy_header(header + rest, other) is WRONG


@pytest.mark.parametrize("header", [*V1_CASES, *V2_CASES])
def test_a_part_of_a_header_may_be_the_beginning_of_one(header):
    for cut in range(len(header)):
        assert parse_proxy_header(header[:cut], "any") is MORE


@pytest.mark.parametrize(
    ("data", "version"), [*itertools.product(V1_WRONG, ["v1", "any"]), *itertools.product(V2_WRONG, ["v2", "any"])]
)
def test_what_is_not_exact_is_no_header(data, version):
    assert parse_proxy_header(data, version) is WRONG


def test_a_request_is_told_from_a_header_at_its_first_byte():
    assert parse_proxy_header(b"G", "any") is parse_proxy_header(b"P", "v2") is parse_proxy_header(b"\r", "v1") is WRONG


@given(
    data=st.binary(max_size=40)
    | st.binary(max_size=300).map(SIGNATURE.__add__)
    | st.binary(max_size=120).map(b"PROXY ".__add__)
)
def test_any_bytes_are_a_header_or_none(data):
    for version in ("v1", "v2", "any"):
        found = parse_proxy_header(data, version)
        assert found in (WRONG, MORE) or found.length <= len(data)
    assert parse_proxy_header(data.ljust(LIMIT_V2_BYTES, b"x"), "any") is not MORE, "what has no end is none"
