"""Collection: old releases are dropped, then what nobody needs is removed: by knowing what is live, not what is dead.

Order, each step durable before the next: states → indexes → signatures and manifests → records of blobs → blobs. Killed
anywhere, what is live is whole, and the next collection removes the rest. Publishing is kept out meanwhile, serving and
activating are not.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.storage.blobs import Digest
from assetserver.storage.durable import locked, sync_folder

from .activation import build_index, kept_path
from .library import Library
from .manifest import SHORT, Manifest, ReleaseId
from .sites import Site, SiteState, drop_releases, needed_releases

GRACE_S = 2.0
"""Servers look at a site's state twice a second; those that are busy a little later."""

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)

BuildIndex = Callable[[Library, Site, SiteState], None]

_DAY_S = 86_400
_HOUR_S = 3600
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class _Room:
    """Files that belong to something: in ``folder``, where ``*`` is any folder; what begins with 64 digits belongs to that.

    Temporary files are removed once nobody wrote to them for ``temporary_s``: 0 where only publishing writes.
    """

    kind: str
    folder: str
    suffix: str = ""
    temporary_s: float = _HOUR_S


_OF_RELEASES = (
    _Room("index", "releases", ".index"),
    _Room("signature", "releases", ".json.minisig"),
    _Room("manifest", "releases"),  # the last, with whatever else begins with the release's id
)
_OF_BLOBS = (_Room("record", "codings/*", temporary_s=0), _Room("record", "facts/*", temporary_s=0))
_OF_FOLDERS = _Room("records", "seen", temporary_s=0)
_FORGET_S = 30 * _DAY_S
"""What a published folder held is forgotten when it has not changed for so long: it may be gone, and can be read again."""

_OF_SITES = _Room("index", "sites/*")
_DERIVED = re.compile(r"(?:kept|index)-.+")
_TEMPORARY = ".new-"


@dataclass(frozen=True, slots=True)
class Retention:
    """Which releases stay: of each site the ``keep`` newest, and those published less than ``keep_days`` ago."""

    keep: int = 10
    keep_days: float = 30


@dataclass(slots=True)
class CollectReport:
    """What was, or would be, removed: releases by site; releases as a whole; files and their bytes by kind."""

    dropped: dict[str, tuple[ReleaseId, ...]] = field(default_factory=dict)
    releases: list[ReleaseId] = field(default_factory=list)
    kept: int = 0
    files: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)

    def count(self, kind: str, size: int) -> None:
        """Count a file of ``size`` bytes."""
        self.files[kind] = self.files.get(kind, 0) + 1
        self.bytes[kind] = self.bytes.get(kind, 0) + size


@dataclass(frozen=True, slots=True)
class Live:
    """What is needed: releases; blobs that are files of them; and these blobs with their compressed forms."""

    releases: set[str]
    files: set[str]
    blobs: set[str]


def publishing_lock(folder: str, on_wait: Callable[[], None] | None = None) -> AbstractContextManager[None]:
    """Hold off collections of the data in ``folder`` while publishing relies on blobs that no state names yet.

    Held from the scan until the site's state names the release. Any number may hold it at once.
    """
    return locked(os.path.join(folder, "publishing"), shared=True, on_wait=on_wait)


def collecting_lock(folder: str, on_wait: Callable[[], None] | None = None) -> AbstractContextManager[None]:
    """Hold off publishing to ``folder``, and other collections; ``on_wait`` is called if it is not free at once."""
    return locked(os.path.join(folder, "publishing"), on_wait=on_wait)


