"""What a child that was taken over might do. Each is the work of a fork server of its own; see ``forkserver.Work``."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Callable


def misbehave(order: bytes, source: int, folder: int) -> bytes:
    """Do what the quality of the plan says: a number is all that a plan can carry."""
    number = json.loads(order)["plan"].get("transform", {}).get("quality", 0)
    return DEEDS[number](source, folder)


def _create(folder: int, name: str, content: bytes = b"x") -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    os.write(descriptor, content)
    os.close(descriptor)


def crash(source: int, folder: int) -> bytes:
    _create(folder, "half.jpg")
    ctypes.string_at(0)
    return b""


def die(source: int, folder: int) -> bytes:
    _create(folder, "half.jpg")
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def hang(source: int, folder: int) -> bytes:
    _create(folder, "half.jpg")
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(600)
    return b""


def spin(source: int, folder: int) -> bytes:
    while True:
        pass


def allocate(source: int, folder: int) -> bytes:
    held = []
    while True:
        held.append(bytearray(1 << 24))


def write(source: int, folder: int) -> bytes:
    descriptor = os.open("endless.jpg", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
    while True:
        os.write(descriptor, bytes(1 << 20))


def talk(source: int, folder: int) -> bytes:
    return b"[" * (1 << 20)


def lie(source: int, folder: int) -> bytes:
    """Call a page a picture."""
    _create(folder, "9-9.jpg", b"<script>")
    return _tell({"file": "9-9.jpg", "format": "jpeg", "width": 9, "height": 9, "size": 8})


def escape(source: int, folder: int) -> bytes:
    return _tell({"file": "../9-9.jpg", "format": "jpeg", "width": 9, "height": 9, "size": 8})


def hide(source: int, folder: int) -> bytes:
    """Leave more than is told."""
    _create(folder, "secret.html")
    return _tell()


def explore(source: int, folder: int) -> bytes:
    """Tell, as notes, whatever could be done that should not be."""
    attempts: dict[str, Callable[[], object]] = {
        "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "read in the folder": lambda: os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder) and os.listdir(folder)[9],
        "write elsewhere": lambda: os.open("/tmp/assetserver-escaped", os.O_WRONLY | os.O_CREAT),
        "make a link": lambda: os.symlink("/etc/passwd", "9-9.jpg", dir_fd=folder),
        "run a program": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606 - it must fail
        "connect": lambda: socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "9"))), 1),
        "signal its parent": lambda: os.kill(os.getppid(), 0),
        "hold a capability": lambda: os.setgroups([]),
    }
    done = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, IndexError):
            continue
        done.append(name)
    done += [f"has descriptor {one}" for one in range(6, 256) if _is_open(one)]
    done += [f"knows {name}" for name in os.environ if name not in ("MALLOC_ARENA_MAX", "LD_LIBRARY_PATH", "LC_CTYPE")]
    return json.dumps({"type": "refused", "reason": ", ".join(done) or "nothing"}).encode()


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _tell(*variants: dict[str, object]) -> bytes:
    told = {"type": "made", "width": 9, "height": 9, "format": "jpeg", "frames": 1, "has_alpha": False, "variants": variants}
    return json.dumps(told).encode()


DEEDS = [crash, die, hang, spin, allocate, write, talk, lie, escape, hide, explore]
