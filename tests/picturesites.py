"""A server that makes pictures on demand, beside a site of its own: how it is started and asked."""

from __future__ import annotations

import http.client
import io
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from click.testing import CliRunner
from PIL import Image

from assetserver.cli import main

LIMIT_S = 60.0
CHROMIUM = {"Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"}
SAFARI = {"Accept": "image/webp,image/png,image/*;q=0.8"}
OLD = {"Accept": "image/*"}

PLENTY = {"ASSETSERVER_IMAGES__PATIENCE_S": "10"}
"""The machine may be slow; what waiting too long does has tests of its own, where it is set to less."""


class Got:
    """An answer, with its fields by lower-case name."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.content = answer.read()
        self.fields = {name.lower(): value for name, value in answer.getheaders()}

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    def open(self) -> Image.Image:
        return Image.open(io.BytesIO(self.content))

    @property
    def is_late(self) -> bool:
        """Tell whether the picture is not made yet: this one stands in for it, or none does."""
        stands_in = (self.status, self["cache-control"]) == (200, "public, max-age=5")
        return stands_in or (self.status == 503 and b"urn:assetserver:problem:picture-late" in self.content)

    def problem(self) -> dict[str, Any]:
        assert self["content-type"] == "application/problem+json", self.content
        found: dict[str, Any] = json.loads(self.content)
        return found


class Site:
    """A server, and a site that it serves. Whoever ``is_patient`` asks again for a picture that is late."""

    def __init__(self, program: Any, url: str, folder: Path, *, is_patient: bool) -> None:
        self._is_patient = is_patient
        self.program = program
        self.url = url
        self.folder = folder

    def get(self, path: str, fields: dict[str, str] | None = None, *, method: str = "GET", body: bytes | None = None) -> Got:
        deadline_s = time.monotonic() + LIMIT_S
        while (got := self._ask(path, fields, method, body)).is_late and self._is_patient:
            assert time.monotonic() < deadline_s, f"{path} is not made within {LIMIT_S} s"
        return got

    def _ask(self, path: str, fields: dict[str, str] | None, method: str, body: bytes | None) -> Got:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=LIMIT_S)
        try:
            connection.putrequest(method, path, skip_host="Host" in (fields or {}), skip_accept_encoding=True)
            for name, value in (fields or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return Got(connection.getresponse())
        finally:
            connection.close()

    def upload(self, token: str, name: str, content: bytes, collection: str = "default") -> str:
        """Return the path of a new upload."""
        fields = {"Authorization": f"Bearer {token}"}
        got = self.get(f"/uploads?name={name}&collection={collection}", fields, method="POST", body=content)
        assert got.status == 201, got.content
        return str(json.loads(got.content)["uploads"][0]["url"])

    def list_jobs(self, kind: str = "picture") -> list[tuple[Any, ...]]:
        """Return state and attempts of each job of a kind."""
        path = self.folder / "data" / "records.sqlite3"
        if not path.exists():
            return []
        with sqlite3.connect(path, timeout=LIMIT_S) as records:
            return records.execute("SELECT state, attempts FROM jobs WHERE kind = ? ORDER BY id", (kind,)).fetchall()

    def cache(self) -> Path:
        return self.folder / "data" / "cache" / "images"


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.02)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def make_photo(width: int = 1600, height: int = 1200, blue: int = 90) -> Image.Image:
    """A picture that compresses like a photograph: noise on a gradient."""
    noise = Image.effect_noise((width, height), 40)
    return Image.merge(
        "RGB", (noise, Image.linear_gradient("L").resize((width, height)), Image.new("L", (width, height), blue))
    )


def call(folder: Path, *words: object, env: dict[str, str] | None = None) -> str:
    """Run a command on the data of ``folder``; return what it prints."""
    kept: dict[str, str | None] = {name: None for name in os.environ if name.startswith("ASSETSERVER_")}
    env = {"ASSETSERVER_IMAGES__ON_DEMAND": "true", "ASSETSERVER_DATA": str(folder / "data"), **(env or {})}
    result = CliRunner().invoke(main, list(map(str, words)), env={**kept, **env})
    assert result.exit_code == 0, result.output
    return result.stdout


def make_token(folder: Path) -> str:
    return call(folder, "token", "create", "--scope", "upload").strip()


def start_site(start_program: Any, folder: Path, photo: bytes, env: dict[str, str]) -> Site:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "index.html").write_text("<!doctype html><title>A page</title>")
    (site / "photo.jpg").write_bytes(photo)
    (site / "text.jpg").write_text("This is a text.")
    (site / "image").mkdir(exist_ok=True)
    (site / "image" / "own.txt").write_text("The site's own.")
    call(folder, "publish", site, "--prod")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    more = {"PYTHONUNBUFFERED": "1", "ASSETSERVER_IMAGES__ON_DEMAND": "true", **PLENTY, **env}
    command = [sys.executable, "-m", "assetserver", "serve", "--port", "0"]
    program = start_program("assetserver", command, env={**kept, **more}, cwd=folder)
    is_patient = more.items() >= PLENTY.items()
    return Site(program, program.wait_log(r"on (http://127\.0\.0\.1:[1-9]\d*)")[1], folder, is_patient=is_patient)


def locate(url: str) -> str:
    """Return the path and query of a URL."""
    return urlsplit(url)._replace(scheme="", netloc="").geturl()
