"""Signing keys and their file."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from assetserver.access.keyfile import load_keys
from assetserver.access.keys import KeyRing, Signed, make_key, parse_key
from assetserver.errors import SettingsError

OLD = parse_key("old:" + "o" * 32)
NEW = parse_key("new:" + "n" * 32)


def test_the_first_key_signs_and_every_key_verifies():
    by_old, by_both = KeyRing([OLD]).sign("x", "text"), KeyRing([NEW, OLD]).sign("x", "text")
    assert (by_old.key, by_both.key) == ("old", "new")
    assert KeyRing([NEW, OLD]).verify("x", "text", by_old)
    assert KeyRing([NEW, OLD]).verify("x", "text", by_both)
    assert not KeyRing([NEW]).verify("x", "text", by_old)


@pytest.mark.parametrize(
    ("purpose", "text", "signed"),
    [
        ("y", "text", None),
        ("x", "text2", None),
        ("x", "text", Signed("new", "")),
        ("x", "text", Signed("new", "ä" * 43)),
        ("x", "text", Signed("", "")),
    ],
)
def test_a_signature_is_for_one_text_one_purpose_and_one_key(purpose, text, signed):
    ring = KeyRing([OLD, parse_key("new:" + "n" * 40)])
    assert not ring.verify(purpose, text, signed or ring.sign("x", "text"))
    assert not ring.verify("x", "text", ring.sign("x", "text")._replace(key="new"))


def test_keys_do_not_show_their_secrets():
    assert "ooo" not in repr(OLD)
    with pytest.raises(SettingsError) as caught:
        parse_key("mine:tooshort")
    assert str(caught.value).startswith("the key 'mine' must be NAME:SECRET")
    assert "tooshort" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "nothing", ":" + "s" * 40, "a b:" + "s" * 40, "a:" + "s" * 600, "a:" + "s" * 31 + "\x01"])
def test_what_is_not_a_key_is_refused(text):
    with pytest.raises(SettingsError):
        parse_key(text)


def test_a_ring_wants_keys_of_different_names():
    with pytest.raises(SettingsError, match="at least one"):
        KeyRing([])
    with pytest.raises(SettingsError, match="different names"):
        KeyRing([OLD, OLD])


def test_the_key_file_is_made_once_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "data" / "keys"
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(lambda _: load_keys((), str(path)), range(16)))
    signed = rings[0].sign("x", "text")
    assert all(ring.verify("x", "text", signed) for ring in rings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["keys"]


def test_configured_keys_leave_the_file_alone(tmp_path):
    ring = load_keys((make_key("a"), make_key("b")), str(tmp_path / "keys"))
    assert ring.names == ("a", "b")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_line_of_the_key_file_is_named(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# mine\n\n{make_key('a')}\nb:short\n")
    with pytest.raises(SettingsError, match=rf"{path}:4: the key 'b' must be NAME:SECRET"):
        load_keys((), str(path))
