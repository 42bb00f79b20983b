"""The units are sound, and expose less than is usual. That they work is shown in ``service``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from assetserver.cli import main
from assetserver.data import open_library
from assetserver.settings import Settings

UNITS = Path(__file__).parent.parent / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
EXPOSURE = {"assetserver-purge.service": 11}
"""In tenths of a point; elsewhere 5."""
ANYWHERE = {
    "RootDirectoryOrRootImage": "the program lies where it was installed",
    "RestrictAddressFamilies_AF_UNIX": "notices to systemd, and the socket pair of every event loop",
    "DeviceAllow": "char-rtc, which ProtectClock itself allows; without that more counts",
}
"""What counts in every unit, and why it has to."""
_UMASK = {"UMask": "a proxy in the group may read files"}
REMAINING = {
    "assetserver-purge.service": {
        "PrivateNetwork": "it tells caches and webhooks",
        "RestrictAddressFamilies_AF_INET_INET6": "by TCP, and asks for names",
        "IPAddressDeny": "wherever the settings say; the addresses of CDNs change",
    },
    "assetserver.service": {
        **_UMASK,
        "SystemCallFilter_resources": "threads that hash go behind the one that serves: setpriority, sched_setscheduler",
    },
    "assetserver-worker.service": _UMASK,
    "assetserver-gc.service": _UMASK,
}


@pytest.fixture
def analyze(require: Callable[[str], str]) -> str:
    return require("systemd-analyze")


def install(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["systemd", "install", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_units_are_accepted_by_systemd(analyze: str, tmp_path: Path) -> None:
    """With the paths of this installation; each knows the others."""
    install("--root", tmp_path)
    folder = tmp_path / "usr/lib/systemd/system"
    files = sorted(folder.iterdir())
    assert {path.name for path in files} == {path.name for path in UNITS.iterdir() if "assetserver" in path.name}
    for name in ("network-online.target", "network.target"):
        (folder / name).write_text("[Unit]\nDescription=there\n")
    command = [analyze, "verify", "--man=no", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_unit_exposes_little(analyze: str, name: str) -> None:
    command = [analyze, "security", "--offline=true", f"--threshold={EXPOSURE.get(name, 5)}", str(UNITS / name)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-400:]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_unit_exposes_is_what_it_cannot_do_without(analyze: str, name: str) -> None:
    command = [analyze, "security", "--offline=true", "--json=short", str(UNITS / name)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    counted = {row["json_field"] for row in json.loads(result.stdout) if float(row["exposure"] or 0) > 0}
    assert counted <= ANYWHERE.keys() | REMAINING[name].keys()


def test_releases_have_a_folder_that_the_service_may_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SERVICES:
        assert "\nStateDirectory=assetserver\n" in (UNITS / name).read_text()
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/assetserver")
    assert open_library(Settings()).folder == "/var/lib/assetserver"


def test_units_get_the_user_and_the_place_that_are_named() -> None:
    told = install("--user", "www", "--prefix", "/srv/as/", "--dry-run")
    assert "ExecStart=/srv/as/bin/assetserver serve\n" in told
    assert "/opt/assetserver" not in told
    assert "User=www\nGroup=www\n" in told
    assert "u www - " in told
    assert "d /var/lib/assetserver 0750 www www -" in told
    assert "User=assetserver" not in told


def test_files_are_replaced_whole_and_next_steps_are_said(tmp_path: Path) -> None:
    place = tmp_path / "usr/lib/systemd/system/assetserver.socket"
    place.parent.mkdir(parents=True)
    place.write_text("old")
    paths = install("--root", tmp_path).splitlines()
    assert "/usr/lib/sysusers.d/assetserver.conf" in paths
    assert all((tmp_path / path.lstrip("/")).is_file() for path in paths)
    assert "ListenStream=" in place.read_text()
    assert list(place.parent.glob("*.new")) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--user", "not a user"), "--user is 'not a user'"), (("--prefix", "here"), "--prefix is 'here'"),
     (("--prefix", "/a b"), "--prefix is '/a b'"), (("--user", "root\nExecStart=/x"), "--user is")],
)  # fmt: skip
def test_what_would_spoil_a_unit_is_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(main, ["systemd", "install", "--root", str(tmp_path), *arguments])
    assert result.exit_code == 78
    assert says in result.stderr
    assert list(tmp_path.iterdir()) == []
