"""What the conformance tests share: a small site of every kind of file, and the codings to undo."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
from PIL import Image

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAY_S = 86_400

_DECODERS: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes,
    "br": brotli.decompress,
    "gzip": gzip.decompress,
    "zstd": zstd.decompress,
}

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><link rel="stylesheet" href="/style.css"></head>
<body><h1>{title}</h1>
{lines}</body>
</html>
"""


@pytest.fixture(scope="session")
def decode() -> Callable[[bytes, str | None], bytes]:
    """``decode(content, coding)`` undoes a content coding; None is identity."""
    return lambda content, coding: _DECODERS[coding](content)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pages, style sheets, a picture, WebAssembly, an empty file, 11 bytes of text and 3 MiB; a day old."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "d").mkdir()
    lines = "".join(f"<p>Line {number} of the page, long enough to be worth compressing.</p>\n" for number in range(40))
    rules = "".join(f".c{number} {{ margin: {number}px; color: #{number:06x}; }}\n" for number in range(400))
    note = b"".join(b"%d bottles of beer on the wall, " % number for number in range(100, 0, -1))[:3000]
    files = {
        "index.html": _PAGE.format(title="Home", lines=lines).encode(),
        "d/index.html": _PAGE.format(title="Folder", lines=lines).encode(),
        "404.html": _PAGE.format(title="Nothing here", lines=lines).encode(),
        "style.css": rules.encode(),
        "other.css": rules.encode() + b"/* other */\n",
        "large.css": rules.encode() * 100,
        # A module whose only content is a custom section (id 0) of the name "note": length and name length in LEB128.
        "module.wasm": b"\0asm\1\0\0\0" + b"\0" + _leb128(5 + len(note)) + b"\4note" + note,
        "empty.txt": b"",
        "file.txt": b"hello world",
        "big.bin": b"".join(number.to_bytes(4, "big") for number in range(3 * 2**18)),
        ".env": b"SECRET=1\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    Image.effect_noise((64, 64), 60).save(folder / "picture.png")
    then = time.time() - DAY_S
    for file in folder.rglob("*"):
        os.utime(file, (then, then))
    return folder


def _leb128(number: int) -> bytes:
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _leb128(high) if high else bytes([low])


@pytest.fixture(scope="session")
def unpack_npm(require, missing, tmp_path_factory) -> Callable[[str], Path]:
    """``unpack_npm("name@version")`` fetches an npm package once and returns its folder; skips the test if that fails."""
    folders: dict[str, Path] = {}

    def unpack(package: str) -> Path:
        if package in folders:
            return folders[package]
        npm = require("npm")
        folder = tmp_path_factory.mktemp("npm")
        command = [npm, "pack", package, "--loglevel=error", "--fetch-timeout=20000", "--fetch-retries=1"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output = (error.stderr or b"").decode(errors="replace")
            missing(f"the npm package {package} ({' '.join(output.split())[:200] or error})")
        [archive] = folder.glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(folder, filter="data")
        folders[package] = folder / "package"
        return folders[package]

    return unpack


@pytest.fixture(scope="module")
def compressing(shared_origin, site):
    """Base URL of a server whose first answer already has its compressed form, however slow the machine."""
    return shared_origin(site, config="[compression]\npatience_s = 10.0\n")


@pytest.fixture(scope="module")
def plain(shared_origin, site):
    """Base URL of a server that compresses nothing."""
    return shared_origin(site, config="[compression]\nenabled = false\n")


@pytest.fixture(scope="module")
def short_lived(shared_origin, site):
    """As ``compressing``; style.css is fresh for one second, so that caches have to revalidate it."""
    return shared_origin(
        site, config='[compression]\npatience_s = 10.0\n[[cache]]\nmatch = "style.css"\nbrowser = "max-age=1"\n'
    )
