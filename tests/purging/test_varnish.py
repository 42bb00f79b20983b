"""A real Varnish with the VCL of the documentation: it shows the old release until its pages are purged."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from ..commands import run_command

GUIDE = Path(__file__).parents[2] / "docs/behind-varnish.md"
CONFIG = """
[server]
port = {port}
[data]
path = "{data}"
[uploads]
enabled = false
[jobs]
workers = 0
[cdn]
profile = "varnish"
[[cache]]
match = "docs/*.html"
browser = "no-cache"
cdn = "max-age=31536000"
tags = ["docs"]
[[cache]]
match = "*.html"
browser = "no-cache"
cdn = "max-age=31536000"
tags = ["pages"]
"""
PURGE = """
[[purge]]
name = "edge"
service = "varnish"
url = "{url}"
origins = ["{url}"]
delay_s = 0
"""
UPLOADS = """
[images]
enabled = false
on_demand = true
widths = [16]
[[cache]]
match = "media/by-name/**"
browser = "no-cache"
cdn = "max-age=31536000"
"""
PAGES = ("/", "/about.html", "/docs/", "/docs/more.html")


class Site:
    """A data folder, its configurations with and without caches in front, and who serves it."""

    def __init__(self, folder: Path, port: int, edge: str, more: str = "") -> None:
        self.folder = folder
        self.plain = folder / "plain.toml"
        text = CONFIG.format(port=port, data=folder / "data")
        self.plain.write_text(text.replace("[uploads]\nenabled = false\n", more) if more else text)
        self.config = folder / "assetserver.toml"
        self.config.write_text(self.plain.read_text() + PURGE.format(url=edge))

    def configure(self, more: str) -> None:
        self.config.write_text(self.config.read_text() + more)

    def publish(self, text: str, config: Path | None = None) -> None:
        site = self.folder / "site"
        for path in ("index.html", "about.html", "docs/index.html", "docs/more.html"):
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(f"<!doctype html><title>{path}</title><p>{text}")
        self.run("publish", site, "--prod", "--config", config or self.config)

    def run(self, *words: object) -> str:
        return run_command(*words, cwd=self.folder)


@pytest.fixture
def edge(require, missing, start_program, free_port, tmp_path, request):
    """A site, the URL of the server, that of the Varnish in front, and what starts a worker; without uploads, if not told."""
    program = require("varnishd")
    if not any(Path("/usr/lib").glob("*/varnish/vmods/libvmod_xkey.so")):
        missing("vmod_xkey (Debian package varnish-modules)")
    port, front = free_port(), free_port()
    vcl = re.search(r"```vcl\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    (tmp_path / "site.vcl").write_text(vcl.replace('.port = "8000"', f'.port = "{port}"'))
    site = Site(tmp_path, port, f"http://127.0.0.1:{front}", getattr(request, "param", ""))
    site.publish("one")
    serve = [sys.executable, "-m", "assetserver", "serve", "--config", site.config]
    start_program("assetserver", serve, cwd=tmp_path).wait_port(port)
    command = [program, "-F", "-j", "none", "-n", tmp_path / "work", "-a", f"127.0.0.1:{front}", "-f", tmp_path / "site.vcl"]
    start_program("varnishd", [*command, "-s", "malloc,32m", "-p", "http_gzip_support=off"]).wait_port(front)

    def start_worker(kinds="purge"):
        words = [sys.executable, "-m", "assetserver", "worker", "--kinds", kinds, "--config", site.config]
        return start_program("worker", words, cwd=tmp_path)

    return site, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{front}", start_worker


@pytest.fixture
def texts(fetch):
    """``texts(base)`` returns what the pages say."""

    def read(base):
        return [fetch(base + path).content.decode().rpartition("<p>")[2] for path in PAGES]

    return read


def test_changed_pages_are_new_once_they_are_purged(edge, texts, poll):
    site, server, front, start_worker = edge
    assert texts(front) == ["one"] * 4
    site.publish("two")
    poll(lambda: texts(server), lambda found: found == ["two"] * 4)
    assert texts(front) == ["one"] * 4  # nobody purged yet
    worker = start_worker()
    poll(lambda: texts(front), lambda found: found == ["two"] * 4)
    worker.stop()
    # While a worker runs, whoever activates: here by rolling back. It has to wait until the server shows what is to be kept.
    site.config.write_text(site.config.read_text().replace("delay_s = 0", "delay_s = 3"))
    worker = start_worker()
    site.run("rollback", "--config", site.config)
    poll(lambda: texts(front), lambda found: found == ["one"] * 4)
    worker.stop()
    assert '"dead"' not in site.run("jobs", "list", "--json", "--config", site.config)


def test_soft_purges_and_tags_reach_what_has_them(edge, texts, poll):
    site, server, front, start_worker = edge
    assert texts(front) == ["one"] * 4
    site.configure('soft = true\nby = "tag"\n')
    site.publish("two")
    poll(lambda: texts(server), lambda found: found == ["two"] * 4)
    start_worker()
    poll(lambda: texts(front), lambda found: found == ["two"] * 4)


def test_purges_by_hand_reach_paths_tags_and_all(edge, texts, poll):
    site, server, front, start_worker = edge
    assert texts(front) == ["one"] * 4
    site.publish("two", site.plain)  # which owes no purge
    poll(lambda: texts(server), lambda found: found == ["two"] * 4)
    start_worker()
    assert site.run("purge", "/about.html", "--config", site.config) == "1 purge queued for edge\n"
    poll(lambda: texts(front), lambda found: found == ["one", "two", "one", "one"])
    site.run("purge", "--tag", "docs", "--config", site.config)
    poll(lambda: texts(front), lambda found: found == ["one", "two", "two", "two"])
    site.run("purge", "--all", "--config", site.config)
    poll(lambda: texts(front), lambda found: found == ["two"] * 4)


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("edge", [UPLOADS], indirect=True)
def test_what_is_shown_by_name_is_new_with_its_pictures_once_it_is_purged(edge, fetch, poll):
    site, server, front, start_worker = edge
    token = site.run("token", "create", "--scope", "upload", "--config", site.config).strip()
    name, small = "/media/by-name/logo.png", "/image/width=16,format=png/media/by-name/logo.png"
    fields = {"Authorization": f"Bearer {token}"}

    def put(colour):
        return httpx.put(f"{server}/uploads/by-name/logo.png", content=png(colour), headers=fields, timeout=30)

    def shown():
        return fetch(front + name).content, colour_of(fetch(front + small).content)

    def colour_of(content):
        with Image.open(io.BytesIO(content)) as picture:
            return picture.size, picture.convert("RGB").getpixel((0, 0))

    start_worker("picture")
    assert put("red").status_code == 201
    red, blue = (255, 0, 0), (0, 0, 255)
    poll(shown, lambda found: found == (png("red"), ((16, 16), red)))
    second = put("blue")
    assert second.status_code in (200, 201)
    poll(lambda: fetch(server + name).content, lambda found: found == png("blue"))
    assert shown() == (png("red"), ((16, 16), red)), "nobody purged yet"
    start_worker()
    poll(shown, lambda found: found == (png("blue"), ((16, 16), blue)))
    upload = second.json()["uploads"][0]["id"]
    removed = httpx.delete(f"{server}/uploads/{upload}", headers=fields, timeout=30)
    assert removed.status_code == 204
    poll(lambda: (fetch(front + name).status, fetch(front + small).status), lambda found: found == (404, 404))
    assert '"dead"' not in site.run("jobs", "list", "--json", "--config", site.config)
