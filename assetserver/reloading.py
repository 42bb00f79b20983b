"""``assetserver reload``, and what a server that reloads needs: where it is reached, and what goes on if it cannot start."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
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


def control_folder(settings: Settings) -> str:
    """Return where servers with these settings are reached: ``$RUNTIME_DIRECTORY``, else in the data folder; else ""."""
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        return runtime
    return os.path.join(data_folder(settings), CONTROL_FOLDER) if served_sites(settings) or settings.data.path else ""


def check_command() -> list[str]:
    """Return the command that checks what this process was started for: ``serve --check``; none if it is no ``serve``."""
    words = sys.orig_argv[1:]
    if "serve" not in words:
        return []
    place = words.index("serve") + 1
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
        raise SystemExit(keep_serving(handover, problem, check_command())) from error


def reload_server(settings: Settings, pid: int | None) -> str:
    """Have the server with these settings read them anew, and replace its workers; return what it says.

    ``pid``: which one, where several share a data folder. Raises ``ControlError`` if it did not, or if none is found.
    """
    folder = control_folder(settings)
    found = [one for one in find_masters(folder) if os.path.exists(f"/proc/{one}")] if folder else []
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
