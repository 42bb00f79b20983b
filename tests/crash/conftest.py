"""Programs that die, forked when wanted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from .forks import Forks

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def forked() -> Iterator[Callable[[str], Run]]:
    """``forked(name)`` returns what runs the program of that name in a fork, with the arguments that it is given."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(closing(Forks(name))).run
