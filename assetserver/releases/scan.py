"""A folder on disk → the files that a release of it holds, in canonical order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from assetserver.errors import PublishError
from assetserver.semantics.representation import SUFFIXES
from assetserver.semantics.targets import AssetPath, RefusedTarget, format_target, parse_target
from assetserver.storage.signatures import Signature, sign

LIMIT_FILES = 200_000


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to publish: its canonical path, where it lies, and what it was when it was found."""

    path: AssetPath
    full: str
    signature: Signature

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.signature.size


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds: files to publish, sorted by path; names left out, for they begin with a dot; and its rule files.

    ``rule_files``: ``_headers`` and ``_redirects`` by name, if they are there: they are read, and not served.
    """

    files: tuple[FoundFile, ...]
    left_out: tuple[str, ...] = ()
    rule_files: Mapping[str, FoundFile] = field(default_factory=dict)


def scan_folder(folder: str, rule_names: tuple[str, ...] = ()) -> Scan:
    """Return what is below ``folder``; files at its top that have one of ``rule_names`` are rules.

    Left out are names that begin with a dot (``.well-known`` at the top excepted) and sidecars of files that are there: the
    server makes better ones. Links to files inside the folder are followed.

    Raises ``PublishError`` for what cannot be a URL (a name that is not UTF-8, or longer than 255 bytes), for links that leave
    the folder, for devices and the like, for more than 200,000 files, and if the folder is not there or is empty.
    """
    if not os.path.isdir(folder):
        raise PublishError(f"{folder} is not a folder; name the one that your build writes")
    root = os.path.realpath(folder)
    left_out: list[str] = []
    found = sorted(_walk(root, root, "", left_out), key=lambda one: one.path)
    names = {one.path for one in found}
    rules: dict[str, FoundFile] = {one.path: one for one in found if one.path in rule_names}
    kept = tuple(one for one in found if one.path not in rules and not _is_sidecar(one.path, names))
    if not kept:
        raise PublishError(f"{folder} holds no files to publish")
    if len(kept) > LIMIT_FILES:
        raise PublishError(f"{folder} holds {len(kept):,} files; a release may hold {LIMIT_FILES:,}")
    return Scan(kept, tuple(sorted(left_out)), rules)


def _walk(root: str, folder: str, prefix: str, left_out: list[str]) -> Iterator[FoundFile]:
    try:
        listed = os.scandir(folder)
    except OSError as error:
        raise PublishError(f"{prefix!r} cannot be read: {error.strerror}") from error
    with listed as entries:
        for entry in entries:
            if entry.name.startswith(".") and not (prefix == "" and entry.name == ".well-known"):
                left_out.append(prefix + entry.name)
                continue
            path = prefix + entry.name
            if entry.is_symlink():
                yield from _follow(root, entry.path, path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk(root, entry.path, path + "/", left_out)
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
    return FoundFile(target.path, full, sign(status))


def _is_sidecar(path: str, names: set[AssetPath]) -> bool:
    stem, suffix = os.path.splitext(path)
    return suffix in SUFFIXES.values() and stem in names
