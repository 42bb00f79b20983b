"""The files of a well-known npm package, byte by byte: in every coding, by range, and revalidated."""

from __future__ import annotations

import http.client
from contextlib import closing
from urllib.parse import urlsplit

import pytest

PACKAGE = "bootstrap@5.3.3"
CODINGS = (None, "br", "gzip", "zstd")
SURELY_COMPRESSED_BYTES = 1024
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".map": "application/json",
}


@pytest.fixture(scope="session")
def dist(unpack_npm):
    """The unpacked ``dist`` folder of the package."""
    return unpack_npm(PACKAGE) / "dist"


@pytest.fixture(scope="module")
def ask(shared_origin, dist):
    """``ask(path, **fields)`` returns status, fields and content over one kept connection."""
    parts = urlsplit(shared_origin(dist, config="[compression]\npatience_s = 10.0\n"))
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)) as connection:

        def run(path, coding=None, **fields):
            connection.putrequest("GET", path, skip_accept_encoding=True)
            for name, value in ({"accept-encoding": coding} if coding else {}).items() | fields.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            response = connection.getresponse()
            return response.status, response.headers, response.read()

        yield run


def test_every_file_arrives_byte_by_byte_in_every_coding(ask, dist, decode):
    files = [file for file in sorted(dist.rglob("*")) if file.is_file()]
    assert len(files) > 40
    for file in files:
        path = "/" + file.relative_to(dist).as_posix()
        content = file.read_bytes()
        tags = {}
        for coding in CODINGS:
            status, fields, coded = ask(path, coding)
            used = fields["content-encoding"]
            assert status == 200, path
            assert used == coded_as(coding, content), (path, coding)
            assert decode(coded, used) == content, (path, coding)
            assert int(fields["content-length"]) == len(coded)
            assert fields["content-type"] == MEDIA_TYPES[file.suffix]
            assert fields["vary"].lower() == "accept-encoding"
            assert fields["cache-control"]
            tags[used] = fields["etag"]

            status, again, nothing = ask(path, coding, if_none_match=fields["etag"])
            assert (status, nothing) == (304, b"")
            for name in ("etag", "vary", "cache-control"):
                assert again[name] == fields[name]

            middle = len(coded) // 2
            status, part, piece = ask(path, coding, range=f"bytes={middle}-{middle + 99}", if_range=fields["etag"])
            assert status == 206
            assert piece == coded[middle : middle + 100]
            assert part["content-range"] == f"bytes {middle}-{middle + len(piece) - 1}/{len(coded)}"
            assert (part["etag"], part["content-encoding"]) == (fields["etag"], used)
        assert len(set(tags.values())) == len(tags) == len(CODINGS), path


def coded_as(coding, content):
    """Return the coding that a file of this size must come in."""
    assert len(content) > SURELY_COMPRESSED_BYTES  # every file of this package
    return coding
