"""A fork server that may start no process while somebody says so: SIGUSR1 takes that right from it, SIGUSR2 gives it back."""

from __future__ import annotations

import os
import resource
import signal

_NOBODY = 61_234
"""A user with no process, where tests run as root, whom the limit does not count for."""

_SOFT, _HARD = resource.getrlimit(resource.RLIMIT_NPROC)


def refuse(order: bytes, source: int, folder: int) -> bytes:
    return b'{"type":"refused","reason":"nothing"}'


if os.getuid() == 0:
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (0, _HARD)))
signal.signal(signal.SIGUSR2, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (_SOFT, _HARD)))
