"""What the README and the manual show is what happens."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from assetserver.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_example_app_serves_assets_beside_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(compile(code_blocks("python")[0], "README.md", "exec"), names)  # noqa: S102 - our own README
    with TestClient(names["app"]) as client:
        assert client.get("/api/hello").json() == {"hello": "world"}
        assert client.get("/api/hello").headers["cache-control"] == "no-store"
        page = client.get("/static/")
        assert page.status_code == 200
        assert page.headers["etag"].startswith('"')
        assert names["app"].url_path_for("static", path="index.html") == "/static/index.html"


def test_the_example_settings_are_sound(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "static/v1").mkdir(parents=True)
    config = tmp_path / "assetserver.toml"
    config.write_text(code_blocks("toml")[0])
    result = CliRunner().invoke(main, ["check", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert tomllib.loads(config.read_text())["server"]["port"] == 9000


def test_the_manual_lists_every_setting_as_it_is() -> None:
    result = CliRunner().invoke(main, ["check", "--list"])
    assert (ROOT / "docs/settings.md").read_text() == result.output, "run: assetserver check --list > docs/settings.md"


def test_files_that_the_readme_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
