"""Restoring: a backup becomes a data folder again. Everything is checked before a site or a record names it."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from .access.keyfile import KEY_FILE
from .backup import CODINGS, CONTENTS, RECORDS, Contents, read_head
from .data import data_folder, open_library, open_local_blobs, open_media_blobs, records_path
from .errors import BackupError
from .releases.library import CodedBlob
from .settings import Settings
from .storage.blobs import Digest
from .storage.bringing import FolderOfBlobs, bring_blobs, bring_file, hash_file
from .storage.durable import make_durable_folder, replace_durably, replace_quickly, sync_folder

MARK = ".restoring"
"""Stands in a data folder from the first step of a restore to its last."""
_NAMED = 3


class RestoreReport(msgspec.Struct):
    """What was restored, from the moment ``begun`` (seconds since 1970); ``lost``: what the backup had not, either."""

    snapshot: str
    begun: float
    sites: list[str]
    blobs: int
    bytes: int
    records: str
    lost: int


def restore(settings: Settings, source: str) -> RestoreReport:
    """Make the data folder of ``settings`` what the backup in ``source`` holds; blocks. May be repeated after being killed.

    Sites, which make something visible, come last. Raises ``BackupError`` for a folder that is not empty, for what is no whole
    backup, and for what is damaged: then nothing is served of what came.
    """
    name, contents = _read_contents(source)
    folder = data_folder(settings)
    _check_empty(folder)
    if RECORDS in contents.files:
        _check_no_records(folder, records_path(settings))
    make_durable_folder(folder)
    replace_durably(os.path.join(folder, MARK), b"a restore was begun here, and did not end; run it again\n")
    count, size = _bring_blobs(settings, source, contents)
    snapshot = os.path.join(source, "snapshots", name)
    sites = [path for path in contents.files if path.startswith("sites/")]
    for path in contents.files:
        if path.startswith("releases/"):
            _bring(snapshot, contents, path, os.path.join(folder, path))
    _bring_codings(settings, snapshot)
    if KEY_FILE in contents.files:
        _bring(snapshot, contents, KEY_FILE, os.path.join(folder, KEY_FILE), mode=0o600)
    if RECORDS in contents.files:
        _bring(snapshot, contents, RECORDS, records_path(settings), mode=0o600)
    for path in sites:
        _bring(snapshot, contents, path, os.path.join(folder, path))
    open_library(settings).confirm_folders()
    for one in {folder, *(os.path.dirname(os.path.join(folder, path)) for path in contents.files)}:
        if os.path.isdir(one):
            sync_folder(one)
    os.unlink(os.path.join(folder, MARK))
    sync_folder(folder)
    names = sorted({path.split("/")[1] for path in sites})
    return RestoreReport(name, contents.begun, names, count, size, contents.records, len(contents.lost))


def _read_contents(source: str) -> tuple[str, Contents]:
    head = read_head(source) if os.path.isdir(source) else None
    if head is None:
        raise BackupError(f"{source} holds no backup; name the folder that assetserver backup wrote to")
    if not head.snapshot:
        raise BackupError(f"the backup in {source} is not complete: its first run did not end; run assetserver backup again")
    path = os.path.join(source, "snapshots", head.snapshot, CONTENTS)
    try:
        with open(path, "rb") as file:
            return head.snapshot, msgspec.json.decode(file.read(), type=Contents)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise BackupError(f"the backup in {source} is damaged: {path}: {error}") from error


def _check_empty(folder: str) -> None:
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(os.path.join(folder, MARK)):
        raise BackupError(f"{folder} is not empty; restore into an empty folder, or one that is not there yet: --data")
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise BackupError(f"{folder} is a file; name a folder with --data")


def _check_no_records(folder: str, path: str) -> None:
    """Raise ``BackupError`` if records that are kept elsewhere would be written over."""
    if not path:
        raise BackupError("the records of this backup are SQLite's, and database.url names PostgreSQL; leave it out")
    if os.path.exists(path) and not os.path.exists(os.path.join(folder, MARK)):
        raise BackupError(f"{path} is there already; move it away, or leave database.url out")


def _bring_blobs(settings: Settings, source: str, contents: Contents) -> tuple[int, int]:
    stored = open_local_blobs(os.path.join(source, "blobs"))
    released, uploaded = open_library(settings).blobs, open_media_blobs(settings)
    parts: list[tuple[FolderOfBlobs, list[Digest]]] = [(released, contents.released), (uploaded, contents.uploaded)]
    count = size = 0
    for target, digests in parts:
        brought = bring_blobs(stored, target, digests, verify=True)
        count += len(digests)
        size += brought.bytes
        if wrong := [*brought.missing, *brought.damaged]:
            named = ", ".join(wrong[:_NAMED])
            raise BackupError(
                f"{len(wrong):,} of the backup's blobs are missing or damaged, such as {named}; nothing is served of what "
                "came. Mend the backup where its data still are: assetserver backup --verify"
            )
    return count, size


def _bring(snapshot: str, contents: Contents, name: str, target: str, *, mode: int = 0o644) -> None:
    """Copy a file of the snapshot, and look whether it is what was written there."""
    source = os.path.join(snapshot, name)
    with suppress(FileNotFoundError):
        if hash_file(source) == contents.files[name] == bring_file(source, target, mode=mode):
            return
    raise BackupError(f"the backup is damaged: {source} is not what was written; nothing is served of what came")


def _bring_codings(settings: Settings, snapshot: str) -> None:
    """Write the records of compressed forms, which can be made again: one sync in the end is enough."""
    folder = os.path.join(data_folder(settings), "codings")
    with open(os.path.join(snapshot, CODINGS), "rb") as file:
        codings = msgspec.json.decode(file.read(), type=dict[Digest, tuple[CodedBlob, ...]])
    for digest, forms in codings.items():
        replace_quickly(os.path.join(folder, digest[:2], f"{digest}.json"), msgspec.json.encode(forms))
    os.sync()
