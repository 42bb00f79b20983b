"""A real systemd, booted for these tests: PID 1 of namespaces of its own, over a throw-away layer above this machine's root.

It sees the programs that are installed here, and nothing that it does is left when it ends. It ends with these tests, however
they do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
LIMIT_S = 60.0
PROGRAM = "/opt/assetserver/bin/assetserver"
LIBRARIES = "/opt/assetserver/lib:/opt/assetserver/site-packages"


class Machine:
    """A booted one. Commands run in it as root, but for what units say."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", "--target", str(pid), "--all", "--"]

    def start(self, *words: object, **options: object) -> subprocess.Popen[str]:
        """Start a command."""
        command = [*self._enter, *map(str, words)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def try_to(self, *words: object, given: str | None = None) -> tuple[int, str, str]:
        """Run a command; return its exit code and what it wrote."""
        process = self.start(*words, stdin=subprocess.PIPE)
        try:
            out, err = process.communicate(given, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            pytest.fail(f"{' '.join(map(str, words))} did not end within {LIMIT_S} s")
        return process.returncode, out, err

    def run(self, *words: object, given: str | None = None) -> str:
        """Run a command that must succeed; return what it wrote to stdout."""
        code, out, err = self.try_to(*words, given=given)
        assert code == 0, f"{' '.join(map(str, words))} ended with {code}:\n{out}\n{err}\n{self.read_journal()}"
        return out

    def as_user(self, *words: object) -> str:
        """Run a command of the program as the service's user, on its data."""
        return self.run("runuser", "-u", "assetserver", "--", "env", "ASSETSERVER_DATA=/var/lib/assetserver", PROGRAM, *words)

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file."""
        self.run("install", "-D", "-m", mode, "/dev/stdin", path, given=text)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    def read_journal(self, *units: str) -> str:
        """Return what units have logged, all of them if none is named."""
        self.try_to("journalctl", "--sync")
        chosen = [word for unit in units for word in ("--unit", unit)]
        return self.try_to("journalctl", "--no-pager", "--lines", "500", "--output", "cat", *chosen)[1]

    def wait_for(self, *words: object, what: str) -> None:
        """Run a command until it succeeds."""
        deadline_s = time.monotonic() + LIMIT_S
        while self.try_to(*words)[0] != 0:
            assert time.monotonic() < deadline_s, f"{what} did not happen:\n{self.read_journal()}"
            time.sleep(0.05)

    def wait_value(self, unit: str, name: str, value: str) -> None:
        """Wait until a unit has a property of this value."""
        deadline_s = time.monotonic() + LIMIT_S
        while (found := self.show(unit, name)) != value:
            assert time.monotonic() < deadline_s, f"{name} of {unit} is {found!r} and not {value!r}:\n{self.read_journal()}"
            time.sleep(0.05)

    def ask(self, path: str, *options: str) -> dict[str, object]:
        """Ask the server; return what curl knows of the answer, and its text."""
        form = '\\n{"status": %{http_code}, "type": "%{content_type}"}'
        url = f"http://127.0.0.1:8000{path}"
        out = self.run("curl", "--silent", "--show-error", "--max-time", LIMIT_S, "--write-out", form, *options, url)
        text, _, told = out.rpartition("\n")
        return {**json.loads(told), "text": text}


def _leave(why: str) -> NoReturn:
    """Skip. Also where all else must be there: a machine may be one that lets nobody have namespaces."""
    if os.environ.get("CI") == "true":
        print(f"\nNOT TESTED: the units under a real systemd, since {why}", file=sys.__stderr__, flush=True)
    pytest.skip(f"no real systemd can be booted here: {why}")


def _find_python() -> Path:
    """Return an interpreter of this version that is nobody's own: units cannot look into home folders."""
    shared = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    own = Path(os.path.realpath(sys.executable))
    if own.is_relative_to("/usr"):
        return own
    if not shared.exists():
        _leave(f"there is no {shared}, and {own} is in a folder that services cannot read")
    return shared


def _make_program(folder: Path) -> list[str]:
    """Lay out the program as it would be installed, where users without rights can read it; return what shows where."""
    python = _find_python()
    binds = {PROJECT / "assetserver": "/opt/assetserver/lib/assetserver", PROJECT / "systemd": "/opt/assetserver/lib/systemd"}
    binds[HERE] = "/opt/assetserver/tests"
    packages = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    binds[packages] = "/opt/assetserver/site-packages"
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    program = bin_folder / "assetserver"
    program.write_text(f'#!/bin/sh\nexport PYTHONPATH={LIBRARIES}\nexec {python} -m assetserver "$@"\n')
    program.chmod(0o755)
    (bin_folder / "python").symlink_to(python)
    binds[bin_folder] = "/opt/assetserver/bin"
    return [f"{source}:{target}" for source, target in binds.items()]


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A booted systemd that has the program in ``/opt/assetserver``, and nothing of it started."""
    if os.getuid() != 0:
        _leave("that takes root")
    if not SYSTEMD.exists():
        _leave("systemd is missing (Debian package systemd)")
    if missing := [name for name in ("unshare", "nsenter", "setpriv", "pivot_root", "curl") if shutil.which(name) is None]:
        _leave(f"{missing[0]} is missing")
    cgroups = next((one for one in CGROUPS if (one / "cgroup.procs").exists()), None)
    if cgroups is None:
        _leave("there is no hierarchy of cgroups, version 2")
    with tempfile.TemporaryDirectory(prefix="assetserver-machine-") as name:
        folder = Path(name)
        cgroup = cgroups / folder.name
        try:
            cgroup.mkdir()
        except OSError as error:
            _leave(f"no cgroup can be made ({error.strerror})")
        (folder / "root").mkdir()
        folder.chmod(0o755)
        process = _boot(folder, cgroup)
        try:
            yield _wait_booted(process, folder / "log")
        finally:
            _end(process, cgroup)


def _boot(folder: Path, cgroup: Path) -> subprocess.Popen[bytes]:
    kinds = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
    # In words of the kernel: if we are killed, so is `unshare`, and with it PID 1, and with that all of the machine.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *kinds, "--fork", "--kill-child", "--propagation", "private"]
    command += ["bash", str(HERE / "boot.sh"), str(folder / "root"), *_make_program(folder)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_booted(process: subprocess.Popen[bytes], log: Path) -> Machine:
    deadline_s = time.monotonic() + LIMIT_S
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            _leave(log.read_text(errors="replace").strip().rpartition("\n")[2] or f"unshare ended with {process.returncode}")
        with suppress(OSError, IndexError):
            one = Machine(int(children.read_text().split()[0]))
            if one.try_to("systemctl", "is-system-running", "--wait")[1].strip() in ("running", "degraded"):
                return one
        time.sleep(0.05)
    pytest.fail(f"systemd did not boot within {LIMIT_S} s:\n{log.read_text(errors='replace')}")


def _end(process: subprocess.Popen[bytes], cgroup: Path) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT_S)
    deadline_s = time.monotonic() + LIMIT_S
    while cgroup.exists() and time.monotonic() < deadline_s:  # until the kernel has ended the last of them
        for one in sorted(cgroup.rglob("*"), key=lambda path: -len(path.parts)):
            if one.is_dir():
                with suppress(OSError):
                    one.rmdir()
        with suppress(OSError):
            cgroup.rmdir()
        time.sleep(0.02)
    assert not cgroup.exists(), "processes of the machine outlive it"
