"""``assetserver report``: what was asked for most, which releases still get requests, and how often memory answered.

From what the processes that serve wrote down, day by day (``metrics.popular``); the server need not run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .data import data_folder, open_library, served_sites
from .errors import AssetServerError
from .metrics.families import CODINGS
from .metrics.popular import Day, Kept, read_days
from .monitoring import report_folder
from .releases.library import Library
from .releases.manifest import SHORT, ReleaseId
from .releases.serving import ServedIndex, open_release
from .settings import Settings
from .settingtables import SiteSettings
from .wording import escape, in_utc, short_path

_FROM_MEMORY = ("hot", "hit")
_HEAD, _QUIET = "bold cyan", "dim"


class CodingRow(NamedTuple):
    """How many answers were sent in a coding, and how many of them memory gave."""

    coding: str
    answers: int
    from_memory: int


class ReleaseRow(NamedTuple):
    """How many requests were for what is served of a release: the active one, or the newest other that has it."""

    site: str
    release: str
    published: float
    is_active: bool
    requests: int


class _Known(NamedTuple):
    """A kept release, to be looked into."""

    site: SiteSettings
    release: str
    published: float
    is_active: bool
    files: ServedIndex


def count_codings(day: Day) -> list[CodingRow]:
    """Return what was sent as what, in the order of codings."""
    rows = []
    for coding in CODINGS:
        results = day.cache.get(coding, {})
        if results:
            rows.append(CodingRow(coding, sum(results.values()), sum(results.get(one, 0) for one in _FROM_MEMORY)))
    return rows


def count_releases(settings: Settings, assets: Kept) -> list[ReleaseRow]:
    """Return which kept releases were asked for, the first first; what none of them has is not counted."""
    known = list(_open_kept(settings))
    requests = [0] * len(known)
    for asset in assets.rows:
        for place, one in enumerate(known):
            if _has(one, asset.name):
                requests[place] += asset.times
                break
    rows = [
        ReleaseRow(one.site.name, one.release, one.published, one.is_active, count)
        for one, count in zip(known, requests, strict=True)
        if count
    ]
    return sorted(rows, key=lambda row: -row.requests)


def _open_kept(settings: Settings) -> Iterator[_Known]:
    """Yield all kept releases that can be read: of the longest prefix first, then the active one, then the newest."""
    library = open_library(settings)
    for site in sorted(served_sites(settings), key=lambda one: -len(one.prefix)):
        try:
            state = library.site(site.name).read()
        except AssetServerError:
            continue
        newest_first = sorted(state.releases, key=lambda one: (one.id != state.active, -one.published))
        for one in newest_first:
            index = _open(library, one.id)
            if index is not None:
                yield _Known(site, one.id, one.published, one.id == state.active, index)


def _open(library: Library, release: ReleaseId) -> ServedIndex | None:
    try:
        return open_release(library, release)
    except (AssetServerError, OSError):
        return None


def _has(known: _Known, url_path: str) -> bool:
    prefix = known.site.prefix.rstrip("/") + "/"
    if not url_path.startswith(prefix):
        return False
    path = url_path[len(prefix) :]
    bare = path.rstrip("/")
    names = (path, f"{bare}/index.html".lstrip("/"), f"{bare}.html")
    return any(name and known.files.get(name) is not None for name in names)


def report(settings: Settings, days: int, limit: int, *, as_json: bool) -> None:
    """Print what was asked for in the last ``days``, at most ``limit`` rows of each table.

    Raises ``AssetServerError`` where nothing was ever written down.
    """
    folder = report_folder(settings)
    day = read_days(folder, days, time.time()) if folder else None
    if day is None or not (day.assets.rows or day.missing.rows):
        when = f"in the last {days} days" if days > 1 else "today"
        folder = short_path(data_folder(settings))
        raise AssetServerError(f"nothing was counted {when} in {folder}; a server writes it down while it runs")
    releases, codings = count_releases(settings, day.assets), count_codings(day)
    if as_json:
        print_json(day, releases, codings, limit)
    else:
        print_tables(Console(), day, releases, codings, limit)


def print_json(day: Day, releases: list[ReleaseRow], codings: list[CodingRow], limit: int) -> None:
    """Print all of it for programs. ``requests`` is never too low, and too high by ``error`` at most."""
    told = {
        "assets": _for_programs(day.assets, limit),
        "missing": _for_programs(day.missing, limit),
        "releases": [row._asdict() for row in releases[:limit]],
        "codings": [row._asdict() for row in codings],
    }
    print(json.dumps(told, ensure_ascii=False))  # noqa: T201 - it is the answer


def print_tables(console: Console, day: Day, releases: list[ReleaseRow], codings: list[CodingRow], limit: int) -> None:
    """Print all of it for people."""
    tables = [_paths("asked for most", day.assets, limit, console.width)]
    if releases:
        tables.append(_releases(releases[:limit]))
    if codings:
        tables.append(_codings(codings))
    if day.missing.rows:
        tables.append(_paths("missed, with a fingerprint", day.missing, limit, console.width))
    for place, table in enumerate(tables):
        if place:
            console.print()
        console.print(table)


def _for_programs(kept: Kept, limit: int) -> list[dict[str, object]]:
    return [{"path": one.name, "requests": one.times, "error": one.error} for one in kept.rows[:limit]]


def _paths(title: str, kept: Kept, limit: int, width: int) -> Table:
    table = _table(title, "requests")
    table.columns[0].overflow, table.columns[0].no_wrap = "ellipsis", True
    table.columns[0].max_width = max(20, width - 20)
    for one in kept.rows[:limit]:
        doubt = f" (≤ {one.error:,} fewer)" if one.error else ""
        table.add_row(escape(one.name), f"{one.times:,}{doubt}")
    return table


def _releases(rows: Iterable[ReleaseRow]) -> Table:
    table = _table("release", "requests", "published")
    several = len({row.site for row in rows}) > 1
    for row in rows:
        mark = Text("* " if row.is_active else "  ").append(row.release[:SHORT])
        if several:
            mark.append(f"  {row.site}", style=_QUIET)
        table.add_row(mark, f"{row.requests:,}", in_utc(row.published))
    return table


def _codings(rows: Iterable[CodingRow]) -> Table:
    table = _table("coding", "answers", "from memory")
    for row in rows:
        table.add_row(row.coding, f"{row.answers:,}", f"{row.from_memory / row.answers:.1%}")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style=_HEAD)
    table.add_column(first)
    for one in others:
        table.add_column(one, justify="right")
    return table
