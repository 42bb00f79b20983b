"""What a path leads to on disk, right now: the one place that resolves names, and that keeps everyone inside the roots."""

from __future__ import annotations

import errno
import logging
import os
import stat
from dataclasses import dataclass
from enum import Enum

from assetserver.semantics.representation import SUFFIXES, ContentCoding
from assetserver.semantics.targets import AssetPath
from assetserver.storage.signatures import Signature, sign

from .files import raise_if_overloaded

logger = logging.getLogger(__name__)

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ESTALE})

_FAKE_TIMES = frozenset({0, 1, 315532800, 499162500})
"""Times that say nothing: epoch 0 and 1 (Nix, Bazel, reproducible images), 1980-01-01 (zip), 1985-10-26T08:15Z (npm)."""

_YEAR_10000 = 253402300800

_O_PATH = getattr(os, "O_PATH", 0) if os.path.isdir("/proc/self/fd") else 0
_DELETED = " (deleted)"
_ATTEMPTS = 5
"""How often to look again when what was found is gone or elsewhere: it may have been renamed between two system calls."""


class Kind(Enum):
    """What a path leads to."""

    FILE = "file"
    FOLDER = "folder"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Probe:
    """The state of a path on disk; equal probes are the same state, so nothing has to be read again.

    ``full`` is the path of the file or folder; ``sidecars`` the signature of each sidecar that lies beside the file, in the
    order of ``SUFFIXES``, None where there is none.
    """

    kind: Kind
    full: str = ""
    signature: Signature | None = None
    sidecars: tuple[Signature | None, ...] = ()


MISSING = Probe(Kind.MISSING)


@dataclass(frozen=True, slots=True)
class Roots:
    """The folders that are served, first match wins, and which names in them exist for the outside."""

    folders: tuple[str, ...]
    follow_symlink: bool = False
    dotfiles: bool = False

    def probe(self, path: AssetPath) -> Probe:
        """Return what ``path`` leads to.

        Missing are also: names that begin with a dot (``.well-known`` at the root excepted, RFC 8615), links that leave their
        root, what may not be read, anything but files and folders, and the sidecars of existing files.

        Raises ``OverloadedError`` when the process is out of descriptors or memory: that is no answer about the path.
        """
        if not self.shows(path):
            return MISSING
        for folder in self.folders:
            found = self._try_in(folder, path)
            if found.kind is not Kind.MISSING:
                return found
        return MISSING

    def shows(self, path: str) -> bool:
        """Tell whether the names in ``path`` exist for the outside."""
        if self.dotfiles or ("." not in path):
            return True
        segments = path.split("/")
        return not any(
            segment.startswith(".") and not (index == 0 and segment == ".well-known") for index, segment in enumerate(segments)
        )

    def find_folders(self, path: AssetPath) -> list[Probe]:
        """Return the folder at ``path`` in each root that has one, for a listing; raises as ``probe`` does."""
        found = [self._try_in(folder, path) for folder in self.folders] if self.shows(path) else []
        return [one for one in found if one.kind is Kind.FOLDER]

    def _try_in(self, folder: str, path: AssetPath) -> Probe:
        try:
            return self._probe_in(folder, path)
        except OSError as error:
            raise_if_overloaded(error, "look up a file")
            if error.errno not in _ABSENT or not os.path.isdir(folder):
                logger.warning("%s is answered with 404: %s in %s", "/" + path, error.strerror, folder)
            return MISSING

    def _probe_in(self, folder: str, path: AssetPath) -> Probe:
        if self.follow_symlink:
            full = os.path.join(folder, path) if path else folder
            status = os.stat(full)
        else:
            located = _locate_inside(folder, path)
            if located is None:
                return MISSING
            full, status = located
        if stat.S_ISDIR(status.st_mode):
            return Probe(Kind.FOLDER, full, sign(status)) if os.access(full, os.X_OK) else MISSING
        if not stat.S_ISREG(status.st_mode) or path.endswith("/") or not os.access(full, os.R_OK):
            return MISSING
        if _is_sidecar(full):
            return MISSING
        sidecars = tuple(_sign_sidecar(full, suffix) for suffix in SUFFIXES.values())
        return Probe(Kind.FILE, full, sign(status), sidecars)


def last_modified_of(signature: Signature, now: int) -> int | None:
    """Return the modification time in seconds since 1970, or None where it says nothing.

    Not for times that build tools fake, since two versions would share them, nor for times in the future, which must not be
    sent (RFC 9110 §8.8.2.1).
    """
    seconds = signature.mtime_ns // 1_000_000_000
    if seconds in _FAKE_TIMES or not 0 < seconds <= min(now, _YEAR_10000):
        return None
    return seconds


def sidecar_path(full: str, coding: ContentCoding) -> str:
    """Return where the sidecar of the file at ``full`` lies."""
    return full + SUFFIXES[coding]


def _locate_inside(folder: str, path: AssetPath) -> tuple[str, os.stat_result] | None:
    """Return the real path and the status of ``path`` in ``folder``, or None if that is outside."""
    for _ in range(_ATTEMPTS):
        root, full, status = _locate(folder, path) if _O_PATH else _locate_by_name(folder, path)
        inside = full == root or full.startswith(root.rstrip("/") + "/")
        if inside and not (full.endswith(_DELETED) and not os.path.exists(full)):
            return full, status
    return None


def _locate(folder: str, path: AssetPath) -> tuple[str, str, os.stat_result]:
    """Return the real paths of ``folder`` and of ``path`` in it, and the status of the latter.

    Through descriptors, since between resolving a name and looking at it a link may be put in its place. The root is opened
    first and once: if it is a link that a deploy swaps meanwhile, the answer is that of one release.
    """
    root = os.open(folder, _O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        found = os.open(path or ".", _O_PATH | os.O_CLOEXEC, dir_fd=root)
        try:
            return os.readlink(f"/proc/self/fd/{root}"), os.readlink(f"/proc/self/fd/{found}"), os.fstat(found)
        finally:
            os.close(found)
    finally:
        os.close(root)


def _locate_by_name(folder: str, path: AssetPath) -> tuple[str, str, os.stat_result]:
    """Do the same where the system does not tell what a descriptor is open on; what is renamed meanwhile may be mistaken."""
    root = os.path.realpath(folder, strict=True)
    full = os.path.realpath(os.path.join(root, path) if path else root, strict=True)
    return root, full, os.stat(full)


def _is_sidecar(full: str) -> bool:
    """Tell whether the file is the compressed form of a file beside it."""
    stem, suffix = os.path.splitext(full)
    return suffix in SUFFIXES.values() and os.path.isfile(stem)


def _sign_sidecar(full: str, suffix: str) -> Signature | None:
    try:
        status = os.lstat(full + suffix)
    except OSError:
        return None
    return sign(status) if stat.S_ISREG(status.st_mode) else None
