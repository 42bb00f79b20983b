"""Activation: a release, and the fingerprinted names of those kept beside it, become what a site serves, in one step.

Two indexes make what is served. That of the active release is made when it is published. That of the kept names depends on
which releases are kept, not on which is active, and is made when one is added or goes: so activating writes only the state.
Kept names keep old tabs alive: a page of the release before still finds its lazy chunks. The active release always wins.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import sha256

from assetserver.errors import PublishError, ReleaseMissingError
from assetserver.storage.blobs import Digest
from assetserver.storage.durable import replace_durably

from .catalog import Catalog, CatalogEntry, encode_catalog
from .library import CodedBlob, Library
from .manifest import Manifest, ReleaseId
from .names import judge_names
from .siterules import encode_rules
from .sites import Site, SiteState, activate, add_release

logger = logging.getLogger(__name__)

CheckManifest = Callable[[ReleaseId], None]
"""Raises ``PublishError`` for a release that may not go live, such as one that nobody trusted has signed."""


def activate_release(
    library: Library,
    site: Site,
    release: ReleaseId,
    *,
    if_active: str | None = None,
    going_back: bool = False,
    check: CheckManifest | None = None,
    owes_purge: bool = False,
) -> tuple[SiteState, SiteState]:
    """Make ``release`` what ``site`` serves; return the states before and after. Every worker sees it within a second.

    The indexes are durable before the state names the release. ``going_back``: what was active after ``release`` is history no
    more. ``owes_purge``: caches in front are to be purged, see ``sites.activate``. May be repeated.

    Raises ``ConflictError`` and ``LockedError`` as ``sites.activate`` does, ``ReleaseMissingError`` if a blob of the release is
    gone, and what ``check`` raises.
    """
    manifest = library.load_manifest(release)
    if check is not None:
        check(release)
    before = site.read()

    def how(state: SiteState) -> SiteState:
        nonlocal before
        before = state
        after = activate(state, release, if_active=if_active, going_back=going_back, owes_purge=owes_purge)
        check_whole(library, manifest)  # under the lock, so that nothing is collected meanwhile
        build_index(library, site, after)
        return after

    after = site.change(how)
    return before, after


def keep_release(library: Library, site: Site, release: ReleaseId, message: str = "", alias: str = "") -> SiteState:
    """Keep ``release`` with ``site``, not live yet; return the state after. May be repeated.

    Its fingerprinted names stay reachable from now on, so the index is written first: no worker has to.
    """

    def how(state: SiteState) -> SiteState:
        after = add_release(state, release, message, alias)
        build_index(library, site, after)
        return after

    return site.change(how)


def build_index(library: Library, site: Site, state: SiteState) -> None:
    """Write what is missing, or cannot be used, of the indexes that ``state`` serves. May be repeated.

    They are named by what is in them, so one that is there and sound stays.
    """
    for one in state.releases:
        if not is_index(library.index_path(one.id)):
            try:
                write_release_index(library, library.load_manifest(one.id))
            except (PublishError, ReleaseMissingError) as error:
                if one.id == state.active:
                    raise
                logger.warning("old tabs of it will miss files: %s", error)  # it must not keep a sound one from going live
    path = kept_path(site, state)
    if state.releases and not is_index(path):
        kept = judge_names([list(_entries(library, one.id)) for one in state.releases])
        replace_durably(path, encode_catalog(kept.values()))


def write_release_index(
    library: Library, manifest: Manifest, forms: Callable[[Digest], tuple[CodedBlob, ...]] | None = None
) -> None:
    """Write the index of one release. ``forms`` gives the compressed forms of a blob, if they are at hand."""
    find_forms = forms or (lambda digest: library.codings_of(digest) or ())
    entries = (
        CatalogEntry(
            path,
            bytes.fromhex(record.digest),
            record.size,
            record.fingerprint,
            tuple((one.coding, bytes.fromhex(one.digest), one.size) for one in find_forms(record.digest)),
            manifest.links.get(path, ()),
        )
        for path, record in manifest.files.items()
    )
    _write_index(library.index_path(manifest.id), encode_catalog(entries, encode_rules(manifest.rules)))


def _write_index(path: str, content: bytes) -> None:
    with suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read() == content:
            return
    replace_durably(path, content)


def is_index(path: str) -> bool:
    """Tell whether a sound index of this version is at ``path``."""
    try:
        Catalog(path)
    except (FileNotFoundError, PublishError):
        return False
    return True


def kept_path(site: Site, state: SiteState) -> str:
    """Return where the index of the names kept by ``state`` lies."""
    kept = sha256("".join(one.id for one in state.releases).encode()).hexdigest()[:24]
    return os.path.join(site.folder, f"kept-{kept}")


def check_whole(library: Library, manifest: Manifest) -> None:
    """Raise ``ReleaseMissingError`` unless every blob of the release is there in its size."""
    for path, record in manifest.files.items():
        size = library.blobs.size_of(record.digest)
        if size != record.size:
            state = "gone" if size is None else f"{size} bytes long, not {record.size}"
            raise ReleaseMissingError(f"{path} cannot be served: its blob {record.digest[:12]} is {state}; publish it again")


def _entries(library: Library, release: ReleaseId) -> Iterable[CatalogEntry]:
    path = library.index_path(release)
    return Catalog(path) if is_index(path) else ()
