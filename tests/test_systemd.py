"""The unit is sound, and safer than what is usual."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from assetserver.data import open_library
from assetserver.settings import Settings

UNIT = Path(__file__).parent.parent / "systemd/assetserver.service"


@pytest.fixture
def analyze(require: Callable[[str], str]) -> str:
    return require("systemd-analyze")


def test_the_unit_is_accepted_by_systemd(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    program = shutil.which("true")
    unit.write_text(UNIT.read_text().replace("/opt/assetserver/bin/assetserver", str(program)))
    result = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_releases_have_a_folder_that_the_service_may_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\nDynamicUser=yes\n" in UNIT.read_text()  # without a folder of its own it could write nowhere
    assert "\nStateDirectory=assetserver\n" in UNIT.read_text()
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/assetserver")
    assert open_library(Settings()).folder == "/var/lib/assetserver"


def test_the_unit_exposes_little(analyze: str) -> None:
    command = [analyze, "security", "--offline=true", "--threshold=15", str(UNIT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-400:]
