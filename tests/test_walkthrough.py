"""The README's section on releases, executed: every command as it stands there, and what it shows is what happens.

Releases and times are others on each machine and day; a release that the README names twice must be the same one here, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SECTION = "Publish releases"
ADDRESS = "127.0.0.1:8000"
LIMIT_S = 60
SWITCH_LIMIT_S = 60.0
POLL_S = 0.1
RELEASE = re.compile(r"\b[0-9a-f]{12}\b")
VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"ast_[0-9a-f]{12}_\S+"), "TOKEN"),
    (re.compile(r"^( *spares visitors ).*"), r"\1SIZES"),  # another release of a codec, other sizes
)


@dataclass(frozen=True)
class Step:
    """A command, and the lines that it prints."""

    command: str
    output: tuple[str, ...]


def read_steps(text: str) -> list[Step]:
    """Return the steps of all console blocks of the section, up to what needs another machine."""
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    [body] = [one for one in section if one.startswith(SECTION + "\n")]
    steps: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", body.partition("\n### ")[0], re.DOTALL):
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = re.sub(r"\\\n *", "", shown).splitlines()
            steps.append(Step(command, tuple(output)))
    return steps


class Walk:
    """Runs steps in a folder, and knows which release here is which of the README."""

    def __init__(self, folder: Path, port: int, start_program) -> None:
        self.folder = folder
        self.releases: dict[str, str] = {}
        self._address = f"127.0.0.1:{port}"
        self._start_program = start_program
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ASSETSERVER_SERVER__PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }

    def take(self, step: Step) -> None:
        """Run a step and compare; what asks the server is asked again until an activation is seen."""
        if step.command.startswith("assetserver serve"):
            self._serve(step)
            return
        patience_s = SWITCH_LIMIT_S if step.command.startswith("curl") else 0.0
        deadline_s = time.monotonic() + patience_s
        while not self._fits(step, printed := self._run(step.command)) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        self._check(step, printed)

    def _run(self, command: str) -> list[str]:
        done = subprocess.run(
            ["bash", "-c", self._localize(command)],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.stdout.replace("\r", "").replace(self._address, ADDRESS).splitlines()

    def _serve(self, step: Step) -> None:
        command = ["bash", "-c", "exec " + self._localize(step.command)]
        program = self._start_program("walkthrough", command, cwd=self.folder, env=self._environment)
        program.wait_log(r"good until .*\n")
        lines = program.read_log().replace(self._address, ADDRESS).splitlines()
        self._check(step, lines[: len(step.output)])

    def _localize(self, command: str) -> str:
        """Return a command of the README as it has to be here."""
        command = RELEASE.sub(lambda found: self.releases.get(found[0], found[0]), command)
        return command.replace(ADDRESS, self._address)

    def _fits(self, step: Step, printed: list[str]) -> bool:
        return self._compare(step, printed) is not None

    def _check(self, step: Step, printed: list[str]) -> None:
        known = self._compare(step, printed)
        assert known is not None, f"$ {step.command}\n" + "\n".join(printed) + "\n\nand README.md:\n" + "\n".join(step.output)
        self.releases = known

    def _compare(self, step: Step, printed: list[str]) -> dict[str, str] | None:
        """Return the releases known if ``printed`` is what the README shows, or None."""
        if [normalize(line) for line in printed] != [normalize(line) for line in step.output]:
            return None
        shown = [name for line in step.output for name in RELEASE.findall(line)]
        here = [name for line in printed for name in RELEASE.findall(line)]
        known = {**self.releases, **dict(zip(shown, here, strict=True))}
        is_same = [known[name] for name in shown] == here and len(set(known.values())) == len(known)
        is_kept = all(known[name] == value for name, value in self.releases.items())
        return known if is_same and is_kept else None


def normalize(line: str) -> str:
    for pattern, text in VOLATILE:
        line = pattern.sub(text, line)
    return RELEASE.sub("RELEASE", line).rstrip()


@pytest.fixture
def walk(tmp_path, free_port, start_program, missing) -> Walk:
    """A walk that begins where the README does: in a folder with the sample."""
    if shutil.which("curl") is None:
        missing("curl (Debian package curl)")
    shutil.copytree(ROOT / "static", tmp_path / "static")
    return Walk(tmp_path, free_port(), start_program)


def test_the_readme_walks_through_publish_change_publish_and_rollback(walk):
    steps = read_steps(README.read_text())
    commands = " ".join(step.command for step in steps)
    for part in ("assetserver publish", "assetserver serve", "assetserver rollback", "assetserver releases", "curl "):
        assert part in commands
    for step in steps:
        walk.take(step)


def test_a_walk_notices_what_the_readme_shows_wrongly(walk):
    for wrong in (
        Step("echo 6f7d41371d25 is live", ("6f7d41371d25 is active",)),
        Step("echo one; echo two", ("one",)),
        Step("echo aaaaaaaaaaaa bbbbbbbbbbbb", ("cccccccccccc cccccccccccc",)),
        Step("echo aaaaaaaaaaaa aaaaaaaaaaaa", ("cccccccccccc dddddddddddd",)),
        Step("assetserver rollback", ("rolled back from aaaaaaaaaaaa to bbbbbbbbbbbb",)),
    ):
        with pytest.raises(AssertionError):
            walk.take(wrong)
    walk.take(Step("echo aaaaaaaaaaaa", ("cccccccccccc",)))
    with pytest.raises(AssertionError):
        walk.take(Step("echo bbbbbbbbbbbb", ("cccccccccccc",)))
    walk.take(Step("echo cccccccccccc", ("cccccccccccc",)))
