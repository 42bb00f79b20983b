"""The sketch against exact counts: never too low, too high by no more than it says, and bounded."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from assetserver.metrics.sketch import Sketch

NAMES = st.integers(0, 40).map(str)
STREAM = st.lists(st.tuples(NAMES, st.integers(1, 9)), max_size=300)


def count(stream: list[tuple[str, int]], capacity: int) -> tuple[Sketch, Counter[str]]:
    sketch, exact = Sketch(capacity), Counter[str]()
    for name, times in stream:
        sketch.add(name, times)
        exact[name] += times
    return sketch, exact


def check(sketch: Sketch, exact: Counter[str], capacity: int) -> None:
    total = exact.total()
    assert len(sketch) <= 2 * capacity
    assert sketch.floor <= total / capacity
    told = {one.name: one for one in sketch.top(1000)}
    for name, times in exact.items():
        if name in told:
            assert times <= told[name].times <= times + told[name].error
        else:
            assert times <= sketch.floor
    assert all(one.error <= sketch.floor for one in told.values())


@settings(max_examples=150, deadline=None)
@given(STREAM, st.integers(1, 12))
def test_counts_are_never_too_low_and_as_much_too_high_as_told(stream, capacity):
    check(*count(stream, capacity), capacity)


@settings(max_examples=100, deadline=None)
@given(STREAM, STREAM, st.integers(1, 12))
def test_two_sketches_make_one(first, second, capacity):
    one, exact_of_one = count(first, capacity)
    other, exact_of_other = count(second, capacity)

    merged, exact = one.merged(other), exact_of_one + exact_of_other

    told = {row.name: row for row in merged.top(1000)}
    assert len(merged) <= 2 * capacity
    for name, times in exact.items():
        if name in told:
            assert times <= told[name].times <= times + told[name].error
        else:
            assert times <= merged.floor


@settings(max_examples=50, deadline=None)
@given(STREAM, st.integers(1, 12))
def test_what_is_kept_of_a_bounded_sketch_is_as_true(stream, capacity):
    sketch, exact = count(stream, capacity)

    check(sketch.bounded(), exact, capacity)
    assert len(sketch.bounded()) <= capacity


def test_what_is_frequent_is_found_among_a_flood_of_others():
    numbers = random.Random(7)  # noqa: S311 - a stream that is the same each time
    stream = [(f"/popular/{n}", 1) for n in range(10) for _ in range(500)] + [(f"/rare/{n}", 1) for n in range(20_000)]
    numbers.shuffle(stream)

    sketch, _ = count(stream, 200)

    assert {one.name for one in sketch.top(10)} == {f"/popular/{n}" for n in range(10)}
    assert len(sketch) <= 400


def test_without_evictions_counts_are_exact():
    sketch, exact = count([("a", 3), ("b", 1), ("a", 1)], 2)

    assert [(one.name, one.times, one.error) for one in sketch.top(9)] == [("a", 4, 0), ("b", 1, 0)]
    assert exact.total() == 5
