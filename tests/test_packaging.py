"""What is shipped works where it lands: the wheel in an environment of its own, the Debian package, the manual, completion."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from assetserver.cli import main
from assetserver.settings import describe_settings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built of this source, with nothing from the network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    left_out = shutil.ignore_patterns(".*", "*.egg-info", "node_modules", "tests", "benchmarks", "data", "__pycache__")
    shutil.copytree(ROOT, source, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", folder, source], check=True, capture_output=True, timeout=200)
    [found] = folder.glob("assetserver-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The program in a fresh environment; what it needs of others is that of the tests."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=200)
    command = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, wheel], check=True, capture_output=True, timeout=200)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/assetserver"


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSETSERVER_", "PYTHON"))}
    return {**kept, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def test_the_wheel_holds_all_that_is_no_python_too(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "assetserver").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in names


def test_the_installed_program_publishes_and_serves(installed, environment, start_program, free_port, fetch, tmp_path):
    def run(*words):
        done = subprocess.run(
            [installed, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [installed.parent / "python", "-c", "import assetserver; print(assetserver.__file__)"]
    shown = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=True)
    assert Path(shown.stdout.strip()).is_relative_to(installed.parent.parent)
    assert run("version").startswith("assetserver ")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/index.html").write_text("<!doctype html><title>x</title><p>from a wheel")
    run("publish", "dist", "--prod")
    port = free_port()
    program = start_program("assetserver", [installed, "serve", "--port", port], env=environment, cwd=tmp_path)
    program.wait_port(port)
    assert b"from a wheel" in fetch(f"http://127.0.0.1:{port}/").content
    assert fetch(f"http://127.0.0.1:{port}/-/console/").status == 200
    assert "Traceback" not in program.read_log()


def test_the_debian_package_holds_what_it_should(wheel, require, tmp_path):
    require("dpkg-deb")
    environment = {
        **os.environ,
        "WHEEL": str(wheel),
        "PYTHON": os.path.realpath(sys.executable),
        "PIP": f"{sys.executable} -m pip",
        "PIP_FLAGS": "--no-deps --no-index",
        "DEB_PYTHONPATH": sysconfig.get_path("purelib"),
    }
    command = [ROOT / "systemd/build-deb", tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    package = done.stdout.strip()
    told = subprocess.run(["dpkg-deb", "--info", package], capture_output=True, text=True, check=True).stdout
    assert "Package: assetserver" in told
    assert f"Depends: python3 (>= 3.{sys.version_info.minor}), python3 (<< 3.{sys.version_info.minor + 1}~)" in told
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path / "root"], check=True)
    root = tmp_path / "root"
    assert os.readlink(root / "usr/bin/assetserver") == "/opt/assetserver/bin/assetserver"
    assert (root / "opt/assetserver/bin/assetserver").read_text().startswith("#!/opt/assetserver/bin/python")
    assert "\nExecStart=/opt/assetserver/bin/" in (root / "usr/lib/systemd/system/assetserver.service").read_text()
    assert (root / "usr/lib/sysusers.d/assetserver.conf").is_file()
    assert (root / "etc/assetserver/assetserver.toml").read_text().startswith("# Settings of assetserver")
    assert gzip.decompress((root / "usr/share/man/man1/assetserver.1.gz").read_bytes()).decode() == page("1")
    for path in root.rglob("*"):
        assert path.is_symlink() or not path.is_file() or str(tmp_path).encode() not in path.read_bytes(), path
        assert path.name not in {"__pycache__", "direct_url.json"}


def page(section):
    result = CliRunner().invoke(main, ["manual", section])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("section", ["1", "5"])
def test_the_manual_is_sound(require, tmp_path, section):
    (tmp_path / "page").write_text(page(section))
    lint = [require("mandoc"), "-T", "lint", "-W", "warning", tmp_path / "page"]
    done = subprocess.run(lint, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    shown = subprocess.run(["mandoc", "-T", "ascii", tmp_path / "page"], capture_output=True, text=True, timeout=99, check=True)
    text = re.sub(".\b", "", shown.stdout)  # bold is written twice
    if section == "1":
        assert {name for name in main.commands if name not in text} == set()
    else:
        assert {row.name for row in describe_settings() if row.name.split(".")[-1] not in text} == set()


def test_the_shell_completes_commands(installed, environment, tmp_path):
    script = subprocess.run([installed, "completion", "bash"], env=environment, capture_output=True, text=True, check=True)
    assert "complete -o nosort -F" in script.stdout
    asked = {**environment, "_ASSETSERVER_COMPLETE": "bash_complete", "COMP_WORDS": "assetserver pu", "COMP_CWORD": "1"}
    shown = subprocess.run([installed], env=asked, capture_output=True, text=True, timeout=200, check=False)
    assert shown.stdout.split() == ["plain,publish", "plain,purge"]
    for shell in ("zsh", "fish"):
        assert "_ASSETSERVER_COMPLETE" in CliRunner().invoke(main, ["completion", shell]).stdout
