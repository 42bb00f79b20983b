"""Commands of the program, run within this process where a process is not what a test is about: each takes half a second."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner

from assetserver.cli import main

Done = subprocess.CompletedProcess[str]


def try_command(*words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Done:
    """Run a command with no settings but those of ``env``; return how it ended, and what it wrote."""
    kept: dict[str, str | None] = {name: None for name in os.environ if name.startswith("ASSETSERVER_")}
    command = [str(word) for word in words]
    with chdir(cwd or "."):
        done = CliRunner().invoke(main, command, env={**kept, **(env or {})})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(command, done.exit_code, done.stdout, done.stderr)


def run_command(*words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that must succeed; return what it wrote to stdout."""
    done = try_command(*words, cwd=cwd, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout
