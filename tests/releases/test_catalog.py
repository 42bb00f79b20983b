"""The index: every path is found, no other is, and it weighs little in memory."""

import os
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assetserver import releases
from assetserver.errors import PublishError
from assetserver.releases.catalog import Catalog, CatalogEntry, encode_catalog, key_of

MANY = 20_000
HEAD = encode_catalog([])

digests = st.binary(min_size=32, max_size=32)
entries = st.builds(
    CatalogEntry,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    digests,
    st.integers(0, 2**53),
    st.sampled_from(["", "proved", "referenced", "declared by assets/*"]),
    st.lists(st.tuples(st.sampled_from(["br", "zstd", "gzip"]), digests, st.integers(0, 2**53)), max_size=3).map(tuple),
    st.lists(st.text(), max_size=2).map(tuple),
)


def make_entry(path: str) -> CatalogEntry:
    return CatalogEntry(path, sha256(path.encode()).digest(), len(path), "proved" if len(path) % 2 else "")


def open_catalog(path: Path, *entries: CatalogEntry) -> Catalog:
    path.write_bytes(encode_catalog(entries))
    return Catalog(str(path))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_each_path_is_found_and_no_other(tmp_path, count):
    made = [make_entry(f"assets/{number}.js") for number in range(count)]
    catalog = open_catalog(tmp_path / "index", *made)
    assert len(catalog) == count
    assert [catalog.get(one.path) for one in made] == made
    assert [catalog.get(path) for path in ("", "assets/", "assets/-1.js", f"assets/{count}.js", "assets/0.jS")] == [None] * 5


@settings(max_examples=50, deadline=None)
@given(
    made=st.lists(entries, unique_by=lambda one: one.path, max_size=20), other=st.text(st.characters(exclude_categories=["Cs"]))
)
def test_any_entries_come_back(tmp_path_factory, made, other):
    catalog = open_catalog(tmp_path_factory.mktemp("index") / "index", *made)
    assert [catalog.get(one.path) for one in made] == made
    assert (catalog.get(other) is None) == all(one.path != other for one in made)


@pytest.mark.parametrize("key", [0, 2**64 - 1])
def test_paths_with_one_hash_are_told_apart(tmp_path, monkeypatch, key):
    monkeypatch.setattr(releases.catalog, "key_of", lambda path: key if path < "m" else 7)
    made = [make_entry(path) for path in ("a", "b", "c", "x", "y")]
    found = open_catalog(tmp_path / "index", *made)
    assert [found.get(one.path) for one in made] == made
    assert (found.get("d"), found.get("z")) == (None, None)
    assert sorted(found, key=lambda one: one.path) == made


def test_what_is_not_there_is_known_without_a_record(tmp_path):
    found = open_catalog(tmp_path / "index", *map(make_entry, "abc"))
    assert [found.may_have(key_of(path)) for path in "abcd"] == [True, True, True, False]
    assert not open_catalog(tmp_path / "none").may_have(key_of("a"))


def test_the_order_of_entries_does_not_matter_to_look_ups(tmp_path):
    made = [make_entry(path) for path in "fcaebd"]
    assert [open_catalog(tmp_path / "index", *made).get(path) for path in "abcdef"] == sorted(made, key=lambda one: one.path)


@pytest.mark.parametrize(
    "content",
    [b"", HEAD[:8], b"ASCATv9\n" + HEAD[8:], bytes(100), HEAD[:8] + (3).to_bytes(8, "little") + HEAD[16:]],
    ids=["empty", "cut in the head", "other version", "zeros", "cut in the table"],
)
def test_what_is_no_index_is_refused(tmp_path, content):
    path = tmp_path / "index"
    path.write_bytes(content)
    with pytest.raises(PublishError, match="activate the release again"):
        Catalog(str(path))


def test_an_entry_is_immutable_for_good_reasons_only():
    reasons = {"": False, "proved": True, "changed": True, "referenced": False, "beside": False, "declared by assets/*": True}
    assert {reason: make_entry("a").because(reason).immutable for reason in reasons} == reasons


def test_the_rules_come_back(tmp_path):
    path = tmp_path / "index"
    path.write_bytes(encode_catalog([make_entry("a")], b"some rules"))
    assert (Catalog(str(path)).rules, Catalog(str(path)).get("a")) == (b"some rules", make_entry("a"))


def test_a_damaged_record_is_one_file_less_and_told_once(tmp_path, caplog):
    path = tmp_path / "index"
    content = bytearray(encode_catalog([make_entry("first"), make_entry("second")]))
    content[content.index(b"second") + 2] ^= 1
    path.write_bytes(content)
    catalog = Catalog(str(path))
    assert (catalog.get("first"), catalog.get("second"), catalog.get("second")) == (make_entry("first"), None, None)
    assert list(catalog) == [make_entry("first")]
    assert [record.message.split(";")[0] for record in caplog.records] == [f"{path} is damaged"]


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 1 << 20), value=st.integers(0, 255))
def test_any_damage_costs_entries_and_never_gives_wrong_ones(tmp_path_factory, at, value):
    made = [make_entry(f"assets/{number}.js") for number in range(20)]
    content = bytearray(encode_catalog(made, b"rules"))
    content[at % len(content)] = value
    path = tmp_path_factory.mktemp("index") / "index"
    path.write_bytes(content)
    try:
        catalog = Catalog(str(path))
    except PublishError:
        return
    assert all(catalog.get(one.path) in (one, None) for one in made)
    assert catalog.rules == b"rules"


def test_an_index_that_is_cut_while_it_is_open_costs_entries_and_no_process(tmp_path, caplog):
    path = tmp_path / "index"
    catalog = open_catalog(path, *(make_entry(f"assets/{number}.js") for number in range(100)))
    path.write_bytes(b"")
    assert [catalog.get(f"assets/{number}.js") for number in range(100)] == [None] * 100
    assert "damaged" in caplog.text


def test_a_long_entry_comes_back(tmp_path):
    entry = CatalogEntry("p" * 3000, bytes(32), 1, links=("<a>; rel=preload",) * 50)
    assert open_catalog(tmp_path / "index", entry).get(entry.path) == entry


def test_an_index_closes_its_file(tmp_path):
    catalog = open_catalog(tmp_path / "index", make_entry("a"))
    before = len(os.listdir("/proc/self/fd"))
    del catalog
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_an_open_index_survives_its_file(tmp_path):
    catalog = open_catalog(tmp_path / "index", make_entry("a"))
    (tmp_path / "index").unlink()
    assert catalog.get("a") == make_entry("a")


def test_opening_an_index_takes_24_bytes_per_entry(tmp_path):
    path = tmp_path / "index"
    path.write_bytes(encode_catalog(make_entry(f"assets/{number:x}.js") for number in range(MANY)))
    tracemalloc.start()
    try:
        catalog = Catalog(str(path))
        assert catalog.get("assets/1f.js") == make_entry("assets/1f.js")
        assert catalog.get("assets/none.js") is None
        used, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 26 * MANY
    assert peak < 60 * MANY
