import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import TooLargeError, UnsupportedTypeError
from assetserver.uploads.multipart import (
    LIMIT_FIELD_BYTES,
    LIMIT_OUTSIDE_BYTES,
    PART_END,
    FormError,
    FormParts,
    FormReader,
    PartHeader,
    read_boundary,
)

BOUNDARY = b"XyZ"


def make_part(disposition, content, *lines):
    head = "\r\n".join([f"Content-Disposition: {disposition}", *lines]).encode()
    return b"--XyZ\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def make_form(*parts):
    return b"".join(parts) + b"--XyZ--\r\n"


def read_form(body, size=None):
    """Return ``(header, content)`` of each part, the body fed in pieces of ``size``."""
    reader = FormReader(BOUNDARY)
    events = []
    for start in range(0, len(body), size or max(len(body), 1)):
        events += reader.feed(body[start : start + (size or len(body))])
    reader.close()
    parts = []
    for event in events:
        if isinstance(event, PartHeader):
            parts.append([event, b""])
        elif event is not PART_END:
            parts[-1][1] += event
    return [tuple(part) for part in parts]


FILE = make_part('form-data; name="file"; filename="a.txt"', b"hello\r\n--XyY\r\n", "Content-Type: text/plain")
FIELD = make_part('form-data; name="album"', "Käfer".encode())


@pytest.mark.parametrize("size", [None, 1, 2, 7, 64])
def test_parts_come_out_whatever_the_pieces_are(size):
    assert read_form(make_form(FIELD, FILE), size) == [
        (PartHeader("album", None, "", ""), "Käfer".encode()),
        (PartHeader("file", "a.txt", "text/plain", ""), b"hello\r\n--XyY\r\n"),
    ]


@given(st.lists(st.binary(max_size=200), max_size=4), st.integers(1, 50))
def test_content_comes_back_as_it_was(contents, size):
    contents = [content for content in contents if b"--XyZ" not in content]
    parts = [make_part(f'form-data; name="f"; filename="{number}"', content) for number, content in enumerate(contents)]

    assert [content for _, content in read_form(make_form(*parts), size)] == contents


@given(st.binary(max_size=400), st.integers(1, 50))
def test_no_body_makes_the_reader_raise_anything_but_its_error(body, size):
    for start in (b"", b"--XyZ\r\n", FILE):
        with suppress(FormError):
            read_form(start + body, size)


def test_form_without_parts_has_none():
    assert read_form(b"--XyZ--\r\n") == []


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('"a b.txt"', "a b.txt"),
        ('"Käfer \U0001f41e.txt"', "Käfer \U0001f41e.txt"),
        ('"say %22hi%22.txt"', 'say "hi".txt'),
        (r'"say \"hi\".txt"', 'say "hi".txt'),
        ('"100%.txt"', "100%.txt"),
        ('"..\\\\..\\\\boot.ini"', "..\\..\\boot.ini"),
        ('""', ""),
        ("\"a.txt\"; filename*=UTF-8''other.txt", "a.txt"),
    ],
)
def test_file_name_is_read_as_clients_write_it(written, name):
    ((header, _),) = read_form(make_form(make_part(f"form-data; name=f; filename={written}", b"x")))

    assert header.filename == name


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "ends before"),
        (b"--XyZ\r\n", "ends before"),
        (FILE, "ends before"),
        (make_form(FILE)[:-5], "ends before"),
        (b"--AbC--\r\n", "cannot be read"),
        (b"hello", "cannot be read"),
        (make_form(make_part("attachment; name=f", b"")), "no Content-Disposition"),
        (make_form(make_part("form-data; filename=f", b"")), "no Content-Disposition"),
        (make_form(make_part('form-data; name="f', b"")), "no Content-Disposition"),
        (b"--XyZ\r\nX-A: 1\r\n\r\n\r\n--XyZ--\r\n", "no Content-Disposition"),
        (b"--XyZ\r\nContent-Disposition: form-data; name=\xff\r\n\r\n\r\n--XyZ--\r\n", "not UTF-8"),
        (make_form(make_part("form-data; name=f", b"", "X-A: 1", "x-a: 2")), "more than one x-a"),
        (make_form(make_part("form-data; name=f", b"", "Content-Transfer-Encoding: base64")), "Content-Transfer-Encoding"),
        (make_form(make_part("form-data; name=f", b"", *(f"X-{n}: 1" for n in range(9)))), "cannot be read"),
        (make_form(make_part("form-data; name=" + "f" * 5000, b"")), "cannot be read"),
        (make_form(make_part("form-data; name=" + "f" * 2000, b"")), "the name of a field"),
        (make_form(make_part("form-data; name=f\r\nBad Name: x", b"")), "cannot be read"),
        (b"\r\n" * (LIMIT_OUTSIDE_BYTES // 2 + 1), "outside"),
    ],
)
def test_what_is_no_form_is_refused(body, message):
    with pytest.raises(FormError, match=message):
        read_form(body)


