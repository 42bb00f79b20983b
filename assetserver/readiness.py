"""Whether this server can do all of its work now, and if not, what it cannot: for who decides where requests go.

Files that are published are served all the same (invariant 11): what is not ready is uploads, publishing, or a disk that is
about to be full.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial

import anyio

from .data import Records, data_folder, open_library, served_sites
from .errors import AssetServerError
from .observe import LogWriter
from .releases.library import Library
from .settings import Settings
from .settingtables import SiteSettings
from .storage.pools import FilePool, wait_future
from .wording import in_units

PATIENCE_S = 2.0
"""How long a check may take: a database that is locked, or a disk that hangs, is not ready."""

FRESH_S = 1.0
"""How long a finding is given to all who ask."""

_PROBE_BYTES = b"\0" * 4096

Check = Callable[[], str]
"""Returns what is wrong, or "". Blocks; may raise ``OSError`` and ``AssetServerError``, which say it as well."""


class Readiness:
    """Runs ``checks``, by name, beside each other; each once at a time, however many ask. ``is_draining``: the server stops."""

    def __init__(self, checks: Mapping[str, Check], clock_s: Callable[[], float] = time.monotonic) -> None:
        self.is_draining = False
        self._checks = checks
        self._clock_s = clock_s
        self._pool = FilePool("assetserver-ready", max(1, len(checks)))
        self._running: dict[str, Future[str]] = {}
        self._found: dict[str, str] = {}
        self._found_s = float("-inf")

    async def find(self) -> dict[str, str]:
        """Return what every check found wrong, "" for nothing."""
        if self._clock_s() - self._found_s >= FRESH_S:
            found: dict[str, str] = {}
            async with anyio.create_task_group() as tasks:
                for name in self._checks:
                    tasks.start_soon(self._find_one, name, found)
            self._found, self._found_s = {name: found[name] for name in self._checks}, self._clock_s()
        return {"server": "it is stopping" if self.is_draining else "", **self._found}

    def close(self) -> None:
        """End the threads, once what they wait for has ended."""
        self._pool.close()

    async def _find_one(self, name: str, found: dict[str, str]) -> None:
        """Look with one thread at most: one that hangs is not joined by others."""
        found[name] = f"no answer within {PATIENCE_S:g} s"
        running = self._running.get(name)
        if running is None or running.done():
            running = self._running[name] = self._pool.submit(_run, self._checks[name])
        with anyio.move_on_after(PATIENCE_S):
            found[name] = await wait_future(running)


def _run(check: Check) -> str:
    try:
        return check()
    except OSError as error:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    except AssetServerError as error:
        return str(error)


def checks_of(settings: Settings, records: Records | None, log: LogWriter | None = None) -> dict[str, Check]:
    """Return what a server of ``settings`` needs; ``records`` if it takes uploads or releases, ``log`` if it keeps one."""
    checks: dict[str, Check] = {}
    for mount in settings.mounts:
        checks[f"folder {mount.host}{mount.prefix}"] = partial(_find_folder, mount.directory)
    sites = served_sites(settings)
    if sites:
        library = open_library(settings)
        checks["releases"] = lambda: "; ".join(filter(None, (_find_release(library, site) for site in sites)))
    if records is not None:
        folder = data_folder(settings)
        checks["data"] = partial(_write_to, folder)
        checks["disk"] = partial(_find_room, folder, settings.uploads.reserve_bytes)
        checks["database"] = _watch_database(records)
    if log is not None:
        checks["log"] = lambda: log.trouble
    return checks


def _find_folder(directory: str) -> str:
    return "" if os.path.isdir(directory) else f"there is no folder {directory}"


def _find_release(library: Library, site: SiteSettings) -> str:
    """A site that nothing was published to is as it should be: it says so itself."""
    active = library.site(site.name).read().active
    if active is None or os.path.isfile(library.index_path(active)):
        return ""
    return f"site {site.name}: the index of release {active[:12]} is not there"


def _write_to(folder: str) -> str:
    """Write to the data folder: a disk that is full, or was made read-only, lets nobody. None is made here."""
    if not os.path.lexists(folder):
        return ""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = file.write(_PROBE_BYTES)
    except OSError as error:
        return f"{folder} cannot be written to: {(error.strerror or str(error)).lower()}"
    return "" if written == len(_PROBE_BYTES) else f"{folder} cannot be written to: no space left on device"


def _find_room(folder: str, reserve_bytes: int) -> str:
    free = free_bytes(folder)
    if free is None or free >= reserve_bytes:
        return ""
    return f"{in_units(free)} are free, and uploads leave {in_units(reserve_bytes)} (uploads.reserve_bytes)"


def free_bytes(folder: str) -> int | None:
    """Return what is free of the disk under ``folder``, or under what will hold it; None if that cannot be told."""
    folder = os.path.abspath(folder)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _watch_database(records: Records) -> Check:
    """Return what asks the database. None is needed before anything is recorded; one that was there must not go."""
    known = records.identify_file()

    def ask() -> str:
        nonlocal known
        now = records.identify_file()
        if known is not None and now != known:  # SQLite makes an empty one for whoever opens it next
            return "its file is gone" + (", and another is in its place" if now is not None else "")
        known = now
        if records.are_there():
            records.ping()
        return ""

    return ask
