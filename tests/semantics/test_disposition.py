"""Content-Disposition."""

from __future__ import annotations

from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.disposition import format_disposition


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("photo.jpg", 'inline; filename="photo.jpg"'),
        ("a b.txt", 'inline; filename="a b.txt"'),
        ("Tür.png", "inline; filename=\"Tur.png\"; filename*=UTF-8''T%C3%BCr.png"),
        ("日本.txt", "inline; filename=\"__.txt\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.txt"),
        ('x"; a="b.txt', "inline; filename=\"x_; a=_b.txt\"; filename*=UTF-8''x%22%3B%20a%3D%22b.txt"),
        ("a\r\nSet-Cookie: x", "inline; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"),
        ("100%.txt", "inline; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("", "inline; filename=\"file\"; filename*=UTF-8''"),
    ],
)
def test_names_are_written_so_that_every_client_reads_them(name, value):
    assert format_disposition("inline", name) == value


@given(st.text())
def test_any_name_is_one_line_of_ascii_and_comes_back(name):
    value = format_disposition("attachment", name)
    assert value.isascii()
    assert value.isprintable()
    assert value.startswith('attachment; filename="')
    if "*=" in value:
        assert unquote(value.partition("filename*=UTF-8''")[2]) == name
    else:
        message = Message()
        message["content-disposition"] = value
        assert message.get_filename() == name
