"""``dcz``: what a file has that the version before has not."""

import os
from hashlib import sha256

import pytest

from assetserver.storage.codecs import DCZ_HEADER_BYTES, DCZ_MAGIC, DECODE_ERRORS, Effort, compress_against, decode_against

MIB = 1 << 20
OLD = b"".join(b"line %d\n" % number for number in range(20_000))
NEW = OLD.replace(b"line 777\n", b"another line\n")


def delta_of(old: bytes, new: bytes, effort: Effort = Effort.QUICK) -> bytes:
    return compress_against(old, sha256(old).digest(), new, effort)


def window_of(frame: bytes) -> int:
    """Return how large a window a zstd frame wants (RFC 8878 §3.1.1.1)."""
    assert frame[:4] == bytes.fromhex("28b52ffd")
    size_flag, is_single = frame[4] >> 6, bool(frame[4] & 0x20)
    assert frame[4] & 4, "no checksum"
    assert frame[4] & 3 == 0, "a dictionary's id"
    if is_single:
        length = (1, 2, 4, 8)[size_flag]
        return int.from_bytes(frame[5 : 5 + length], "little") + (256 if length == 2 else 0)
    base = 1 << (10 + (frame[5] >> 3))
    return base + base // 8 * (frame[5] & 7)


@pytest.mark.parametrize("effort", Effort)
def test_a_delta_is_a_frame_of_what_its_dictionary_has_not(effort):
    delta = delta_of(OLD, NEW, effort)
    assert delta[:DCZ_HEADER_BYTES] == DCZ_MAGIC + sha256(OLD).digest()
    assert len(delta) < 2000
    assert b"".join(decode_against(OLD, delta)) == NEW


def content(size: int) -> bytes:
    return (OLD * (size // len(OLD) + 1))[:size]


@pytest.mark.parametrize(
    ("old", "new"),
    [(8, 0), (8, 1), (8, 3000), (3000, 0), (3 * MIB, 1000), (1000, 9 * MIB), (10 * MIB, 11 * MIB), (9 * MIB, 20 * MIB)],
)
def test_no_delta_wants_a_larger_window_than_every_client_has(old, new):
    dictionary, wanted = content(old), content(new)
    delta = delta_of(dictionary, wanted)
    assert window_of(delta[DCZ_HEADER_BYTES:]) <= max(8 * MIB, old * 5 // 4)  # RFC 9842 §5
    assert b"".join(decode_against(dictionary, delta)) == wanted


def test_the_whole_of_a_large_dictionary_is_within_reach():
    old = os.urandom(9 * MIB)
    delta = delta_of(old, old[1:] + b"x")
    assert len(delta) < 9 * MIB / 100


def test_what_is_no_delta_or_another_s_does_not_decode():
    delta = delta_of(OLD, NEW)
    for damaged in (delta[:-1], delta + b"x", b"x" + delta, delta[:50] + b"\0" + delta[51:], b""):
        with pytest.raises(DECODE_ERRORS):
            b"".join(decode_against(OLD, damaged))
    with pytest.raises(DECODE_ERRORS):
        b"".join(decode_against(NEW[::-1], delta))
