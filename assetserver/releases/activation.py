"""Activation: a release, and the fingerprinted names of those kept beside it, become what a site serves, in one step.

The union keeps old tabs alive: a page of the release before still finds its lazy chunks. Only names that the content proves, or
the build declares, come from old releases; the active one wins.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from hashlib import sha256

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.storage.durable import replace_durably

from .catalog import Catalog, CatalogEntry, encode_catalog
from .library import Library
from .manifest import FileRecord, Manifest, ReleaseId
from .sites import Site, SiteState, activate, add_release

logger = logging.getLogger(__name__)


def activate_release(
    library: Library, site: Site, release: ReleaseId, *, if_active: str | None = None, going_back: bool = False
) -> tuple[SiteState, SiteState]:
    """Make ``release`` what ``site`` serves; return the states before and after. Every worker sees it within a second.

    The index is durable before the state names it. ``going_back``: what was active after ``release`` is history no more. May be
    repeated. Raises ``ConflictError`` and ``LockedError`` as ``sites.activate`` does, and ``ReleaseMissingError`` if a blob of
    the release is gone.
    """
    check_whole(library, library.load_manifest(release))
    before = site.read()

    def how(state: SiteState) -> SiteState:
        nonlocal before
        before = state
        after = activate(state, release, if_active=if_active, going_back=going_back)
        build_index(library, site, after)
        return after

    after = site.change(how)
    return before, after


def keep_release(library: Library, site: Site, release: ReleaseId, message: str = "", alias: str = "") -> SiteState:
    """Keep ``release`` with ``site``, not live yet; return the state after. May be repeated.

    Its fingerprinted names join the union, so the index is written first: no worker has to.
    """

    def how(state: SiteState) -> SiteState:
        after = add_release(state, release, message, alias)
        build_index(library, site, after)
        return after

    return site.change(how)


def build_index(library: Library, site: Site, state: SiteState) -> None:
    """Write the index that ``state`` serves, beside it; named by the releases in it, so the same again is the same file.

    One that is there stays, unless it cannot be used: another version of this program wrote it, or the disk damaged it.
    """
    path = index_path(site, state)
    if state.active is None or _is_index(path):
        return
    replace_durably(path, encode_catalog(_union(library, state)))


def _is_index(path: str) -> bool:
    try:
        Catalog(path)
    except (FileNotFoundError, PublishError):
        return False
    return True


def index_path(site: Site, state: SiteState) -> str:
    """Return where the index of ``state`` lies: it depends on the active release and on which are kept."""
    kept = "".join(one.id for one in state.releases)
    name = ReleaseId(f"{state.active}-{hash_names(kept)}")
    return os.path.join(site.folder, f"index-{name}")


def hash_names(kept: str) -> str:
    """Return a short digest of the kept releases' ids."""
    return sha256(kept.encode()).hexdigest()[:12]


def check_whole(library: Library, manifest: Manifest) -> None:
    """Raise ``ReleaseMissingError`` unless every blob of the release is there in its size."""
    for path, record in manifest.files.items():
        size = library.blobs.size_of(record.digest)
        if size != record.size:
            state = "gone" if size is None else f"{size} bytes long, not {record.size}"
            raise ReleaseMissingError(f"{path} cannot be served: its blob {record.digest[:12]} is {state}; publish it again")


def _union(library: Library, state: SiteState) -> Iterable[CatalogEntry]:
    assert state.active is not None  # noqa: S101 - asked by the caller
    active = library.load_manifest(state.active)
    served: dict[str, FileRecord] = dict(active.files)
    for kept in reversed(state.releases):
        for path, record in _files_of_kept(library, kept.id):
            if record.fingerprint and path not in served:
                served[path] = record
    for path, record in served.items():
        yield _describe(library, path, record)


def _files_of_kept(library: Library, release: ReleaseId) -> Iterable[tuple[str, FileRecord]]:
    """Return the files of an old release; one that is damaged must not keep a sound one from going live."""
    try:
        return library.load_manifest(release).files.items()
    except (PublishError, ReleaseMissingError) as error:
        logger.warning("old tabs of it will miss files: %s", error)
        return ()


def _describe(library: Library, path: str, record: FileRecord) -> CatalogEntry:
    forms = tuple((one.coding, bytes.fromhex(one.digest), one.size) for one in library.codings_of(record.digest) or ())
    return CatalogEntry(path, bytes.fromhex(record.digest), record.size, bool(record.fingerprint), forms)
