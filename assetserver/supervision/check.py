"""A look at the settings before they are used: in a process of its own, by the program as it is installed now."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

LIMIT_S = 60.0
LIMIT_OUTPUT_BYTES = 2000


class Check:
    """A command that exits with 0 if a server that starts now could serve. Raises ``OSError`` if it cannot be run."""

    def __init__(self, command: Sequence[str], now_s: float) -> None:
        self._output = os.memfd_create("check")
        self._deadline_s = now_s + LIMIT_S
        told = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
        environ = {name: value for name, value in os.environ.items() if name not in told}
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._output, env=environ
            )
        except OSError:
            os.close(self._output)
            raise

    def find_problem(self, now_s: float) -> str | None:
        """Return what is wrong, "" if nothing is, or None as long as it is not known. Not to be called after an answer."""
        code = self._process.poll()
        if code is None and now_s < self._deadline_s:
            return None
        if code is None:
            self.close()
            return f"the check did not end within {LIMIT_S:g} s"
        size = os.fstat(self._output).st_size
        said = os.pread(self._output, LIMIT_OUTPUT_BYTES, max(0, size - LIMIT_OUTPUT_BYTES)).decode("utf-8", "replace")
        self.close()
        if code == 0:
            return ""
        return " ".join(said.split()).removeprefix("error: ") or f"the check ended with exit code {code}"

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._output)
