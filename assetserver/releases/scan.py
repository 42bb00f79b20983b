"""A folder on disk → the files that a release of it holds, in canonical order."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from assetserver.errors import PublishError
from assetserver.semantics.representation import SUFFIXES
from assetserver.semantics.targets import AssetPath, RefusedTarget, format_target, parse_target
from assetserver.storage.blobs import Digest
from assetserver.storage.signatures import Signature, sign

LIMIT_FILES = 200_000
_WELL_KNOWN = ".well-known"


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


def _nowhere(_: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a build holds: files to publish, sorted by path; names left out, for they begin with a dot; and its rule files.

    ``rule_files``: ``_headers`` and ``_redirects`` by name, if they are there: they are read, and not served. ``place_of``:
    where any file of the build lies on disk, by its path in the build, also one that is left out. ``memory``: under which name
    it is remembered what the files are. ``digests``: what files must hold, where someone else has said so.
    """

    files: tuple[FoundFile, ...]
    left_out: tuple[str, ...] = ()
    rule_files: Mapping[str, FoundFile] = field(default_factory=dict)
    place_of: Callable[[str], str] = _nowhere
    memory: str = ""
    digests: Mapping[str, Digest] = field(default_factory=dict)


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
    found = {one.path: one for one in _walk(root, root, "", left_out)}
    rules: dict[str, FoundFile] = {path: one for path, one in found.items() if path in rule_names}
    kept = tuple(found[path] for path in choose_paths(found, rule_names, folder))
    return Scan(kept, tuple(sorted(left_out)), rules, partial(os.path.join, folder), root)


def choose_paths(paths: Collection[AssetPath], rule_names: tuple[str, ...], where: str) -> list[AssetPath]:
    """Return which of ``paths`` (canonical, none of them left out by ``hidden_part``) are published, sorted.

    Not rules, nor sidecars of files that are there. Raises ``PublishError`` if none or more than 200,000 remain; ``where`` is
    the folder, in words.
    """
    names = set(paths)
    kept = sorted(path for path in names if path not in rule_names and not _is_sidecar(path, names))
    if not kept:
        raise PublishError(f"{where} holds no files to publish")
    if len(kept) > LIMIT_FILES:
        raise PublishError(f"{where} holds {len(kept):,} files; a release may hold {LIMIT_FILES:,}")
    return kept


def hidden_part(path: str) -> str:
    """Return ``path`` up to its first name that begins with a dot, which is left out, file or folder; "" if there is none."""
    names = path.split("/")
    for count, name in enumerate(names, 1):
        if name.startswith(".") and not (count == 1 and name == _WELL_KNOWN):
            return "/".join(names[:count])
    return ""


def check_path(path: str) -> AssetPath:
    """Return ``path`` as the canonical path of a file. Raises ``PublishError`` for one that can have no URL."""
    try:
        target = parse_target(format_target(path))
    except UnicodeError as error:
        raise PublishError(f"{path!r} has a name that is not UTF-8; rename it") from error
    if isinstance(target, RefusedTarget):
        raise PublishError(f"{path!r} cannot have a URL ({target.reason}); rename it")
    return target.path


def _walk(root: str, folder: str, prefix: str, left_out: list[str]) -> Iterator[FoundFile]:
    try:
        listed = os.scandir(folder)
    except OSError as error:
        raise PublishError(f"{prefix!r} cannot be read: {error.strerror}") from error
    with listed as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith(".") and not (prefix == "" and entry.name == _WELL_KNOWN):
                left_out.append(path)
                continue
            if entry.is_symlink():
                yield from _follow(root, entry.path, path)
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk(root, entry.path, path + "/", left_out)
            else:
                yield describe_file(entry.path, path)


def _follow(root: str, full: str, path: str) -> Iterator[FoundFile]:
    real = os.path.realpath(full)
    if not real.startswith(root + os.sep):
        raise PublishError(f"{path!r} is a link out of the folder, to {os.readlink(full)!r}; copy the file, or remove the link")
    if os.path.isdir(real):
        raise PublishError(f"{path!r} is a link to a folder; publish the folder once, or copy it")
    yield describe_file(real, path)


def describe_file(full: str, path: str) -> FoundFile:
    """Return the file at ``full``, which is to be published as ``path``. Raises ``PublishError`` for what is no file."""
    try:
        status = os.stat(full)
    except OSError as error:
        raise PublishError(f"{path!r} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise PublishError(f"{path!r} is neither a file nor a folder; remove it")
    return FoundFile(check_path(path), full, sign(status))


def _is_sidecar(path: str, names: set[AssetPath]) -> bool:
    stem, suffix = os.path.splitext(path)
    return suffix in SUFFIXES.values() and stem in names
