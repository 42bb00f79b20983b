"""What a child process gives up before it looks at a stranger's bytes. Linux; what a kernel lacks is left out, and told.

Sources: setrlimit(2), prctl(2), unshare(2), capabilities(7), landlock(7). The numbers are those of the kernel's headers.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress

import msgspec

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITY_VERSION_3 = 0x20080522
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_VERSION, _RULE_PATH_BENEATH = 1, 1
_WRITE_FILE, _MAKE_REG, _TRUNCATE = 1 << 1, 1 << 8, 1 << 14
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights over files each version of Landlock knows; later ones none that matters here."""
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
_ALL_NETWORK = _ALL_SCOPES = 3

_GRACE_S = 5
"""Between the soft limit of processor time, which a signal tells, and the hard one, which kills."""

_libc = ctypes.CDLL(None, use_errno=True)


class Confines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a child may take: bytes of address space, seconds, bytes of a file, descriptors."""

    memory_bytes: int
    cpu_s: int
    wall_s: float
    file_bytes: int
    open_files: int
    niceness: int = 10


class Protections(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What this kernel and these rights allow: an empty network, and the version of Landlock (0: none)."""

    network: bool
    landlock: int


def leave_network() -> bool:
    """Put this process and its future children into a network of their own, without any interface; tell whether it worked.

    With it go all capabilities, also those that a user namespace would have brought. It stays so for good.
    """
    is_alone: bool = _libc.unshare(_CLONE_NEWNET) == 0 or _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return is_alone


def _drop_capabilities() -> None:
    """Drop what there is; who has none need not ask, and under systemd's filters may not."""
    header, held = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    if _libc.capget(header, held) == 0 and not any(held):
        return
    if _libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def confine(confines: Confines, folder: int, parent: int) -> None:
    """Limit this process for good: it may read what is open, create files in ``folder`` (a descriptor), and little else.

    It ends with ``parent``, its process id. Raises ``OSError`` where a limit is refused.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    with suppress(OSError):  # a filter may forbid it, where the service is nice already
        os.nice(confines.niceness)
    # The kernel's own clock: it rings though the process hangs, and whether or not anyone still watches.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, confines.wall_s)
    for what, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, confines.open_files, confines.open_files),
        (resource.RLIMIT_FSIZE, confines.file_bytes, confines.file_bytes),
        (resource.RLIMIT_CPU, confines.cpu_s, confines.cpu_s + _GRACE_S),
        (resource.RLIMIT_AS, confines.memory_bytes, confines.memory_bytes),
    ):
        most = resource.getrlimit(what)[1]
        least = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(what, (min(soft, least), least))
    _lock_files(folder)


def find_landlock() -> int:
    """Return the version of Landlock that this kernel has, or 0."""
    return max(0, int(_libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)))


def _lock_files(folder: int) -> None:
    """Nothing can be opened any more, but new files of ``folder``; no TCP, no signals to others where Landlock knows those."""
    if not (version := find_landlock()):
        return
    rights = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    fields = [rights]
    if version >= _NETWORK_SINCE:
        fields.append(_ALL_NETWORK)
    if version >= _SCOPES_SINCE:
        fields.append(_ALL_SCOPES)
    attributes = (ctypes.c_uint64 * len(fields))(*fields)
    ruleset = _call(_LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(ctypes.sizeof(attributes)), 0)
    beneath = _PathBeneath(rights & (_WRITE_FILE | _MAKE_REG | _TRUNCATE), folder)
    _call(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(beneath), 0)
    _call(_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


class _PathBeneath(ctypes.Structure):
    _layout_ = "ms"
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
