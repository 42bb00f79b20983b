import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.fields import LIMIT_BYTES
from assetserver.semantics.parameters import (
    decode_utf8,
    parse_extended_value,
    parse_filename,
    parse_media_type,
    parse_parameterised,
)


@pytest.mark.parametrize(
    ("text", "value", "parameters"),
    [
        ("attachment", "attachment", {}),
        ("", "", {}),
        ("Form-Data; NAME=a", "form-data", {"name": "a"}),
        ('form-data; name="a;b"; filename="c, d.txt"', "form-data", {"name": "a;b", "filename": "c, d.txt"}),
        (r'x; a="say \"hi\" \\o/"', "x", {"a": r'say "hi" \o/'}),
        (r'x; a="C:\temp\new.txt"', "x", {"a": r"C:\temp\new.txt"}),
        ("x;a=1;a=2", "x", {"a": "1"}),
        ("x;; ;a=1;", "x", {"a": "1"}),
        ("x; filename=my file.txt ; b=c", "x", {"filename": "my file.txt", "b": "c"}),
        ('x; a=""', "x", {"a": ""}),
        ("x ; a=", "x", {"a": ""}),
    ],
)
def test_parameters_are_read(text, value, parameters):
    assert parse_parameterised(text) == (value, parameters)


@pytest.mark.parametrize("text", ['x; a="open', 'x; a="b"c', "x; a b=c", "x; =c", 'x; a=b"c', "x" * (LIMIT_BYTES + 1)])
def test_what_has_no_parameters_is_none(text):
    assert parse_parameterised(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Multipart/Form-Data; boundary=x", "multipart/form-data"),
        ("text/plain", "text/plain"),
        ("text", None),
        ("/plain", None),
        ("text/", None),
        ("a/b/c", None),
        ('text/plain; charset="', None),
    ],
)
def test_media_type_has_a_type_and_a_subtype(text, value):
    found = parse_media_type(text)

    assert (found and found.value) == value


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ("attachment; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("attachment; filename=\"naive.txt\"; filename*=utf-8'fr'na%C3%AFve.txt", "naïve.txt"),
        ("attachment; filename*=iso-8859-1''na%EFve.txt", "naïve.txt"),
        ("attachment; filename=\"a.txt\"; filename*=UTF-8''%FF", "a.txt"),
        ("attachment; filename=\"a.txt\"; filename*=UTF-8''%4", "a.txt"),
        ("attachment; filename=\"a.txt\"; filename*=koi8-r''a", "a.txt"),
        ('attachment; filename="naÃ¯ve.txt"', "naïve.txt"),
        ('attachment; filename="naïve.txt"', "naïve.txt"),
        ('attachment; filename="日.txt"', "日.txt"),
        ('attachment; filename=""', ""),
        ("attachment", None),
        ('attachment; filename="', None),
    ],
)
def test_file_name_is_what_the_client_meant(text, name):
    assert parse_filename(text) == name


@given(st.text())
def test_no_text_makes_the_parsers_raise(text):
    parse_parameterised(text)
    parse_filename(text)
    parse_filename("attachment; filename*=" + text)
    parse_extended_value(text)
    decode_utf8(text)


@given(st.text(st.characters(codec="utf-8")))
def test_quoted_value_comes_back_as_it_was(text):
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')

    found = parse_parameterised(f'form-data; name="{quoted}"')

    if len(quoted) < LIMIT_BYTES - 30:
        assert found == ("form-data", {"name": text})
