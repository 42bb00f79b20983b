"""What may name a file, and what is made of what may not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import BadRequestError
from assetserver.uploads.naming import LIMIT_BYTES, clean_name, parse_name


@pytest.mark.parametrize(
    "name", ["a", "a.png", "a b.png", ".hidden", "Łódź 🎈.tar.gz", "x" * 255, "\u0645\u06cc\u200c\u062e", "...", "con"]
)
def test_names_stay_as_they_are(name):
    assert (parse_name(name), clean_name(name)) == (name, name)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", "upload"),
        (".", "upload"),
        ("..", "upload"),
        ("../../etc/passwd", "passwd"),
        ("C:\\fakepath\\cat.png", "cat.png"),
        ("a/", "upload"),
        ("a\0b", "ab"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("\x7f\x85", "upload"),
        ("\u202egpj.exe", "gpj.exe"),
        ("a\u2028b", "ab"),
        ("\ufeffa", "a"),
        ("a\ue000", "a"),
        ("\ud800a", "a"),
        (" a ", "a"),
        ("a\ufffd.png", "a.png"),
        ("ä" * 128 + ".png", "ä" * 125 + ".png"),
        ("x" * 300, "x" * 255),
        ("." + "x" * 300, "." + "x" * 254),
    ],
)
def test_what_is_no_name_is_refused_or_cleaned(text, cleaned):
    assert clean_name(text) == cleaned
    with pytest.raises(BadRequestError) as caught:
        parse_name(text)
    assert str(caught.value).isprintable()


def test_names_are_composed():
    assert parse_name("e\u0301") == clean_name("e\u0301") == "\u00e9"


@given(st.text(st.characters(codec=None)))
def test_a_cleaned_name_is_one(text):
    name = clean_name(text)
    assert parse_name(name) == name
    assert len(name.encode()) <= LIMIT_BYTES
    assert unicodedata.is_normalized("NFC", name)
