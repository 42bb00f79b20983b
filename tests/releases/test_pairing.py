"""Which file was which: the surest sign first, content last, and never what has nothing in common."""

import random

import pytest

from assetserver.releases.manifest import FileRecord
from assetserver.releases.pairing import Build, pair_files
from assetserver.releases.resemblance import KEPT, Resembling, sketch

from ..contracts.blobstore import digest_of

LIMIT = 1 << 20


def text_of(topic: int, version: int = 0) -> bytes:
    """Return a script about ``topic``, of which one line in twenty differs between versions."""
    words = random.Random(topic)  # noqa: S311 - the same every time
    lines = [f"function t{topic}_{line}(a){{return a*{words.random()}+{words.random()}}}" for line in range(200)]
    for line in range(version, len(lines), 20):
        lines[line] = f"const changed_{version}_{line}={topic};"
    return "\n".join(lines).encode()


def pair(old: dict[str, bytes], new: dict[str, bytes], old_sources=None, new_sources=None) -> dict[str, str]:
    """Return by which path each file of ``new`` was found in ``old``."""
    contents = {digest_of(one): one for one in (*old.values(), *new.values())}
    builds = [
        Build({path: FileRecord(digest_of(one), len(one)) for path, one in files.items()}, sources or {})
        for files, sources in ((old, old_sources), (new, new_sources))
    ]
    found = pair_files(*builds, lambda record: sketch(contents[record.digest]), LIMIT)
    paths = [{record.digest: path for path, record in build.files.items()} for build in builds]
    return {paths[1][come]: paths[0][gone] for come, gone in found.items()}


def test_a_path_stays_itself_whatever_else_is_like_it():
    old = {"app.js": text_of(1), "other.js": text_of(2)}
    assert pair(old, {"app.js": text_of(2, 1), "more.js": text_of(2, 2)}) == {"app.js": "app.js", "more.js": "other.js"}


def test_a_hash_in_a_name_may_change():
    old = {"assets/app-BX2k9fQa.js": text_of(1), "assets/home-Cd83kLw2.js": text_of(2), "main.4f2a9c01.css": text_of(3)}
    new = {
        "assets/app-Zk29dmQ1.js": text_of(1, 1),
        "assets/home-Q9xkLw2a.js": text_of(2, 1),
        "main.99ab01cd.css": text_of(3, 1),
    }
    assert pair(old, new) == dict(zip(new, old, strict=True))


def test_of_several_with_one_stem_the_content_tells():
    old = {f"assets/index-{name}.js": text_of(topic) for topic, name in enumerate(("BX2k9fQa", "Cd83kLw2", "Pm3kx9Zq"))}
    new = {f"assets/index-{name}.js": text_of(topic, 1) for topic, name in ((2, "aa8kLw2a"), (0, "bb8kLw2b"), (7, "cc8kLw2c"))}
    names = list(old)
    assert pair(old, new) == {"assets/index-aa8kLw2a.js": names[2], "assets/index-bb8kLw2b.js": names[0]}


def test_a_bundler_knows_what_has_neither_name_nor_content_in_common():
    old, new = {"x1/aa11bb22.js": text_of(1)}, {"y2/cc33dd44.mjs": text_of(2)}
    assert pair(old, new) == {}
    assert pair(old, new, {"x1/aa11bb22.js": "src/main.ts"}, {"y2/cc33dd44.mjs": "src/main.ts"}) == {
        "y2/cc33dd44.mjs": "x1/aa11bb22.js"
    }
    assert pair(old, new, {"x1/aa11bb22.js": "src/main.ts"}, {"y2/cc33dd44.mjs": "src/other.ts"}) == {}


def test_content_finds_what_moved_and_nothing_that_is_another():
    old = {"lib/a.js": text_of(1), "lib/b.js": text_of(2), "lib/c.css": text_of(3)}
    new = {"vendor/one.js": text_of(2, 1), "vendor/two.js": text_of(9), "vendor/three.js": text_of(3, 1)}
    assert pair(old, new) == {"vendor/one.js": "lib/b.js"}  # a style sheet becomes no script


def test_what_was_there_before_needs_no_delta():
    same = text_of(1)
    assert pair({"a.js": same, "b.js": text_of(2)}, {"a.js": text_of(2), "c.js": same}) == {}


@pytest.mark.parametrize("content", [b"x" * 100, b"x;" * LIMIT, b""], ids=["tiny", "huge", "empty"])
def test_files_of_which_no_deltas_are_made_are_no_pairs(content):
    assert pair({"a.js": content}, {"a.js": text_of(1)}) == {}
    assert pair({"a.js": text_of(1)}, {"a.js": content}) == {}


def test_what_no_deltas_are_made_of_are_pictures():
    assert pair({"a.webp": text_of(1)}, {"a.webp": text_of(1, 1)}) == {}


def test_a_sketch_is_of_bounded_size_and_of_nothing_if_there_is_nothing():
    assert len(sketch(b";".join(b"word%d" % number for number in range(100_000)))) == KEPT
    assert sketch(b"") == sketch(b";;;;") == sketch(bytes(10_000)) == frozenset()
    resembling = Resembling()
    resembling.add("nothing", sketch(b""))
    assert resembling.find(sketch(b"")) is None
    assert resembling.find(sketch(text_of(1))) is None


def test_what_is_inserted_moves_no_other_cut():
    resembling = Resembling()
    for topic in range(20):
        resembling.add(f"{topic}", sketch(text_of(topic)))
    for topic in range(20):
        content = text_of(topic)
        moved = content[: len(content) // 2] + b"/* inserted */" * 100 + content[len(content) // 2 :]
        assert resembling.find(sketch(moved)) == f"{topic}"
    assert resembling.find(sketch(text_of(99))) is None
