"""Runs a program of this folder again and again, each time in a fork of a process that has imported it: run as a program, too.

The program has standard streams, arguments and a death of its own, as if it were started; what is spared is to start Python and
to import, which takes many times as long as what is run.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable

LIMIT_S = 60.0


class Forks:
    """Runs ``main`` of the module ``name``, one run after the other."""

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run it with these arguments; return how it ended, and what it wrote."""
        self._process.stdin.write(json.dumps([str(one) for one in arguments]) + "\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, out, err)

    def close(self) -> None:
        """End the process that forks."""
        self._process.stdin.close()
        self._process.wait(LIMIT_S)
        self._process.stdout.close()


def run_here(main: Callable[[], object], arguments: list[str]) -> int:
    """Run ``main`` with these arguments; return the exit code that Python would end with."""
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:  # noqa: BLE001 - as Python does with what nobody catches
        traceback.print_exc()
        return 1
    return 0


def run_apart(main: Callable[[], object], arguments: list[str]) -> tuple[int, str, str]:
    """Run ``main`` in a fork; return its exit code, and what it wrote to stdout and stderr."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        if (child := os.fork()) == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = run_here(main, arguments)
            sys.stdout.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def serve() -> None:
    """Run the module that is named for each line of stdin, a list of arguments as JSON."""
    program = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run_apart(program.main, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
