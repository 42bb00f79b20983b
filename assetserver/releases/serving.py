"""What delivery asks of releases: the index to serve now, and a mark that changes with it."""

from __future__ import annotations

import os

from .activation import build_index, index_path
from .catalog import Catalog
from .library import Library
from .sites import Site


class ActiveIndex:
    """The index of the active release of ``site``. Calling it costs one stat while nothing changes."""

    def __init__(self, library: Library, site: Site) -> None:
        self._library = library
        self._site = site
        self._mark: object = None
        self._catalog: Catalog | None = None

    def __call__(self) -> tuple[object, Catalog | None]:
        """Return the mark and the index; None where nothing is active."""
        mark = self._look()
        if mark != self._mark:
            state = self._site.read()
            catalog = None
            if state.active is not None:
                build_index(self._library, self._site, state)
                catalog = Catalog(index_path(self._site, state))
            self._mark, self._catalog = mark, catalog
        return self._mark, self._catalog

    def _look(self) -> object:
        try:
            status = os.stat(self._site.path)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
