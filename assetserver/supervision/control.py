"""Where a running master can be reached by commands: a Unix socket in a folder that only its user can enter.

A line of JSON each way: ``{"command": "reload"}``, and when all is decided ``{"ok": true, "message": "2 workers serve"}``. The
name tells the process, so that several servers may share a data folder.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import msgspec

from assetserver.errors import ControlError

RELOAD = "reload"
LIMIT_LINE_BYTES = 4096
_NAME = re.compile(r"master-([0-9]+)\.sock")


class Command(msgspec.Struct):
    """What a master is asked to do."""

    command: str


class Outcome(msgspec.Struct):
    """What came of it, in words."""

    ok: bool
    message: str


class Control(NamedTuple):
    """A socket where commands come in, and the folder in which this process has it."""

    socket: socket.socket
    folder: str

    def close(self) -> None:
        """Close the socket, and remove its name."""
        self.socket.close()
        with suppress(OSError):
            os.unlink(_path(self.folder, os.getpid()))


def open_control(folder: str) -> Control:
    """Return where commands come in, in ``folder``, which is made if it is not there; what dead masters left there goes.

    Raises ``OSError`` if there can be no such place.
    """
    os.makedirs(folder, 0o700, exist_ok=True)
    living = find_masters(folder)
    for pid in _list_names(folder):
        if pid not in living:
            with suppress(FileNotFoundError):
                os.unlink(_path(folder, pid))
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _reachable(folder, os.getpid()) as address:
            made.bind(address)
        os.chmod(_path(folder, os.getpid()), 0o600)
        made.listen()
    except OSError:
        made.close()
        raise
    return Control(made, folder)


def find_masters(folder: str) -> list[int]:
    """Return the processes that can be reached in ``folder``. Not by their ids: sandboxes hide processes from each other."""
    return [pid for pid in _list_names(folder) if _listens(folder, pid)]


def _list_names(folder: str) -> list[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))


def _listens(folder: str, pid: int) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _reachable(folder, pid) as address:
        probe.settimeout(1.0)
        probe.connect(address)
        return True
    return False


def ask_master(folder: str, pid: int, command: str, timeout_s: float) -> Outcome:
    """Ask a master to do something, and wait for what comes of it. Raises ``ControlError`` if that is not to be known."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(timeout_s)
    with made:
        try:
            with _reachable(folder, pid) as address:
                made.connect(address)
            made.sendall(msgspec.json.encode(Command(command)) + b"\n")
            line = _read_line(made)
        except TimeoutError as error:
            raise ControlError(f"process {pid} did not say within {timeout_s:g} s what came of it; look at its log") from error
        except OSError as error:
            raise ControlError(f"process {pid} cannot be asked: {(error.strerror or str(error)).lower()}") from error
    try:
        return msgspec.json.decode(line, type=Outcome)
    except msgspec.MsgspecError as error:
        raise ControlError(f"process {pid} ended before it said what came of it; look at its log") from error


def answer(client: socket.socket, outcome: Outcome) -> None:
    """Say what came of it, and hang up."""
    with suppress(OSError), client:
        client.settimeout(1.0)
        client.sendall(msgspec.json.encode(outcome) + b"\n")


def read_command(client: socket.socket) -> str:
    """Return what a client that has something to say asks for, or "" if that is nothing that is known here."""
    try:
        client.settimeout(1.0)
        return msgspec.json.decode(_read_line(client), type=Command).command
    except (OSError, msgspec.MsgspecError):
        return ""


def _read_line(made: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) < LIMIT_LINE_BYTES and (piece := made.recv(LIMIT_LINE_BYTES)):
        line += piece
    return line


def _path(folder: str, pid: int) -> str:
    return os.path.join(folder, f"master-{pid}.sock")


@contextmanager
def _reachable(folder: str, pid: int) -> Iterator[str]:
    """Give an address of the socket that is short enough: at most 108 bytes, however long that of the folder is."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{os.path.basename(_path(folder, pid))}"
    finally:
        os.close(descriptor)
