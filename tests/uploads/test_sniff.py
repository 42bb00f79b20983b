"""Media types by content: what a name or a client says decides nothing that matters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.uploads.sniff import HEAD_BYTES, is_among, sniff

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\x89PNG\r\n\x1a\n....", "image/png"),
        (b"\xff\xd8\xff\xe0....", "image/jpeg"),
        (b"GIF89a<script>alert(1)</script>", "image/gif"),
        (b"RIFF....WEBPVP8 ", "image/webp"),
        (b"RIFF....WAVEfmt ", "audio/wav"),
        (b"RIFF\1\0\0\0XXXX", "application/octet-stream"),
        (b"....ftypavif", "image/avif"),
        (b"....ftypisom", "video/mp4"),
        (b"BM" + bytes(20), "image/bmp"),
        (b"BM is no picture", TEXT),
        (b"%PDF-1.7\n<html>", "application/pdf"),
        (b"PK\3\4....", "application/zip"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"OggS" + bytes(24) + b"\x80theora", "video/ogg"),
        (b"wOF2", "font/woff2"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"<!DOCTYPE HTML><title>", HTML),
        (b"\xef\xbb\xbf \n<!-- x --><html>", HTML),
        (b"  <ScRiPt src=x>", HTML),
        (b'<?xml version="1.0"?><!-- a --><svg xmlns="x">', "image/svg+xml"),
        (b"<svg:svg xmlns:svg='x'>", "image/svg+xml"),
        (b"<svg onload=alert(1)>", "image/svg+xml"),
        (b"<?xml version='1.0'?><feed>", "text/xml; charset=utf-8"),
        (b"plain words", TEXT),
        ("Łódź".encode() * 2000, TEXT),
        ("Łódź".encode("utf-16"), "application/octet-stream"),
        (b"a\0b", "application/octet-stream"),
        (b"\xffhello", "application/octet-stream"),
        (b"", "application/octet-stream"),
        (b"#!/bin/sh\n", TEXT),
        (b"\x7fELF\2", "application/octet-stream"),
    ],
)
def test_a_type_is_what_the_content_is(head, media_type):
    for declared in ("", "image/png", "text/html", "application/x-javascript"):
        assert sniff(head[:HEAD_BYTES], declared) == media_type


@pytest.mark.parametrize(
    ("declared", "media_type"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("TEXT/CSS; charset=latin-1", "text/css; charset=utf-8"),
        ("application/json", "application/json"),
        ("text/javascript", TEXT),
        ("nonsense", TEXT),
    ],
)
def test_of_text_harmless_kinds_are_believed(declared, media_type):
    assert sniff(b"a,b,c", declared) == media_type
    assert sniff(b"<html>", declared) == HTML
    assert sniff(b"\0\1", declared) == "application/octet-stream"


@given(st.binary(max_size=HEAD_BYTES), st.text(max_size=40))
def test_nothing_makes_it_fail(head, declared):
    assert "/" in sniff(head, declared)


@pytest.mark.parametrize(
    ("media_type", "patterns", "found"),
    [
        ("image/png", ["image/*"], True),
        ("text/plain; charset=utf-8", ["text/plain"], True),
        ("image/png", ["IMAGE/PNG "], True),
        ("image/png", ["image/p*", "image", "*"], False),
        ("image/png", ["*/*"], True),
        ("image/png", [], False),
    ],
)
def test_patterns_are_types_or_whole_kinds(media_type, patterns, found):
    assert is_among(media_type, patterns) == found
