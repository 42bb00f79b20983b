"""The guides: their settings are accepted, their commands exist, nginx takes its configuration and serves through it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from assetserver.cli import main
from assetserver.settings import describe_settings, load_settings

DOCS = Path(__file__).parent.parent / "docs"
GUIDES = sorted(path for path in DOCS.glob("*.md") if path.name != "settings.md")


def blocks(guide: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text(), re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_settings_of_a_guide_are_accepted(guide, tmp_path):
    for block in blocks(guide, "toml"):
        (tmp_path / "assetserver.toml").write_text(block)
        load_settings(tmp_path / "assetserver.toml")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_names_of_settings_in_a_guide_exist(guide):
    known = {row.name.replace("[]", "") for row in describe_settings()}
    tables = {name.split(".")[0] for name in known}
    for setting in re.findall(r"`([a-z]+\.[a-z_]+)(?: = [^`]*)?`", guide.read_text()):
        assert setting in known or setting.split(".")[0] not in tables


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_commands_of_a_guide_can_be_typed(guide):
    text = guide.read_text()
    lines = [line for block in blocks(guide, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(assetserver [^`]+)`", text)
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[:1] == ["assetserver"] and words[1] != "serve":  # it would start
            parse(main, words[1:])


def parse(group: click.Group, words: list[str]) -> None:
    """Take words as the command line does, without doing anything."""
    context = click.Context(group, info_name="assetserver")
    name, command, rest = group.resolve_command(context, words)
    if isinstance(command, click.Group):
        parse(command, rest)
        return
    assert command is not None
    command.make_context(name, rest, parent=context, resilient_parsing=not rest)  # one that is only named wants no arguments


@pytest.mark.parametrize("guide", [*GUIDES, DOCS.parent / "README.md"], ids=lambda guide: guide.stem)
def test_files_that_a_guide_names_are_there(guide):
    for target in re.findall(r"\]\(([^)#:]+)\)", guide.read_text()):
        assert (guide.parent / target).exists(), target


def test_nginx_serves_as_its_guide_says(require, start_program, free_port, tmp_path, fetch):
    program = require("nginx")
    [block] = blocks(DOCS / "behind-nginx.md", "nginx")
    socket, port = tmp_path / "http.sock", free_port()
    block = block.replace("/run/assetserver/http.sock", str(socket)).replace("listen 443 ssl http2", f"listen 127.0.0.1:{port}")
    block = re.sub(r"\n *ssl_certificate[^;]*;", "", block)
    user = "user root;" if os.geteuid() == 0 else ""
    paths = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(
        f"daemon off;\n{user}\npid {tmp_path}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{block}}}\n"
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<!doctype html><title>x</title>" + "<p>through nginx</p>" * 200)
    (site / "large.bin").write_bytes(os.urandom(1 << 20))
    command = [sys.executable, "-m", "assetserver", "serve", site, "--uds", socket]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    server = start_program("assetserver", command, env={**environment, "PYTHONUNBUFFERED": "1"}, cwd=tmp_path)
    server.wait_log("unix:")
    subprocess.run(
        [program, "-t", "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], check=True, capture_output=True
    )
    start_program("nginx", [program, "-e", "stderr", "-p", tmp_path, "-c", tmp_path / "nginx.conf"]).wait_port(port)
    base = f"http://127.0.0.1:{port}"
    for _ in range(2):
        page = fetch(base + "/", accept_encoding="gzip")
        assert (page.status, page["content-encoding"], page["server"][:5]) == (200, "gzip", "nginx")
        assert fetch(base + "/", accept_encoding="gzip", if_none_match=page["etag"]).status == 304
        assert fetch(base + "/large.bin").content == (site / "large.bin").read_bytes()
        assert fetch(base + "/large.bin", range="bytes=10-19").content == (site / "large.bin").read_bytes()[10:20]
