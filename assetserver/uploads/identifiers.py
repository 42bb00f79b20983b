"""Ids of uploads. Whoever knows one may ask for what it names: nobody can guess one."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode

_ID_BYTES = 18
_DRAWN = 128

_drawn: list[bytes] = []
os.register_at_fork(after_in_child=_drawn.clear)  # no two processes give out the same


def new_id() -> str:
    """Return an id: 144 random bits in 24 characters. May be called from any thread.

    The kernel is asked for many at once: a system call lets go of the interpreter, and among threads at work that costs a turn.
    """
    try:
        taken = _drawn.pop()
    except IndexError:
        drawn = os.urandom(_DRAWN * _ID_BYTES)
        taken, *more = (drawn[at : at + _ID_BYTES] for at in range(0, len(drawn), _ID_BYTES))
        _drawn.extend(more)
    return urlsafe_b64encode(taken).decode()