def test_little_may_follow_the_form():
    reader = FormReader(BOUNDARY)
    reader.feed(make_form(FILE) + b"epilogue")
    reader.feed(b"x" * LIMIT_OUTSIDE_BYTES)

    with pytest.raises(FormError, match="outside"):
        reader.feed(b"x")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("multipart/mixed; boundary=a", UnsupportedTypeError),
        ("text/plain", UnsupportedTypeError),
        ("", UnsupportedTypeError),
        ("multipart/form-data", FormError),
        ("multipart/form-data; boundary=", FormError),
        ("multipart/form-data; boundary=" + "a" * 71, FormError),
        ("multipart/form-data; boundary=ä", FormError),
        ('multipart/form-data; boundary="a\tb"', FormError),
    ],
)
def test_boundary_that_is_none_is_refused(text, error):
    with pytest.raises(error):
        read_boundary(text)


def test_boundary_is_read():
    assert read_boundary('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"


async def in_pieces(body, size):
    for start in range(0, len(body), size):
        yield body[start : start + size]


def run(coroutine):
    return asyncio.run(coroutine)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_part_that_is_not_read_is_passed_over(size):
    async def read():
        parts = FormParts(BOUNDARY, in_pieces(make_form(FILE, FIELD, FILE), size))
        names = []
        while (header := await parts.next_part()) is not None:
            names.append(header.name)
            if header.name == "album":
                names.append(await parts.read_value())
        return names

    assert run(read()) == ["file", "album", "Käfer", "file"]


def test_content_of_a_part_ends_with_it():
    async def read():
        parts = FormParts(BOUNDARY, in_pieces(make_form(FILE, FILE), 6))
        await parts.next_part()
        first = b"".join([piece async for piece in parts.content()])
        again = [piece async for piece in parts.content()]
        return first, again, await parts.next_part(), await parts.next_part()

    first, again, second, third = run(read())
    assert (first, again) == (b"hello\r\n--XyY\r\n", [])
    assert second is not None
    assert third is None


def test_cut_form_is_told_while_a_part_is_read():
    async def read():
        parts = FormParts(BOUNDARY, in_pieces(FILE, 5))
        await parts.next_part()
        return [piece async for piece in parts.content()]

    with pytest.raises(FormError, match="ends before"):
        run(read())


def test_field_beyond_its_limit_is_refused():
    async def read(content):
        parts = FormParts(BOUNDARY, in_pieces(make_form(make_part("form-data; name=f", content)), 1000))
        await parts.next_part()
        return await parts.read_value()

    assert run(read(b"x" * LIMIT_FIELD_BYTES)) == "x" * LIMIT_FIELD_BYTES
    with pytest.raises(TooLargeError):
        run(read(b"x" * (LIMIT_FIELD_BYTES + 1)))
    with pytest.raises(FormError, match="UTF-8"):
        run(read(b"\xff"))
