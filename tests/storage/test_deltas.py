"""``dcz``: what a file has that the version before has not."""

import os
from hashlib import sha256

import pytest

from assetserver.storage.codecs import DCZ_MAGIC, DELTA_LIMIT_BYTES, ZstdStream, compress_against


def test_a_delta_is_a_frame_of_what_its_dictionary_has_not():
    old = b"".join(b"line %d\n" % number for number in range(20_000))
    new = old.replace(b"line 777\n", b"another line\n")
    delta = compress_against(old, sha256(old).digest(), new)
    assert delta.startswith(DCZ_MAGIC + sha256(old).digest())
    assert len(delta) < 2000
    stream = ZstdStream(old)
    assert b"".join(stream.feed(delta[40:])) == new
    stream.close()


def test_a_delta_of_files_that_no_window_holds_is_refused():
    for files in ((bytes(DELTA_LIMIT_BYTES + 1), b"x"), (b"x" * 8, bytes(DELTA_LIMIT_BYTES + 1))):
        with pytest.raises(ValueError, match="a delta is made of"):
            compress_against(files[0], bytes(32), files[1])
    largest = os.urandom(DELTA_LIMIT_BYTES)
    delta = compress_against(largest, bytes(32), largest[1:] + b"x")
    assert len(delta) < DELTA_LIMIT_BYTES / 10
    assert b"".join(ZstdStream(largest).feed(delta[40:])) == largest[1:] + b"x"
