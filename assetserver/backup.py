"""A backup of a data folder that is in use: what its sites and records need, in a folder that can be continued.

    TO/backup.json            which snapshot is whole; replaced in one step, the last one
    TO/blobs/…                bytes by digest, of releases and uploads, shared by snapshots
    TO/snapshots/NAME/        one moment: contents.json, sites, releases, codings.json, records.sqlite3, keys, settings.json

Laws:
- States of sites are read first, and collection is held off: whatever they name is there until the end, publishing only adds.
- Records are copied before the blobs that they name. One that is removed meanwhile is missing then, and so is its record in the
  next copy: copies are taken until all is there.
- The snapshot before stays whole until ``backup.json`` names the next one: killed at any moment, there is one, or it says that
  there is none yet.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version

import msgspec

from .access.keyfile import KEY_FILE
from .data import open_library, open_local_blobs, open_media_blobs, records_path, snapshot_records
from .errors import BackupError, PublishError
from .releases.collect import find_live, open_site, publishing_lock, read_state
from .releases.library import Library
from .releases.sites import Site, SiteState
from .settings import Settings, redact
from .storage.blobs import Digest
from .storage.bringing import Brought, bring_blobs, bring_file, hash_file
from .storage.durable import locked, make_durable_folder, replace_durably, sync_folder
from .wording import plural, short_path

HEAD = "backup.json"
CONTENTS = "contents.json"
CODINGS = "codings.json"
RECORDS = "records.sqlite3"
FORMAT = 1
_ROUNDS = 20
_STATE = "state.json"
_OF_RELEASE = (".json", ".json.minisig", ".index")


class Head(msgspec.Struct, frozen=True):
    """What a backup is: ``snapshot`` is the one that is whole, "" for none yet."""

    format: int = FORMAT
    snapshot: str = ""


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot: when it was begun (seconds since 1970), by which version; its files with their SHA-256; its blobs.

    ``records``: where they are, and so whether they are in it. ``lost``: blobs that records name, and that were not there.
    """

    version: str
    begun: float
    records: str
    files: dict[str, str]
    released: list[Digest]
    uploaded: list[Digest]
    lost: list[Digest]


class BackupReport(msgspec.Struct):
    """What was done: blobs that came new, and their bytes; what the snapshot holds; what is wrong."""

    snapshot: str
    sites: int
    releases: int
    blobs: int
    new_blobs: int
    new_bytes: int
    records: str
    faults: list[str]


def back_up(settings: Settings, to: str, *, verify: bool, on_wait: Callable[[], None] | None = None) -> BackupReport:
    """Make or continue a backup in the folder ``to``; blocks. May be repeated, at any time and after being killed.

    ``verify``: read all blobs again, those that were there before, too. Raises ``BackupError`` for a folder that is no backup,
    or data of which nobody knows what is needed.
    """
    library = open_library(settings)
    _check_folders(library.folder, to)
    with locked(os.path.join(to, ".lock"), on_wait=on_wait), publishing_lock(library.folder, on_wait):
        head = read_head(to) or Head()
        replace_durably(os.path.join(to, HEAD), msgspec.json.encode(head) + b"\n")
        name = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(3)
        snapshot = _Snapshot(settings, library, to, name, verify=verify)
        contents = snapshot.make()
        replace_durably(os.path.join(to, HEAD), msgspec.json.encode(Head(FORMAT, name)) + b"\n")
        _prune(to, name, {*contents.released, *contents.uploaded})
    return snapshot.report(contents)


def read_head(folder: str) -> Head | None:
    """Return what ``backup.json`` says, or None if there is none. Raises ``BackupError`` for one of another version."""
    path = os.path.join(folder, HEAD)
    try:
        with open(path, "rb") as file:
            head = msgspec.json.decode(file.read(), type=Head)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise BackupError(f"{path} is damaged ({error}); name another folder") from error
    if head.format != FORMAT:
        raise BackupError(f"{path} has format {head.format}, and this version knows {FORMAT}; use a newer assetserver")
    return head


def _check_folders(data: str, to: str) -> None:
    if not os.path.isdir(data):
        raise BackupError(f"there is no data folder {short_path(data)}; if it is elsewhere, name it with --data")
    outer, inner = os.path.realpath(data), os.path.realpath(to)
    if inner == outer or inner.startswith(outer + os.sep) or outer.startswith(inner + os.sep):
        raise BackupError(
            f"{to} and the data folder {short_path(data)} hold one another; name a folder elsewhere, best on another disk"
        )
    if os.path.exists(to) and not os.path.isdir(to):
        raise BackupError(f"{to} is a file; name a folder")
    if os.path.isdir(to) and read_head(to) is None and any(name != ".lock" for name in os.listdir(to)):
        raise BackupError(f"{to} is not empty, and holds no backup; name an empty folder, or one that is not there yet")