def collect(
    library: Library,
    retention: Retention,
    *,
    dry_run: bool = False,
    now: float | None = None,
    grace_s: float = GRACE_S,
    build: BuildIndex = build_index,
    on_wait: Callable[[], None] | None = None,
) -> CollectReport:
    """Drop old releases from all sites and remove what is not needed any more; return what was removed.

    What is active, what rolling back leads to, and what an alias means stays whatever its age. ``now``: seconds since 1970.
    Servers get ``grace_s`` to see the new states before a file goes. May be repeated, also after being killed.

    Raises ``PublishError``, before anything is removed, if a state, a manifest or a record of what is live is damaged: nobody
    knows then which blobs are needed.
    """
    report = CollectReport()
    if not os.path.isdir(library.folder):
        return report
    newer_than = (time.time() if now is None else now) - retention.keep_days * _DAY_S

    def drop(state: SiteState) -> SiteState:
        return drop_releases(state, retention.keep, newer_than)

    with collecting_lock(library.folder, on_wait):
        sweeper = _Sweeper(library, report, dry_run=dry_run)
        sites = [site for name in library.site_names() if (site := open_site(library, name))]
        before = [read_state(site) for site in sites]
        after = [drop(state) for state in before]
        live = find_live(library, after)
        if not dry_run and after != before:
            try:
                after = [_drop(library, site, drop, build) for site in sites]
            except OSError as error:
                if error.errno not in DISK_IS_FULL:
                    raise
                sweeper.sweep(sites, before, find_live(library, before))  # what was left earlier goes without a new state
                after = [_drop(library, site, drop, build) for site in sites]
            live = find_live(library, after)  # anew: something may have been activated meanwhile
        for site, old, new in zip(sites, before, after, strict=True):
            kept = {one.id for one in new.releases}
            report.dropped[site.name] = tuple(one.id for one in old.releases if one.id not in kept)
        if not dry_run:
            _wait_for_servers(sites, grace_s)
        sweeper.sweep(sites, after, live)
        report.kept = len(live.releases)
    return report


class _Sweeper:
    """Removes what is not live, in an order that leaves what is live whole at any point."""

    def __init__(self, library: Library, report: CollectReport, *, dry_run: bool) -> None:
        self._library = library
        self._report = report
        self._dry_run = dry_run
        self._gone: set[str] = set()

    def sweep(self, sites: list[Site], states: list[SiteState], live: Live) -> None:
        for site, state in zip(sites, states, strict=True):
            self._sweep_site(site, state)
        for room in _OF_RELEASES:
            self._sweep_room(room, live.releases)
        for room in _OF_BLOBS:
            self._sweep_room(room, live.files)
        seen = _files_in(os.path.join(self._library.folder, _OF_FOLDERS.folder))
        self._sweep_room(_OF_FOLDERS, {one.name for one in seen if one.stat().st_mtime > time.time() - _FORGET_S})
        for blob in self._library.blobs.list_blobs():
            if blob.digest not in live.blobs:
                self._report.count("blob", blob.size)
                if not self._dry_run:
                    self._library.blobs.delete(blob.digest)
        for size in self._library.blobs.sweep(-_HOUR_S, dry_run=self._dry_run):  # nobody is writing: we hold the lock
            self._report.count("temporary file", size)

    def _sweep_site(self, site: Site, state: SiteState) -> None:
        """Remove indexes that neither ``state`` needs nor the state now, if someone activated something meanwhile."""

        def remove(current: SiteState) -> SiteState:
            needed = {kept_path(site, state), kept_path(site, current)}
            for entry in _files_in(site.folder):
                if _DERIVED.fullmatch(entry.name) and entry.path not in needed:
                    self._remove(entry, _OF_SITES.kind)
                self._remove_temporary(entry, _OF_SITES)
            return current

        if self._dry_run:
            remove(state)
        else:
            site.change(remove)

    def _sweep_room(self, room: _Room, live: set[str]) -> None:
        for folder in _folders(self._library.folder, room.folder):
            removed = False
            for entry in _files_in(folder):
                belongs = _ID.match(entry.name)
                if belongs and belongs[0] not in live and entry.name.endswith(room.suffix):
                    removed |= self._remove(entry, room.kind)
                self._remove_temporary(entry, room)
            if removed:
                sync_folder(folder)

    def _remove_temporary(self, entry: os.DirEntry[str], room: _Room) -> None:
        with suppress(FileNotFoundError):
            if entry.name.startswith(_TEMPORARY) and entry.stat().st_mtime <= time.time() - room.temporary_s:
                self._remove(entry, "temporary file")

    def _remove(self, entry: os.DirEntry[str], kind: str) -> bool:
        if entry.path in self._gone:  # a dry run meets it again
            return False
        self._gone.add(entry.path)
        if kind == "manifest" and entry.name.endswith(".json"):
            self._report.releases.append(ReleaseId(entry.name.removesuffix(".json")))
        with suppress(FileNotFoundError):
            size = entry.stat(follow_symlinks=False).st_size
            if not self._dry_run:
                os.unlink(entry.path)
            self._report.count(kind, size)
        return not self._dry_run


