import mimetypes

import pytest

from assetserver.semantics.mediatypes import DEFAULT, has_known_extension, is_compressible, media_type_of


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("assets/APP.JS", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("main.ts", "text/plain; charset=utf-8"),
        ("data.json", "application/json"),
        ("app.js.map", "application/json"),
        ("app.wasm", "application/wasm"),
        ("site.webmanifest", "application/manifest+json"),
        ("logo.svg", "image/svg+xml"),
        ("inter.woff2", "font/woff2"),
        ("photo.webp", "image/webp"),
        ("photo.avif", "image/avif"),
        ("favicon.ico", "image/vnd.microsoft.icon"),
        ("clip.mp4", "video/mp4"),
        ("LICENSE", "text/plain; charset=utf-8"),
        ("docs/README", "text/plain; charset=utf-8"),
    ],
)
def test_name_has_its_registered_type_and_text_a_charset(name, media_type):
    assert media_type_of(name) == media_type


@pytest.mark.parametrize("name", ["", "Makefile", "a.unknown", ".js", ".env", "dir.js/file", "name.", "docs/"])
def test_name_that_says_nothing_is_a_stream_of_bytes(name):
    assert media_type_of(name) == DEFAULT


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("x.js.gz", "application/gzip"), ("x.js.zst", "application/zstd"), ("x.js.br", DEFAULT), ("x.tar.gz", "application/gzip")],
)
def test_archive_is_not_the_type_of_what_it_holds(name, media_type):
    assert media_type_of(name) == media_type


def test_type_does_not_depend_on_the_table_of_the_machine(monkeypatch):
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: ("text/vnd.trolltech.linguist", None))

    assert media_type_of("main.ts") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("name", ["a.js", "docs/a.PNG", "x.js.gz"])
def test_known_extension_asks_for_a_file(name):
    assert has_known_extension(name)


@pytest.mark.parametrize("name", ["about", "v1.2", "user.name", ".js", "a.js/", "a.js/b", ""])
def test_other_names_may_be_pages(name):
    assert not has_known_extension(name)


@pytest.mark.parametrize("name", ["a.html", "a.js", "a.json", "a.svg", "a.wasm", "a.ttf", "a.ico", "a.tar", "a.m3u8", "a.mpd"])
def test_text_and_raw_formats_are_worth_compressing(name):
    assert is_compressible(media_type_of(name))


@pytest.mark.parametrize("name", ["a.png", "a.woff2", "a.mp4", "a.zip", "a.gz", "a.pdf", "a.bin", "unknown"])
def test_compressed_formats_are_not(name):
    assert not is_compressible(media_type_of(name))
