"""Deltas: made, verified, recorded; lost or damaged ones are misses."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.deltas import ON_DEMAND_LIMIT_BYTES, keep_delta, make_delta
from assetserver.releases.dictionaries import encode_dictionaries, is_dictionary
from assetserver.releases.library import DELTAS_KEPT, Delta
from assetserver.releases.manifest import FileRecord, Manifest
from assetserver.releases.serving import ActiveIndex
from assetserver.storage.blobs import Digest
from assetserver.storage.codecs import Effort, decode_against

from ..contracts.blobstore import digest_of, put

TEXT = b"".join(b"function f%d(a, b) { return a * %d + b }\n" % (number, number * number) for number in range(500))
NEW = TEXT.replace(b"f77(", b"renamed(")


def read(library, digest: Digest) -> bytes:
    return b"".join(library.blobs.read(digest))


def test_a_delta_on_demand_is_made_once_and_kept(library):
    old, new = put(library.blobs, TEXT), put(library.blobs, NEW)
    made = keep_delta(library, new, old, 1000)
    assert made == Delta(old, made.digest, made.size)
    assert b"".join(decode_against(TEXT, read(library, made.digest))) == NEW
    assert library.deltas_of(new) == (made,)
    assert keep_delta(library, new, old, 0) == made  # nothing is made: it would not be worth it
    library.blobs.delete(made.digest)
    assert keep_delta(library, new, old, 1000) == made
    assert library.blobs.size_of(made.digest) == made.size


def test_what_is_no_use_is_not_kept(library):
    old, new = put(library.blobs, TEXT), put(library.blobs, NEW)
    size = keep_delta(library, put(library.blobs, NEW + b" "), old, 1000).size
    before = sorted(one.digest for one in library.blobs.list_blobs())
    assert keep_delta(library, new, old, size // 2) is None
    assert keep_delta(library, new, digest_of(b"nowhere"), 1000) is None
    assert keep_delta(library, digest_of(b"nowhere"), old, 1000) is None
    assert library.deltas_of(new) == ()
    assert sorted(one.digest for one in library.blobs.list_blobs()) == before
    huge = put(library.blobs, bytes(ON_DEMAND_LIMIT_BYTES + 1))
    tiny = put(library.blobs, b"short")
    assert [keep_delta(library, *pair, 10_000) for pair in ((new, huge), (huge, old), (new, tiny), (tiny, old))] == [None] * 4


def test_no_delta_is_made_of_damaged_blobs(library):
    old, new = put(library.blobs, TEXT), put(library.blobs, NEW)
    for digest, content in ((old, TEXT), (new, NEW)):
        path = Path(library.blobs.path_of(digest))
        path.chmod(0o644)
        path.write_bytes(content.replace(b"f99(", b"f00("))
        assert make_delta(library.blobs, new, old, 10_000, Effort.QUICK) is None
        path.write_bytes(content)
    assert make_delta(library.blobs, new, old, 10_000, Effort.QUICK)


def test_deltas_made_at_once_are_all_recorded(library):
    new = put(library.blobs, NEW)
    olds = [put(library.blobs, TEXT + b"// %d\n" % number) for number in range(DELTAS_KEPT + 4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda old: keep_delta(library, new, old, 10_000), olds[:DELTAS_KEPT]))
    assert set(library.deltas_of(new)) == set(made)
    latest = [keep_delta(library, new, old, 10_000) for old in olds[DELTAS_KEPT:]]
    assert library.deltas_of(new)[:4] == tuple(reversed(latest))
    assert len(library.deltas_of(new)) == DELTAS_KEPT


@pytest.mark.parametrize("record", [b"", b"[[", b"\xff", b'{"a": 1}', b"[[1,2,3]]"])
def test_a_damaged_record_is_none(library, record):
    old, new = put(library.blobs, TEXT), put(library.blobs, NEW)
    made = keep_delta(library, new, old, 1000)
    Path(library.deltas_path(new)).write_bytes(record)
    assert library.deltas_of(new) == ()
    assert keep_delta(library, new, old, 1000) == made
    assert library.deltas_of(new) == (made,)


def test_the_files_of_a_release_that_a_client_may_hold_are_found(tmp_path):
    contents = {f"{number}.js": b"%d;" % number * 200 for number in range(300)}
    contents |= {"tiny.js": b"x", "photo.webp": bytes(5000), "huge.js": b" " * (ON_DEMAND_LIMIT_BYTES + 1)}
    manifest = Manifest({path: FileRecord(digest_of(one), len(one)) for path, one in contents.items()})
    path = tmp_path / "digests"
    path.write_bytes(encode_dictionaries(manifest))
    assert path.stat().st_size == 300 * 32

    def found(content: bytes) -> bool:
        return is_dictionary([str(tmp_path / "lost"), str(path)], sha256(content).digest())

    assert all(found(content) for name, content in contents.items() if name[0].isdigit())
    assert not any(map(found, (b"", b"x", bytes(5000), contents["huge.js"])))
    path.write_bytes(path.read_bytes()[:-7])  # damage costs deltas
    assert sum(found(content) for content in contents.values()) == 299
    path.write_bytes(b"")
    assert not any(map(found, contents.values()))


def test_a_site_knows_which_files_its_visitors_may_hold(library, publish):
    site = library.site("main")
    releases = [publish({"a.js": TEXT[:300] + b"%d" % number}).release for number in range(12)]
    for release in releases[:-1]:
        keep_release(library, site, release)
    activate_release(library, site, releases[1])
    activate_release(library, site, releases[0])
    index = ActiveIndex(library, site)()[1]
    found = [index.is_dictionary(sha256(TEXT[:300] + b"%d" % number).digest()) for number in range(12)]
    assert found == [True, True, False, *[True] * 8, False]  # what was active, then the newest; never what nobody keeps
