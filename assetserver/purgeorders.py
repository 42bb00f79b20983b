"""What these settings have purged: which URLs and tags of which caches, after an activation or by hand.

An activation records what it owes in the state that it writes, in one step with it; whoever does jobs of the kind ``purge``
turns that into jobs. So who activates opens no database, and killed at any moment, nothing is forgotten.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from .data import Records, served_sites
from .errors import AssetServerError, PublishError, ReleaseMissingError
from .jobs.job import NewJob
from .purgejobs import open_connector
from .purging.changes import find_changes
from .purging.connectors import split_url
from .purging.orders import order_purge
from .purging.places import Place
from .releases.library import Library
from .releases.manifest import Manifest, ReleaseId
from .releases.sites import MOST_UNPURGED, Site, SiteState, settle_purge
from .routes import cache_table
from .semantics.caching import CacheTable
from .semantics.mediatypes import media_type_of
from .semantics.targets import format_target
from .settings import Settings
from .settingtables import PurgeSettings, SiteSettings
from .storage.durable import locked

logger = logging.getLogger(__name__)

LOOK_S = 0.5
_LOCK = ".purging"

Unpurged = Sequence[Manifest | None]
"""What caches may hold answers of; None where that is not known any more."""


class Wanted:
    """What is to be purged of one cache: URLs, tags, and the roots of whole sites."""

    def __init__(self, one: PurgeSettings) -> None:
        self.one = one
        self.urls: list[str] = []
        self.tags: list[str] = []
        self.roots: list[str] = []

    def add_paths(self, settings: Settings, site: SiteSettings, place: Place, paths: Iterable[str]) -> None:
        """Add the files at ``paths``: by their tags, where that is wanted and they have any, else by their URLs.

        With pictures that are made of them on demand: those have the tags of their source.
        """
        table = cache_table(settings, site)
        urls: dict[str, None] = {}
        pictures: list[str] = []
        for path in paths:
            if self._add_tags(table, path):
                continue
            found = list(place.urls_of(path))
            urls |= dict.fromkeys(found)
            pictures.append(split_url(found[0])[1])
        if len(urls) > self.one.everything_above:
            self.roots.append(place.root)
        else:
            self.urls.extend(urls)
        self.add_pictures(settings, [place.origin], pictures)

    def add_elsewhere(self, settings: Settings, shown: Iterable[str], pictured: Iterable[str], paths: Iterable[str]) -> None:
        """Add what is at ``paths`` of no site, decoded and without a slash in front: by tags or URLs, as above.

        ``shown``: the origins where it is; ``pictured``: where pictures are made of it.
        """
        table = cache_table(settings)
        targets = [format_target(path) for path in paths if not self._add_tags(table, path)]
        self.urls.extend(origin + target for origin in shown for target in targets)
        self.add_pictures(settings, pictured, targets)

    def add_pictures(self, settings: Settings, origins: Iterable[str], targets: Iterable[str]) -> None:
        """Add all pictures that everybody may have made on demand of what is at ``targets``, paths of URLs as they are spelled.

        Those that want a signature are too many to be named, but by their tags.
        """
        images = settings.images
        sources = [one for one in targets if media_type_of(one).startswith("image/") and not one.endswith(".svg")]
        if not sources or not images.on_demand or images.signed:
            return
        from .ondemandurls import MOUNT, PictureUrls  # noqa: PLC0415 - who makes no pictures does without

        options = list(PictureUrls(settings).list_free())
        for origin in origins:
            if len(options) * len(sources) > self.one.everything_above:
                self.roots.append(f"{origin}{MOUNT}/")
            else:
                self.urls.extend(f"{origin}{MOUNT}/{option}{target}" for option in options for target in sources)

    def _add_tags(self, table: CacheTable, path: str) -> bool:
        """Add the tags of what is at ``path``, if that is wanted and it has any; return whether."""
        rule = table.find_rule(path) if self.one.by == "tag" else None
        if rule is None or not rule.tags:
            return False
        self.tags.extend(rule.tags)
        return True

    def list_jobs(self, cause: str, delay_s: float = 0.0) -> Iterator[NewJob]:
        """Yield the jobs that do it; ``cause`` and ``delay_s`` as in ``order_purge``."""
        batch = open_connector(self.one).batch
        yield from order_purge(
            self.one.name, cause, urls=self.urls, tags=self.tags, roots=self.roots, batch=batch, delay_s=delay_s
        )


def places_of(settings: Settings, site_name: str, one: PurgeSettings) -> Iterator[tuple[SiteSettings, Place]]:
    """Yield where visitors of a cache find a site; nothing for a site that it does not have, or that is not served."""
    if one.sites and site_name not in one.sites:
        return
    public = urlsplit(settings.server.public_url)
    for site in served_sites(settings):
        if site.name != site_name:
            continue
        origins = one.origins or ((settings.server.public_url,) if settings.server.public_url else ())
        if site.host:
            port = f":{public.port}" if public.port else ""
            own = f"{public.scheme or 'https'}://{site.host}{port}"
            origins = tuple(origin for origin in origins if urlsplit(origin).hostname == site.host) or (own,)
        yield from ((site, Place(origin, site.prefix, site.clean_urls)) for origin in origins)


def plan_purges(settings: Settings, library: Library, site_name: str, state: SiteState) -> list[NewJob]:
    """Return the jobs that purge what a site owes."""
    if state.active is None or not state.unpurged:
        return []
    active = library.load_manifest(state.active)
    unpurged = [None] if len(state.unpurged) >= MOST_UNPURGED else [_load(library, one) for one in state.unpurged]
    jobs: list[NewJob] = []
    for one in settings.purge:
        wanted = Wanted(one)
        for site, place in places_of(settings, site_name, one):
            paths = _find_all(unpurged, active, site.fallback)
            if paths is None:
                wanted.roots.append(place.root)
            else:
                wanted.add_paths(settings, site, place, paths)
        jobs += wanted.list_jobs(f"{site_name} {state.generation}", one.delay_s)
    return jobs


def _find_all(unpurged: Unpurged, active: Manifest, fallback: str) -> set[str] | None:
    paths: set[str] = set()
    for before in unpurged:
        found = None if before is None else find_changes(before, active, fallback)
        if found is None:
            return None
        paths |= found
    return paths


def _load(library: Library, release: str) -> Manifest | None:
    if not release:
        return Manifest()
    try:
        return library.load_manifest(ReleaseId(release))
    except (PublishError, ReleaseMissingError):
        return None


class PurgeDebts:
    """What the sites in ``library`` owe to caches, and its change into jobs. Any number of processes may do it.

    The records are opened, and made if need be, only once something is owed.
    """

    def __init__(self, settings: Settings, library: Library, records: Records) -> None:
        self._settings = settings
        self._library = library
        self._records = records
        self._seen: dict[str, tuple[int, int]] = {}

    def watch(self, stop: threading.Event) -> None:
        """Look twice a second until ``stop`` is set; blocks. What goes wrong is logged, and tried again."""
        told = ""
        while not stop.wait(LOOK_S):
            try:
                self.settle()
            except (AssetServerError, OSError) as error:
                if str(error) != told:
                    logger.warning("purges are not ordered yet: %s", error)
                told = str(error)
            else:
                told = ""

    def settle(self) -> int:
        """Order what is owed, durably, and then owe it no more; return how many jobs that were. May be repeated."""
        count = 0
        for name in {site.name for site in served_sites(self._settings)}:
            site = self._library.site(name)
            mark = _mark_of(site)
            if mark is None or self._seen.get(name) == mark:
                continue
            if site.read().unpurged:
                with locked(os.path.join(site.folder, _LOCK)):
                    count += self._settle(site)
            self._seen[name] = mark
        return count

    def _settle(self, site: Site) -> int:
        state = site.read()
        jobs = plan_purges(self._settings, self._library, site.name, state)
        if jobs:
            self._records.jobs().enqueue(jobs)
        site.change(lambda now: settle_purge(now, state))
        return len(jobs)


def _mark_of(site: Site) -> tuple[int, int] | None:
    try:
        status = os.stat(site.path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
