"""The memory cache is bounded by bytes and forgets what was used least recently."""

from hypothesis import given
from hypothesis import strategies as st

from assetserver.delivery.memory import MemoryCache


def test_what_was_put_is_got():
    cache = MemoryCache()
    assert cache.put("a", b"content")
    assert cache.get("a") == b"content"
    assert cache.get("b") is None


def test_empty_content_is_content():
    cache = MemoryCache()
    cache.put("a", b"")
    assert cache.get("a") == b""


def test_too_large_content_is_not_admitted_and_drops_nothing():
    cache = MemoryCache(limit_bytes=100, file_limit_bytes=10)
    cache.put("a", b"x" * 10)
    assert not cache.put("b", b"x" * 11)
    assert (cache.get("a"), cache.get("b")) == (b"x" * 10, None)


def test_a_file_limit_above_the_whole_limit_is_the_whole_limit():
    assert MemoryCache(limit_bytes=5, file_limit_bytes=10).file_limit_bytes == 5


def test_the_least_recently_used_leaves_first():
    cache = MemoryCache(limit_bytes=30, file_limit_bytes=10)
    for key in "abc":
        cache.put(key, b"x" * 10)
    cache.get("a")
    cache.put("d", b"x" * 10)
    assert [key for key in "abcd" if cache.get(key)] == ["a", "c", "d"]


def test_putting_a_key_twice_counts_once():
    cache = MemoryCache(limit_bytes=30, file_limit_bytes=30)
    cache.put("a", b"x" * 20)
    cache.put("a", b"x" * 25)
    assert (len(cache), cache.size_bytes) == (1, 25)


def test_a_limit_of_nothing_holds_only_nothing():
    cache = MemoryCache(limit_bytes=0)
    assert not cache.put("a", b"x")
    assert cache.put("b", b"")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40))))
def test_the_size_is_always_the_sum_and_never_above_the_limit(puts):
    cache = MemoryCache(limit_bytes=100, file_limit_bytes=30)
    for key, size in puts:
        assert cache.put(key, b"x" * size) == (size <= 30)
        assert cache.size_bytes <= 100
    assert cache.size_bytes == sum(len(cache.get(key) or b"") for key in range(10))
