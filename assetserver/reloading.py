"""``assetserver reload``, and what a server that reloads needs: where it is reached, and what goes on if it cannot start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .data import data_folder, served_sites
from .errors import ControlError
from .settings import Settings
from .supervision.control import RELOAD, ask_master, find_masters
from .supervision.handover import Handover, take_handover
from .supervision.master import keep_serving

CONTROL_FOLDER = "run"
"""Below the data folder, where no service manager gives us one."""

PATIENCE_S = 180.0
"""How long a reload may take: the check, the start of the new workers, and what waits before them."""


def control_folder(settings: Callable[[], Settings]) -> str:
    """Return where a server is reached: ``$RUNTIME_DIRECTORY``, else in the data folder of ``settings``; else ""."""
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        return runtime
    known = settings()
    return os.path.join(data_folder(known), CONTROL_FOLDER) if served_sites(known) or known.data.path else ""


def check_command(name: str) -> list[str]:
    """Return the command that checks what this process was started for, as ``serve --check``; none if not for ``name``."""
    words = sys.orig_argv[1:]
    if name not in words:
        return []
    place = words.index(name) + 1
    return [sys.executable, *words[:place], "--check", *words[place:]]


@contextmanager
def still_served() -> Iterator[Handover | None]:
    """Give what a master left to this process, if it reloads; if then anything fails, the old workers serve on.

    Exits as they end.
    """
    handover = take_handover(os.environ)
    try:
        yield handover
    except Exception as error:  # whatever is wrong with what is new
        if handover is None:
            raise
        problem = str(error) or type(error).__name__
        raise SystemExit(keep_serving(handover, problem, check_command("serve"))) from error


def reload_server(settings: Callable[[], Settings], pid: int | None) -> str:
    """Have the server with these settings read them anew, and replace its workers; return what it says.

    Where a service manager has a place for us, they are not looked at: the server does, and may see secrets that we may not.
    ``pid``: which one, where several share a data folder. Raises ``ControlError`` if it did not, or if none is found.
    """
    folder = control_folder(settings)
    found = find_masters(folder) if folder else []
    if pid is not None and pid not in found:
        raise ControlError(f"no server of process {pid} is to be reached in {folder or 'any folder'}")
    if not found:
        where = f"in {folder}" if folder else "without a data folder"
        raise ControlError(f"no server is to be reached {where}. One that serves a folder alone has nothing to reload; if its "
                           "data are elsewhere, use --data; under systemd: systemctl reload assetserver")  # fmt: skip
    if pid is None and len(found) > 1:
        raise ControlError(f"several servers share {folder}: say which, with --pid {' or --pid '.join(map(str, found))}")
    outcome = ask_master(folder, pid or found[0], RELOAD, PATIENCE_S)
    if not outcome.ok:
        raise ControlError(f"not reloaded, what ran before goes on: {outcome.message}")
    return outcome.message