class _Snapshot:
    """A snapshot that is being made in ``to``."""

    def __init__(self, settings: Settings, library: Library, to: str, name: str, *, verify: bool) -> None:
        self._settings = settings
        self._library = library
        self._name = name
        self._folder = os.path.join(to, "snapshots", name)
        self._blobs = open_local_blobs(os.path.join(to, "blobs"))
        self._verify = verify
        self._files: dict[str, str] = {}
        self._new = Brought()
        self._faults: list[str] = []
        self._counts = (0, 0)

    def make(self) -> Contents:
        begun = time.time()
        make_durable_folder(self._folder)
        released = self._bring_releases()
        uploaded, lost, records = self._bring_records()
        self._write("settings.json", msgspec.json.format(msgspec.json.encode(redact(self._settings)), indent=1))
        keys = os.path.join(self._library.folder, KEY_FILE)
        if os.path.exists(keys):
            self._bring(keys, KEY_FILE, mode=0o600)
        contents = Contents(
            version=version("assetserver"),
            begun=begun,
            records=records,
            files=dict(self._files),
            released=sorted(released),
            uploaded=sorted(uploaded),
            lost=sorted(lost),
        )
        self._write(CONTENTS, msgspec.json.encode(contents))
        for folder, _, _ in os.walk(self._folder):
            sync_folder(folder)
        return contents

    def report(self, contents: Contents) -> BackupReport:
        sites, releases = self._counts
        blobs = len({*contents.released, *contents.uploaded})
        return BackupReport(
            self._name, sites, releases, blobs, self._new.count, self._new.bytes, contents.records, self._faults
        )

    def _bring_releases(self) -> set[Digest]:
        """Bring what the sites serve and keep; return its blobs."""
        sites = [site for name in self._library.site_names() if (site := open_site(self._library, name))]
        try:
            states = [read_state(site) for site in sites]
            live = find_live(self._library, states)
        except PublishError as error:
            raise BackupError(f"the releases cannot be backed up: {error}") from error
        self._counts = (len(sites), len(live.releases))
        blobs = {Digest(one) for one in live.blobs}
        self._store(blobs, "release")
        folder = os.path.join(self._library.folder, "releases")
        for release in sorted(live.releases):
            for suffix in _OF_RELEASE:
                with suppress(FileNotFoundError):
                    self._bring(os.path.join(folder, release + suffix), f"releases/{release}{suffix}")
        codings = {digest: self._library.codings_of(Digest(digest)) for digest in sorted(live.files)}
        self._write(CODINGS, msgspec.json.encode({one: forms for one, forms in codings.items() if forms is not None}))
        for site, state in zip(sites, states, strict=True):
            self._bring_site(site, state)
        return blobs

    def _bring_site(self, site: Site, state: SiteState) -> None:
        """Write the state that was read; the indexes beside it are copied, and whichever is missing is made again."""
        for entry in sorted(os.listdir(site.folder)):
            if entry.startswith("kept-"):
                with suppress(FileNotFoundError):
                    self._bring(os.path.join(site.folder, entry), f"sites/{site.name}/{entry}")
        self._write(f"sites/{site.name}/{_STATE}", msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")

    def _bring_records(self) -> tuple[set[Digest], set[Digest], str]:
        """Bring the records and the blobs of uploads; return these, those that are lost, and where the records are."""
        source = open_media_blobs(self._settings)
        path = records_path(self._settings)
        if not path:
            found = {one.digest for one in source.list_blobs()}
            self._store(found, "upload")
            return found, set(), "postgresql"
        if not os.path.exists(path):
            return set(), set(), "none"
        target = os.path.join(self._folder, RECORDS)
        missing: set[Digest] = set()
        for _ in range(_ROUNDS):
            with suppress(FileNotFoundError):
                os.unlink(target)
            named = {Digest(one) for one in snapshot_records(self._settings, target, time.time())}
            before, missing = missing, set(self._store(named, "upload"))
            if lost := missing & before:  # named by two copies, and there in neither
                count = f"{len(lost):,} {plural(len(lost), 'blob')}"
                self._faults.append(f"{count} of uploads are lost, such as {min(lost)}: records name what is not there")
            if not missing - lost:
                self._files[RECORDS] = hash_file(target)
                return named - lost, lost, "sqlite"
        raise BackupError("uploads are removed faster than they can be copied; try again when less is going on")

    def _store(self, digests: set[Digest], kind: str) -> list[Digest]:
        """Bring blobs; return those that are not there."""
        source = self._library.blobs if kind == "release" else open_media_blobs(self._settings)
        brought = bring_blobs(source, self._blobs, digests, verify=self._verify)
        self._new.count += brought.count
        self._new.bytes += brought.bytes
        remedy = "assetserver verify names its files" if kind == "release" else "the upload has to be sent again"
        self._faults += [f"blob {digest} of a {kind} is damaged; {remedy}" for digest in brought.damaged]
        if kind == "release":
            self._faults += [f"blob {digest} of a release is not there; {remedy}" for digest in brought.missing]
        return brought.missing

    def _bring(self, source: str, name: str, *, mode: int = 0o644) -> None:
        self._files[name] = bring_file(source, os.path.join(self._folder, name), mode=mode)

    def _write(self, name: str, content: bytes) -> None:
        path = os.path.join(self._folder, name)
        replace_durably(path, content)
        self._files[name] = sha256(content).hexdigest()


def _prune(to: str, name: str, needed: set[Digest]) -> None:
    """Remove older snapshots, and blobs that only they had. What a kill leaves goes with the next backup."""
    folder = os.path.join(to, "snapshots")
    for other in os.listdir(folder):
        if other != name:
            shutil.rmtree(os.path.join(folder, other))
    blobs = open_local_blobs(os.path.join(to, "blobs"))
    for one in list(blobs.list_blobs()):
        if one.digest not in needed:
            blobs.delete(one.digest)
    blobs.sweep(0)
