"""A folder on disk → the files that a release of it holds, in canonical order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from assetserver.errors import PublishError
from assetserver.semantics.representation import SUFFIXES
from assetserver.semantics.targets import AssetPath, RefusedTarget, format_target, parse_target

LIMIT_FILES = 200_000


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to publish: its canonical path, where it lies, and its size in bytes."""

    path: AssetPath
    full: str
    size: int


def scan_folder(folder: str) -> list[FoundFile]:
    """Return the files below ``folder``, sorted by path.

    Left out are names that begin with a dot (``.well-known`` at the top excepted) and sidecars of files that are there: the
    server makes better ones. Links to files inside the folder are followed.

    Raises ``PublishError`` for what cannot be a URL (a name that is not UTF-8, or longer than 255 bytes), for links that leave
    the folder, for devices and the like, for more than 200,000 files, and if the folder is not there or is empty.
    """
    if not os.path.isdir(folder):
        raise PublishError(f"{folder} is not a folder")
    root = os.path.realpath(folder)
    found = sorted(_walk(root, root, ""), key=lambda one: one.path)
    names = {one.path for one in found}
    kept = [one for one in found if not _is_sidecar(one.path, names)]
    if not kept:
        raise PublishError(f"{folder} holds no files to publish")
    if len(kept) > LIMIT_FILES:
        raise PublishError(f"{folder} holds {len(kept):,} files; a release may hold {LIMIT_FILES:,}")
    return kept


def _walk(root: str, folder: str, prefix: str) -> Iterator[FoundFile]:
    try:
        listed = os.scandir(folder)
    except OSError as error:
        raise PublishError(f"{prefix!r} cannot be read: {error.strerror}") from error
    with listed as entries:
        for entry in entries:
            if entry.name.startswith(".") and not (prefix == "" and entry.name == ".well-known"):
                continue
            path = prefix + entry.name
            if entry.is_symlink():
                yield from _follow(root, entry.path, path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk(root, entry.path, path + "/")
            else:
                yield _describe(entry.path, path)


def _follow(root: str, full: str, path: str) -> Iterator[FoundFile]:
    real = os.path.realpath(full)
    if not real.startswith(root + os.sep):
        raise PublishError(f"{path!r} is a link out of the folder, to {os.readlink(full)!r}; copy the file, or remove the link")
    if os.path.isdir(real):
        raise PublishError(f"{path!r} is a link to a folder; publish the folder once, or copy it")
    yield _describe(real, path)


def _describe(full: str, path: str) -> FoundFile:
    try:
        status = os.stat(full)
    except OSError as error:
        raise PublishError(f"{path!r} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise PublishError(f"{path!r} is neither a file nor a folder; remove it")
    try:
        target = parse_target(format_target(path))
    except UnicodeError as error:
        raise PublishError(f"{path!r} has a name that is not UTF-8; rename it") from error
    if isinstance(target, RefusedTarget):
        raise PublishError(f"{path!r} cannot have a URL ({target.reason}); rename it")
    return FoundFile(target.path, full, status.st_size)


def _is_sidecar(path: str, names: set[AssetPath]) -> bool:
    stem, suffix = os.path.splitext(path)
    return suffix in SUFFIXES.values() and stem in names
