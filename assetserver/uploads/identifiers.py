"""Ids of uploads. Whoever knows one may ask for what it names: nobody can guess one."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode

_ID_BYTES = 18
_DRAWN_BYTES = 128 * _ID_BYTES

_drawn = bytearray()
os.register_at_fork(after_in_child=_drawn.clear)  # no two processes give out the same


def new_id() -> str:
    """Return an id: 144 random bits in 24 characters. For one thread, that of the event loop.

    The kernel is asked for many at once: a system call lets go of the interpreter, and among threads at work that costs a turn.
    """
    if not _drawn:
        _drawn.extend(os.urandom(_DRAWN_BYTES))
    taken = bytes(_drawn[-_ID_BYTES:])
    del _drawn[-_ID_BYTES:]
    return urlsafe_b64encode(taken).decode()
