"""How a process without a master reads its settings anew: it looks at them, finishes what it does, and runs itself in place."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence

from .check import Check
from .notices import Notifier
from .words import say


class Renewal:
    """SIGHUP of one process. ``check`` is the command that looks at the settings; ``stop`` has the process finish."""

    def __init__(self, check: Sequence[str], notifier: Notifier, stop: Callable[[], None]) -> None:
        self.is_due = False
        """Whether ``run_anew`` is to be called once all is finished."""
        self._command = check
        self._notifier = notifier
        self._stop = stop
        self._is_asked = False
        self._check: Check | None = None

    def on_signal(self, *_: object) -> None:
        """Remember that it was asked for."""
        self._is_asked = True

    def turn(self) -> None:
        """Go on with it; to be called every few seconds. What is wrong is told, and what runs goes on."""
        now_s = time.monotonic()
        if self._check is None and self._is_asked:
            self._is_asked = False
            try:
                self._check = Check(self._command, now_s)
            except OSError as error:
                self._tell(f"the settings cannot be checked: {(error.strerror or str(error)).lower()}")
        elif self._check is not None and (problem := self._check.find_problem(now_s)) is not None:
            self._check = None
            if problem:
                self._tell(problem)
            else:
                self.is_due = True
                self._notifier.reloading()
                self._stop()

    def _tell(self, problem: str) -> None:
        told = f"not reloaded, what ran before goes on: {problem}"
        say(f"error: {told}")
        self._notifier.status(told)


def run_anew() -> None:
    """Run this program from its beginning, in the same process. Does not return; raises ``OSError`` if it cannot be run."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - as we were started
