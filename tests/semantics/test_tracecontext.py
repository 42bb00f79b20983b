"""``traceparent`` is read strictly, and so is a proxy's identifier of a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.tracecontext import TraceParent, is_request_id, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", TraceParent(TRACE, SPAN, is_sampled=True)),
        (f"00-{TRACE}-{SPAN}-00", TraceParent(TRACE, SPAN, is_sampled=False)),
        (f"00-{TRACE}-{SPAN}-03", TraceParent(TRACE, SPAN, is_sampled=True)),
        (f"00-{TRACE}-{SPAN}-fe", TraceParent(TRACE, SPAN, is_sampled=False)),
        (f"01-{TRACE}-{SPAN}-01", TraceParent(TRACE, SPAN, is_sampled=True)),
        (f"fe-{TRACE}-{SPAN}-01-what-may-come", TraceParent(TRACE, SPAN, is_sampled=True)),
        (f"00-{TRACE}-{SPAN}-01-", None),
        (f"00-{TRACE}-{SPAN}-01-x", None),
        (f"01-{TRACE}-{SPAN}-01x", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        (f" 00-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        (f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01", None),
        ("", None),
    ],
)
def test_a_traceparent_is_exactly_one(value, expected):
    assert parse_traceparent(value.encode()) == expected


@given(trace=st.integers(1, (1 << 128) - 1), span=st.integers(1, (1 << 64) - 1), is_sampled=st.booleans())
def test_what_is_passed_on_is_read_again(trace, span, is_sampled):
    parent = TraceParent(f"{trace:032x}", f"{span:016x}", is_sampled)
    assert parse_traceparent(str(parent).encode()) == parent


@pytest.mark.parametrize("value", [b"a1b2c3d4", b"01HF.x_y-z" * 6, b"0" * 64])
def test_an_identifier_that_logs_can_hold_is_passed_on(value):
    assert is_request_id(value)


@pytest.mark.parametrize("value", [b"", b"a1b2c3d", b"0" * 65, b"a1b2c3d4\n", b"a1b2 c3d4", b'a1b2"c3d4', b"a1b2c3d\xe9"])
def test_any_other_is_not(value):
    assert not is_request_id(value)
