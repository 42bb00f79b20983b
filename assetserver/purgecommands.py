"""The command ``purge``: what is named by hand becomes jobs, as what an activation changes does."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import closing

import click

from .data import choose_site, open_records
from .endings import with_options
from .errors import PurgeError
from .jobs.job import NewJob
from .purgeorders import Wanted, places_of
from .purging.places import Place
from .semantics.targets import RefusedTarget, format_target, parse_target
from .settings import Settings
from .settingtables import PurgeSettings
from .wording import escape, plural


def purge(
    settings: Settings, paths: Sequence[str], *, tags: Sequence[str], everything: bool, site: str | None, as_json: bool
) -> None:
    """Queue the purge of ``paths``, ``tags``, or all of a site, for every cache that has the site.

    Raises ``PurgeError`` if there is no such cache, or a path is none of the site.
    """
    name = choose_site(settings, site)
    targets = [_read_path(path) for path in paths]
    cause = secrets.token_hex(16)
    jobs: list[NewJob] = []
    caches: list[str] = []
    for one in settings.purge:
        places = [place for _, place in places_of(settings, name, one)]
        if not places:
            continue
        wanted = _want(one, places, targets, everything=everything)
        wanted.tags.extend(tags)
        jobs += wanted.list_jobs(cause)
        caches.append(one.name)
    if not caches:
        raise PurgeError(f"no cache has the site {name}: [[purge]] in the settings describes those in front")
    with closing(open_records(settings)) as records:
        ids = records.jobs().enqueue(jobs)
    if as_json:
        click.echo(json.dumps({"ok": True, "site": name, "caches": caches, "jobs": ids}))
        return
    click.echo(f"{len(ids)} {plural(len(ids), 'purge')} queued for {', '.join(caches)}")
    click.echo(with_options("how they end: assetserver jobs list --kind purge"), err=True)


def _read_path(path: str) -> str:
    """Return a path as URLs spell it. Raises ``PurgeError`` for what is none."""
    parsed = parse_target(path) if path.startswith("/") and not set("?#") & set(path) else None
    if parsed is None or isinstance(parsed, RefusedTarget):
        raise PurgeError(f"{escape(path)} is no path of a URL; write one such as /docs/ or /a%20b.css, without host and query")
    return format_target(parsed.path)


def _want(one: PurgeSettings, places: Sequence[Place], targets: Sequence[str], *, everything: bool) -> Wanted:
    wanted = Wanted(one)
    for place in places:
        if everything:
            wanted.roots.append(place.root)
        for target in targets:
            url = place.origin + target
            if not (url + "/").startswith(place.root):
                raise PurgeError(f"{target} is not below {place.prefix}, where the site is served")
            wanted.urls.append(url)
    return wanted