def has_damaged_codings(library: Library, digest: Digest) -> bool:
    """Tell whether the record of a blob's compressed forms is there, and cannot be read."""
    path = os.path.join(library.folder, "codings", digest[:2], f"{digest}.json")
    return library.codings_of(digest) is None and os.path.exists(path)


def open_site(library: Library, name: str) -> Site | None:
    """Return a site, or None for what stands among the sites and cannot be one."""
    try:
        site = library.site(name)
    except PublishError:
        return None
    return site if os.path.isdir(site.folder) else None


def read_state(site: Site) -> SiteState:
    """Return the state of a site. Raises ``PublishError`` where it is lost or damaged: nobody knows then what it keeps."""
    if site.is_state_lost():
        raise PublishError(
            f"nothing is removed, since nobody knows what site {site.name} keeps: {site.path} is gone; "
            f"bring it back from a copy, publish again, or remove {site.folder}"
        )
    return site.read()


def _drop(library: Library, site: Site, drop: Callable[[SiteState], SiteState], build: BuildIndex) -> SiteState:
    def how(state: SiteState) -> SiteState:
        after = drop(state)
        if after != state:
            build(library, site, after)
        return after

    return site.change(how)


def find_live(library: Library, states: Iterable[SiteState]) -> Live:
    """Return what sites in these states need. Raises ``PublishError`` where that cannot be known."""
    releases: set[str] = set()
    files: set[str] = set()
    for release in {one.id for state in states for one in state.releases} | {
        one for state in states for one in needed_releases(state)
    }:
        releases.add(release)
        files |= {record.digest for record in _load(library, release).files.values()}
    blobs = set(files)
    for digest in files:
        blobs |= _forms_of(library, Digest(digest))
    return Live(releases, files, blobs)


def _load(library: Library, release: ReleaseId) -> Manifest:
    try:
        return library.load_manifest(release)
    except (PublishError, ReleaseMissingError) as error:
        raise PublishError(
            f"nothing is removed, since nobody knows which blobs release {release[:SHORT]} needs: {error}; "
            "assetserver verify tells what else is wrong"
        ) from error


def _forms_of(library: Library, digest: Digest) -> set[str]:
    forms = library.codings_of(digest)
    if forms is None and has_damaged_codings(library, digest):
        raise PublishError(
            f"nothing is removed, since the record of the compressed forms of blob {digest[:SHORT]} is damaged; "
            "assetserver verify tells whose it is: publish that again"
        )
    return {one.digest for one in forms or ()}


def _wait_for_servers(sites: list[Site], grace_s: float) -> None:
    """Wait until the newest state is ``grace_s`` old: by then every running server has seen it."""
    changed = max((os.stat(site.path).st_mtime for site in sites if os.path.exists(site.path)), default=0.0)
    time.sleep(min(max(0.0, changed + grace_s - time.time()), grace_s))


def _folders(root: str, pattern: str) -> Iterator[str]:
    first, _, any_below = pattern.partition("/")
    folder = os.path.join(root, first)
    if not any_below:
        yield folder
    elif os.path.isdir(folder):
        with os.scandir(folder) as entries:
            yield from sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))


def _files_in(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if entry.is_file(follow_symlinks=False)), key=lambda one: one.name)
    except FileNotFoundError:
        return []
