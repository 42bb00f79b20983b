"""The commands that make and switch releases: ``publish``, ``promote``, ``rollback``, ``releases``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from .data import open_library
from .releases.activation import activate_release, keep_release
from .releases.library import Library
from .releases.manifest import SHORT
from .releases.publish import PublishReport, publish_folder
from .releases.sites import Site, SiteState, previous_release
from .settings import Settings


def publish(settings: Settings, directory: str, options: dict[str, Any]) -> None:
    """Publish ``directory`` and say what was done; with ``prod``, serve it from now on."""
    library, site = _open(settings, options["site"])
    progress = Progress()
    report = publish_folder(library, directory, progress, dry_run=options["dry_run"])
    progress.finish()
    if not options["dry_run"]:
        keep_release(library, site, report.release, options["message"], options["alias"])
        if options["prod"]:
            activate_release(library, site, report.release)
    if options["as_json"]:
        click.echo(json.dumps(_as_json(report, site.read())))
        return
    for line in _summarize(report, options):
        click.echo(line)


def promote(settings: Settings, site_name: str, release: str) -> None:
    """Serve ``release`` (an id, its beginning, or an alias) from now on."""
    library, site = _open(settings, site_name)
    wanted = site.read().resolve(release)
    before, after = activate_release(library, site, wanted)
    same = before.active == after.active
    click.echo(f"{wanted[:SHORT]} is active" + (", as it was" if same else f"; before it was {_short(before.active)}"))


def rollback(settings: Settings, site_name: str, release: str | None) -> None:
    """Serve what was active before, or ``release``; once more goes further back, and ``promote`` forward again."""
    library, site = _open(settings, site_name)
    state = site.read()
    wanted = state.resolve(release) if release else previous_release(state)
    before, _ = activate_release(library, site, wanted, if_active=state.active or "", going_back=True)
    click.echo(f"rolled back from {_short(before.active)} to {wanted[:SHORT]}")


def list_releases(settings: Settings, site_name: str, *, as_json: bool) -> None:
    """List the kept releases of a site, the newest first."""
    _, site = _open(settings, site_name)
    state = site.read()
    if as_json:
        rows = [
            {"id": one.id, "published": one.published, "message": one.message, "active": one.id == state.active}
            for one in reversed(state.releases)
        ]
        click.echo(json.dumps(rows))
        return
    if not state.releases:
        click.echo(f"nothing is published to {site.name} yet: assetserver publish ./dist --prod")
    for one in reversed(state.releases):
        mark = "*" if one.id == state.active else " "
        names = " ".join(f"@{alias}" for alias, release in state.aliases.items() if release == one.id)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.published))
        click.echo(f"{mark} {one.id[:SHORT]}  {when}  {' '.join(filter(None, (names, one.message)))}".rstrip())


class Progress:
    """A line that shows how far publishing is; only where someone can see it."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self._shown_s = 0.0
        self._is_shown = sys.stderr.isatty()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` bytes are ``what``."""
        now_s = time.monotonic()
        if not self._is_shown or (now_s - self._shown_s < 0.1 and done < total):  # noqa: PLR2004 - ten times a second
            return
        self._shown_s = now_s
        share = done / total if total else 1
        click.echo(f"\r{what:<12} {share:4.0%}  {_bytes(done)} of {_bytes(total)}  \x1b[K", err=True, nl=False)

    def finish(self) -> None:
        """Clear the line."""
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def _open(settings: Settings, site_name: str) -> tuple[Library, Site]:
    library = open_library(settings)
    return library, library.site(site_name)


def _summarize(report: PublishReport, options: dict[str, Any]) -> list[str]:
    reused = report.files - report.new_blobs
    verb = "would publish" if options["dry_run"] else "published"
    lines = [f"{verb} {report.release[:SHORT]}: {report.files} files, {_bytes(report.size)}"]
    lines.append(f"  {report.new_blobs} new ({_bytes(report.new_bytes)}), {reused} known")
    if report.saved:
        lines.append("  spares visitors " + ", ".join(f"{_bytes(saved)} with {name}" for name, saved in report.saved.items()))
    if not options["dry_run"]:
        short = report.release[:SHORT]
        lines.append("  live now" if options["prod"] else f"  not live yet: assetserver promote {short}")
    return lines


def _as_json(report: PublishReport, state: SiteState) -> dict[str, Any]:
    return {
        "id": report.release,
        "files": report.files,
        "bytes": report.size,
        "new": report.new_blobs,
        "new_bytes": report.new_bytes,
        "saved": report.saved,
        "active": state.active == report.release,
    }


def _short(release: str | None) -> str:
    return release[:SHORT] if release else "nothing"


def _bytes(count: int) -> str:
    """Return a number of bytes as people read it: ``1.2 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - decimal units
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
