"""Which bytes a ``Range`` means: the quick reading says what the slow path's says, or nothing."""

from __future__ import annotations

from time import monotonic

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assetserver.delivery.claims import Claim
from assetserver.delivery.hotcache import FileBody
from assetserver.delivery.hotranges import Template, find_range
from assetserver.semantics.ranges import select_ranges

SIZES = (1, 2, 1000, 1 << 20)
NUMBERS = st.one_of(
    st.just(""), st.integers(0, 1100).map(str), st.sampled_from(["00", "007", "9" * 15, "9" * 16, "1048575", "1048576"])
)
VALUES = st.one_of(st.builds("bytes={}-{}".format, NUMBERS, NUMBERS), st.text("bytes=0123456789-, ", max_size=20))


def make_template(size: int) -> Template:
    claim = Claim(lambda _: None, "", None, monotonic, float("inf"))
    fields = [(b"etag", b'"a"'), (b"content-range", b"bytes 0-0/%d" % size), (b"content-length", b"1")]
    return Template(claim, b"HTTP/1.1 206 Partial Content\r\n", fields, FileBody(lambda: None, 0, 1))


@pytest.mark.parametrize("size", SIZES)
@given(value=VALUES)
@example(value="bytes=-0")
@example(value="bytes=0-")
@example(value="bytes=-")
@example(value="bytes=5-4")
def test_one_range_is_the_one_that_the_slow_path_selects(size, value):
    selected = select_ranges(value, size)
    expected = selected[0] if isinstance(selected, tuple) and len(selected) == 1 else None
    assert find_range(make_template(size), (b"GET /a", b"a", None, None, value.encode(), None)) == expected


@pytest.mark.parametrize(
    ("condition", "is_met"), [(b'"a"', True), (b'"b"', False), (b'W/"a"', False), (b"", False), (None, True)]
)
def test_a_condition_is_met_by_the_very_tag(condition, is_met):
    found = find_range(make_template(10), (b"GET /a", b"a", None, None, b"bytes=1-2", condition))
    assert (found is not None) == is_met
