"""What delivery asks of releases: the index to serve now, a mark that changes with it, and a single release to look at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property

from .activation import build_index, is_index, kept_path, write_release_index
from .catalog import Catalog, CatalogEntry, key_of
from .dictionaries import is_dictionary
from .library import Library
from .manifest import ReleaseId
from .siterules import SiteRules, decode_rules
from .sites import Site, visited_releases

_DICTIONARY_RELEASES = 10
"""Releases whose files count as dictionaries: as many as ``gc`` keeps, if nobody tells it otherwise."""


class ServedIndex:
    """A release, and the names that ``kept`` keeps reachable beside it. ``digests``: paths of what may be dictionaries.

    ``release`` is its id.
    """

    def __init__(self, release: Catalog, kept: Catalog | None = None, digests: tuple[str, ...] = ()) -> None:
        self._release = release
        self._kept = kept
        self._digests = digests
        self.release = os.path.basename(release.path).removesuffix(".index")

    def __len__(self) -> int:
        """Return the number of files of the release itself."""
        return len(self._release)

    def __iter__(self) -> Iterator[CatalogEntry]:
        return iter(self._release)

    def get(self, path: str) -> CatalogEntry | None:
        """Return what is served at ``path``, or None. What other releases show of a name counts for this one, too."""
        own = self._release.get(path)
        kept = None if self._kept is None else self._kept.get(path)
        if own is None or kept is None:
            return own or kept
        return own.because(kept.reason) if kept.digest == own.digest else own

    def may_have(self, path: str) -> bool:
        """Tell whether something may be served at ``path``; False is certain. No read of a disk."""
        key = key_of(path)
        return self._release.may_have(key) or (self._kept is not None and self._kept.may_have(key))

    def is_dictionary(self, digest: bytes) -> bool:
        """Tell whether a client of this site may hold the file with this SHA-256, and deltas may be made against it. Blocks."""
        return is_dictionary(self._digests, digest)

    @cached_property
    def rules(self) -> SiteRules:
        """The rules of the release."""
        return decode_rules(self._release.rules)


class ActiveIndex:
    """The index of the active release of ``site``. Calling it costs one stat while nothing changes."""

    def __init__(self, library: Library, site: Site) -> None:
        self._library = library
        self._site = site
        self._mark: object = None
        self._index: ServedIndex | None = None

    def __call__(self) -> tuple[object, ServedIndex | None]:
        """Return the mark and the index; None where nothing is active."""
        mark = self._look()
        if mark != self._mark:
            state = self._site.read()
            index = None
            if state.active is not None:
                build_index(self._library, self._site, state)
                digests = tuple(map(self._library.digests_path, visited_releases(state)[:_DICTIONARY_RELEASES]))
                index = ServedIndex(
                    Catalog(self._library.index_path(state.active)), Catalog(kept_path(self._site, state)), digests
                )
            self._mark, self._index = mark, index
        return self._mark, self._index

    def _look(self) -> object:
        try:
            status = os.stat(self._site.path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def open_release(library: Library, release: ReleaseId, beside: Site | None = None) -> ServedIndex:
    """Return the index of a kept release, alone or ``beside`` the others of a site. Raises what ``load_manifest`` does."""
    path = library.index_path(release)
    if not is_index(path):
        write_release_index(library, library.load_manifest(release))
    return ServedIndex(Catalog(path), Catalog(kept_path(beside, beside.read())) if beside else None)


def explain_names(library: Library, site: Site, release: ReleaseId) -> dict[str, str]:
    """Return which names of a kept release are taken for fingerprints, and why, in the light of all that ``site`` keeps."""
    index = open_release(library, release, site)
    reasons = {entry.path: found.reason for entry in index if entry.reason and (found := index.get(entry.path))}
    return dict(sorted(reasons.items()))
