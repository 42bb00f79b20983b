"""What does a returning visitor download of a new version, and what does that take to make?

Neighbouring versions of npm packages, as their registry has them: each new file compressed as ``publish`` does it, and as a
delta (``dcz``, RFC 9842) against the old one, as ``publish`` and as a server on demand make it. All deltas are decoded again.

Prints Markdown on stdout, progress on stderr, and writes JSON; ``--folder`` keeps packages. Exit codes: 0 done, 1 a delta is
wrong, 69 a package cannot be had.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median

from machine import EX_INVALID, EX_UNAVAILABLE, BenchError, describe_machine, say
from tables import format_deltas
from values import read_arguments

from assetserver.semantics.representation import ContentCoding
from assetserver.storage.codecs import Effort, compress, compress_against, decode_against

FETCH_LIMIT_S = 300
LEVELS = {Effort.QUICK: "dcz-9", Effort.THOROUGH: "dcz-19"}
CODINGS = {ContentCoding.GZIP: "gzip-9", ContentCoding.BR: "br-11", ContentCoding.ZSTD: "zstd-19"}


class UnavailableError(Exception):
    """A package cannot be had."""


@dataclass(frozen=True)
class Pair:
    """A file of a package, and the versions: ``new_path``, where it lies in the newer one, if it moved."""

    package: str
    old: str
    new: str
    path: str
    new_path: str = ""


QUICK = (Pair("jquery", "3.7.0", "3.7.1", "dist/jquery.min.js"),)
PAIRS = (
    *QUICK,
    Pair("lodash", "4.17.20", "4.17.21", "lodash.min.js"),
    Pair("react-dom", "18.2.0", "18.3.1", "umd/react-dom.production.min.js"),
    Pair("vue", "3.4.20", "3.4.21", "dist/vue.global.prod.js"),
    Pair("vue", "3.4.21", "3.5.0", "dist/vue.global.prod.js"),
    Pair("bootstrap", "5.3.2", "5.3.3", "dist/css/bootstrap.min.css"),
    Pair("bootstrap", "5.3.2", "5.3.3", "dist/js/bootstrap.bundle.min.js"),
    Pair("three", "0.160.0", "0.161.0", "build/three.module.min.js"),
    Pair("three", "0.170.0", "0.171.0", "build/three.module.min.js", "build/three.core.min.js"),
    Pair("echarts", "5.5.0", "5.5.1", "dist/echarts.min.js"),
    Pair("swagger-ui-dist", "5.17.13", "5.17.14", "swagger-ui-bundle.js"),
    Pair("@sqlite.org/sqlite-wasm", "3.46.0-build2", "3.46.1-build1", "sqlite-wasm/jswasm/sqlite3.wasm"),
    Pair("pdfjs-dist", "4.5.136", "4.6.82", "build/pdf.worker.min.mjs"),
    Pair("mermaid", "11.3.0", "11.4.0", "dist/mermaid.min.js"),
    Pair("monaco-editor", "0.50.0", "0.51.0", "min/vs/editor/editor.main.js"),
)


@dataclass
class Measured:
    """A new file: its length, and by coding what it comes to in bytes, and how much processor time that took in ms."""

    file: str
    old: str
    new: str
    raw: int
    bytes: dict[str, int] = field(default_factory=dict)
    cpu_ms: dict[str, float] = field(default_factory=dict)


def fetch(package: str, version: str, folder: str) -> Path:
    """Return the folder of a package, fetched if it is not in ``folder``. Raises ``UnavailableError``."""
    place = Path(folder) / f"{package.replace('/', '_')}@{version}"
    if not (place / "package").is_dir():
        npm = shutil.which("npm")
        if npm is None:
            raise UnavailableError("npm is not there, which fetches the packages (Debian package npm)")
        say(f"fetching {package} {version}")
        place.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", f"{package}@{version}", "--silent"]
        try:
            subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=FETCH_LIMIT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"{package} {version} cannot be fetched: {error}") from error
        (archive,) = place.glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(place, filter="data")
    return place / "package"


def measure(pair: Pair, folder: str) -> Measured:
    """Compress the newer file in all ways. Raises ``BenchError`` if a delta does not give it again."""
    old = (fetch(pair.package, pair.old, folder) / pair.path).read_bytes()
    new = (fetch(pair.package, pair.new, folder) / (pair.new_path or pair.path)).read_bytes()
    found = Measured((pair.new_path or pair.path).rpartition("/")[2], pair.old, pair.new, len(new))
    say(f"{pair.package} {pair.old} → {pair.new}: {found.file}")

    def note(name: str, make: Callable[[], bytes]) -> bytes:
        begun_s = time.process_time()
        content = make()
        found.cpu_ms[name] = round(1000 * (time.process_time() - begun_s), 1)
        found.bytes[name] = len(content)
        return content

    for coding, name in CODINGS.items():
        note(name, lambda coding=coding: b"".join(compress(coding, [new], len(new), Effort.THOROUGH)))  # type: ignore[misc]
    for effort, name in LEVELS.items():
        delta = note(name, lambda effort=effort: compress_against(old, sha256(old).digest(), new, effort))  # type: ignore[misc]
        if b"".join(decode_against(old, delta)) != new:
            raise BenchError(f"{name} of {found.file} gives another file")
    return found


def main() -> int:
    """Measure all pairs; return the exit code."""
    arguments = read_arguments("deltas", __doc__ or "")
    with tempfile.TemporaryDirectory(prefix="bench_deltas-") as temporary:
        try:
            found = [measure(pair, arguments.folder or temporary) for pair in (QUICK if arguments.quick else PAIRS)]
        except UnavailableError as error:
            say(str(error))
            return EX_UNAVAILABLE
        except BenchError as error:
            say(str(error))
            return EX_INVALID
    spared = [1 - one.bytes["dcz-19"] / one.bytes["br-11"] for one in found]
    machine = {key: value for key, value in describe_machine().items() if key != "wrk"}
    results = {"machine": machine, "median_spared": round(median(spared), 4), "files": [asdict(one) for one in found]}
    print(*format_deltas(results), sep="\n")
    os.makedirs(os.path.dirname(os.path.abspath(arguments.json)), exist_ok=True)
    with open(arguments.json, "w", encoding="utf-8") as file:
        json.dump(results, file, indent=2)
        file.write("\n")
    say(f"numbers in {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
