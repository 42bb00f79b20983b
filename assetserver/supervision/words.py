"""What a master and its workers say to each other, a byte at a time; and what both say to people.

Each worker shares a socket pair with its master, the ``channel``. Its end means that the other one is gone. Masters and
workers may be of two versions, for the length of an upgrade: a byte never changes its meaning, and one that is not known is
passed over.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

READY = b"R"
"""From a worker: it does what it is for."""

BEAT = b"."
"""From a worker: its loop turns. Once a second or so, from ``READY`` on."""

DRAIN = b"D"
"""From the master: another one has your place. Accept no more, finish what there is, and end."""


def beat(channel: socket.socket | None) -> None:
    """Give the master a sign of life, if there is one; never waits. That it is gone is found out by who reads the channel."""
    if channel is not None:
        with suppress(OSError):
            channel.send(BEAT, socket.MSG_DONTWAIT)


def say(text: str) -> None:
    """Tell people, on stderr; whoever read it may be gone."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
