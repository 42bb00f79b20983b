"""A real server with its workers, in a folder of its own, and somebody who uploads pictures to it; pictures to upload."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from ..commands import run_command

LIMIT_S = 60.0
SECRETS = (b"secret comment", b"secret artist", b"secret xmp", b"secret text")
_GPS, _ARTIST, _LATITUDE = 0x8825, 0x013B, 2


def draw(width: int = 700, height: int = 500, seed: int = 0) -> Image.Image:
    """A picture with edges, gradients and a colour that ``seed`` decides."""
    image = Image.merge(
        "RGB", [Image.linear_gradient("L").resize((width, height)), *[Image.new("L", (width, height), seed)] * 2]
    )
    image.paste(Image.new("RGB", (width // 3, height // 3), (255 - seed, 40, 40)), (width // 3, height // 3))
    return image


def write(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_with_secrets(image: Image.Image, kind: str) -> bytes:
    """The file says where it was taken and by whom, in every way that the format has."""
    exif = Image.Exif()
    exif[_ARTIST] = SECRETS[1].decode()
    exif.get_ifd(_GPS)[_LATITUDE] = (48.0, 12.0, 34.5)
    options: dict[str, object] = {
        "exif": exif.tobytes(),
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    }
    if kind == "JPEG":
        options |= {"comment": SECRETS[0], "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRETS[2] + b"</x:xmpmeta>"}
    elif kind == "WEBP":
        options["xmp"] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + SECRETS[2] + b"</x:xmpmeta>"
    elif kind == "PNG":
        info = PngInfo()
        info.add_text("Comment", SECRETS[3].decode())
        options["pnginfo"] = info
    return write(image, kind, **options)


@dataclass
class Gallery:
    """A server in ``folder``, which can be killed and started again; who uploads has a token for all of it."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    url: str = ""
    token: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: object) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
        self._env = {**kept, "PYTHONUNBUFFERED": "1", **self.env}
        log = self.folder / "server.log"
        begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "assetserver", "serve", "--port", "0", *map(str, arguments)],
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=self.folder, env=self._env, start_new_session=True,
            )  # fmt: skip
        found = self.wait(lambda: [line for line in log.read_bytes()[begins:].decode().splitlines() if "on http://" in line])
        self.url = "http://" + found[0].partition("on http://")[2].split()[0]
        if not self.token:
            self.token = self.run("token", "create", "--scope", "admin").strip()

    def run(self, *words: str) -> str:
        """Run a command in the server's folder; return what it printed."""
        return run_command(*words, cwd=self.folder, env=self._env)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_S)

    def kill(self) -> None:
        """End all that runs, at once."""
        if self.process is not None:
            with suppress(ProcessLookupError):  # it has ended, and all its children
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(LIMIT_S)

    def list_processes(self) -> list[int]:
        """The server's master, its children and theirs: workers, fork servers, and who makes pictures right now."""
        assert self.process is not None
        found = [self.process.pid]
        for pid in found:
            try:
                found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
            except OSError:
                continue
        return found

    def ask(self, method: str, target: str, content: bytes | None = None, **fields: str) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=LIMIT_S)
        try:
            sent = {"Authorization": f"Bearer {self.token}"} | {name.replace("_", "-"): value for name, value in fields.items()}
            connection.request(method, target, content, sent)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def upload(self, content: bytes, name: str = "a.jpg", query: str = "") -> dict[str, Any]:
        status, _, body = self.ask("POST", f"/uploads?name={name}{query}", content)
        assert status == 201, body
        return json.loads(body)["uploads"][0]

    def look(self, upload_id: str) -> dict[str, Any]:
        status, _, body = self.ask("GET", f"/uploads/{upload_id}")
        assert status == 200, body
        return json.loads(body)

    def settled(self, upload_id: str) -> dict[str, Any]:
        """Return an upload once nothing more comes of it."""

        def look() -> dict[str, Any] | None:
            upload = self.look(upload_id)
            image = upload["image"]
            is_over = image is None or image["state"] == "failed" or (image["state"] == "ready" and not image["pending"])
            return upload if is_over else None

        return self.wait(look)

    def blobs(self) -> set[str]:
        return {path.name for path in (self.folder / "data/media/blobs").glob("??/*")}

    def read_log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    @staticmethod
    def wait(condition: Any) -> Any:
        deadline_s = time.monotonic() + LIMIT_S
        while not (found := condition()):
            assert time.monotonic() < deadline_s, f"it did not come true within {LIMIT_S} s"
            time.sleep(0.03)
        return found
