"""The files that the origin benchmark asks for: written, and published with the program as people run it.

``main`` a few files of known sizes · ``zipf`` 10,000 of realistic sizes · ``files-N`` N of 1 KiB · ``cold`` large ones to be
read from disk · ``changing`` one that stays and many that change · ``deltas`` a style sheet of two releases. Random bytes
unless said otherwise: nothing is compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
from itertools import accumulate

import brotli
from machine import KIB, MIB, BenchError, clean_environment, say
from peers import Site

MAIN_SIZES = {f"{size}k.bin": size * KIB for size in (1, 16, 100)} | {f"{size}m.bin": size * MIB for size in (1, 32, 64)}
CSS = "text/16k.css"
TRACE_FILES, TRACE = 10_000, 50_000
HOT_FILES = 10
COLD_FILES, COLD_BYTES = 32, 4 * MIB
"""Larger than what assetserver holds in memory by default."""
CHANGING = 300
DISTINCT = 100_000
SHARED = 10_000
"""Of more than 100,000 files, all but the first so many are hard links to these: names are what is asked about, and 4 GB are
spared. These are published, and ``multiply`` makes the release of all, for no folder of more than 200,000 is published."""


def path_of(number: int) -> str:
    """Return the path of one of many files."""
    return f"{number // 1000}/{number}.bin"


def hot_paths(count: int) -> tuple[str, ...]:
    """Return the paths of a few files among ``count``, far apart."""
    return tuple(path_of(number * count // HOT_FILES) for number in range(HOT_FILES))


def all_paths(count: int) -> tuple[str, ...]:
    """Return some of the paths of ``count`` files, in an order that holds no pattern."""
    numbers = random.Random(1).sample(range(count), min(count, TRACE))  # noqa: S311 - the same every time
    return tuple(map(path_of, numbers))


def make_trace() -> tuple[str, ...]:
    """Return paths as people ask for them: the n-th most liked file with a probability of about n to the power of -0.9."""
    pick = random.Random(2)  # noqa: S311 - the same every time
    weights = [*accumulate((rank + 1) ** -0.9 for rank in range(TRACE_FILES))]
    order = pick.sample(range(TRACE_FILES), TRACE_FILES)
    return tuple(path_of(number) for number in pick.choices(order, cum_weights=weights, k=TRACE))


def name_style(content: bytes) -> str:
    """Return the path of a style sheet, which its content proves."""
    return f"assets/style.{hashlib.sha256(content).hexdigest()[:12]}.css"


def make_site(name: str, folder: str) -> Site:
    """Write the files of a site and publish them. Raises ``BenchError`` if that does not work."""
    say(f"making and publishing the files of {name}")
    site = Site(os.path.join(folder, name), os.path.join(folder, f"{name}-data"))
    os.mkdir(site.root)
    if name == "main":
        for file, size in MAIN_SIZES.items():
            _write_random(os.path.join(site.root, file), size)
        _write(os.path.join(site.root, CSS), make_css(16 * KIB))
    elif name == "zipf":
        pick = random.Random(3)  # noqa: S311 - the same every time
        _write_many(site.root, [min(2 * MIB, int(pick.lognormvariate(9, 1.3)) + 1) for _ in range(TRACE_FILES)])
    elif name == "cold":
        _write_random(os.path.join(site.root, "1k.bin"), KIB)
        for number in range(COLD_FILES):
            _write_random(os.path.join(site.root, path_of(number)), COLD_BYTES)
    elif name == "changing":
        _write_random(os.path.join(site.root, "1k.bin"), KIB)
        change_files(site.root, 0, CHANGING)
    elif name == "deltas":
        _write(os.path.join(site.root, name_style(OLD_STYLE)), OLD_STYLE)
        publish(site)
        os.unlink(os.path.join(site.root, name_style(OLD_STYLE)))
        _write(os.path.join(site.root, name_style(NEW_STYLE)), NEW_STYLE)
    else:
        count = int(name.rpartition("-")[2])
        _write_many(site.root, [KIB] * (count if count <= DISTINCT else SHARED))
    publish(site)
    if name.startswith("files-") and count > DISTINCT:
        _multiply(site, count)
    os.sync()  # what is written back later would disturb what is measured
    if name == "main":
        _write_sidecars(os.path.join(site.root, CSS))
    return site


def publish(site: Site) -> None:
    """Publish a site's folder. Raises ``BenchError`` if that does not work."""
    _run(site, "-m", "assetserver", "publish", site.root, "--prod", "--data", site.data)


def _run(site: Site, *arguments: str) -> None:
    command = (sys.executable, *arguments)
    folder = os.path.dirname(site.root)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=clean_environment())
    if done.returncode:
        raise BenchError(f"{site.root} cannot be published: {done.stderr}")


def change_files(root: str, version: int, count: int) -> None:
    """Write ``count`` pages anew, others in each version."""
    for number in range(count):
        text = make_css(8 * KIB, mark=f"{version}/{number}/")
        _write(os.path.join(root, "pages", f"{number}.css"), text)


def cold_files(site: Site) -> list[tuple[str, list[str]]]:
    """Return each large file of ``cold``: its path, and where its bytes lie: in the folder and in the release."""
    found = []
    for number in range(COLD_FILES):
        full = os.path.join(site.root, path_of(number))
        with open(full, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append((path_of(number), [full, os.path.join(site.data, "blobs", digest[:2], digest)]))
    return found


def make_css(length: int, mark: str = "") -> bytes:
    """Return a style sheet that compresses about as well as those people write, the same every time for the same ``mark``."""
    rules = []
    for number in range(length // 64):
        code = hashlib.sha256(f"{mark}{number}".encode()).hexdigest()
        rules.append(
            f".block-{code[:6]} > a {{\n  color: #{code[6:12]};\n  margin: {number % 9}px auto;\n  display: flex;\n}}\n"
        )
    return "".join(rules).encode()[:length]


OLD_STYLE = make_css(16 * KIB)
NEW_STYLE = OLD_STYLE.replace(b"margin: 0px", b"margin: 0.5em", 9)


def _write_many(root: str, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        _write_random(os.path.join(root, path_of(number)), size)


def _multiply(site: Site, count: int) -> None:
    """Give the files of a site ``count`` names, in the folder and in the release. Raises ``BenchError`` if it cannot be."""
    for number in range(SHARED, count):
        path = os.path.join(site.root, path_of(number))
        if number % 1000 == 0:
            os.mkdir(os.path.dirname(path))
        os.link(os.path.join(site.root, path_of(number % SHARED)), path)
    _run(site, os.path.join(os.path.dirname(os.path.abspath(__file__)), "multiply.py"), site.data, str(count))


def _write_random(path: str, size: int) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.writelines(os.urandom(min(MIB, size - start)) for start in range(0, size, MIB))


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def _write_sidecars(path: str) -> None:
    """Compress a file for nginx, after the release was made: as well as assetserver does, for the same bytes."""
    with open(path, "rb") as file:
        content = file.read()
    _write(f"{path}.gz", gzip.compress(content, 9))
    _write(f"{path}.br", brotli.compress(content))
