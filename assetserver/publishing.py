"""The commands that make and switch releases: ``publish``, ``promote``, ``rollback``, ``releases``."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import click

from .data import check_signature, open_library, publish_options
from .releases.activation import activate_release, keep_release
from .releases.collect import publishing_lock
from .releases.integrity import format_integrity, integrity_of
from .releases.library import Library
from .releases.manifest import SHORT, ReleaseId
from .releases.publish import PublishReport, publish_folder
from .releases.serving import explain_names
from .releases.signing import SUFFIX, SecretKey, format_trusted_comment, load_secret_key, sign
from .releases.sites import Site, SiteState, previous_release
from .settings import Settings
from .storage.durable import replace_durably
from .wording import in_units

_PASSWORD = "ASSETSERVER_SIGN_PASSWORD"  # noqa: S105 - the name of a variable
_BAR = 24


def publish(settings: Settings, directory: str, options: dict[str, Any]) -> None:
    """Publish ``directory`` and say what was done; with ``prod``, serve it from now on."""
    library, site = _open(settings, options["site"])
    key = _load_key(options["sign"]) if options["sign"] else None  # a wrong password is told before the work
    progress = Progress()
    with nullcontext() if options["dry_run"] else publishing_lock(library.folder, _tell_waiting):
        report = publish_folder(library, directory, progress, publish_options(settings, site.name), dry_run=options["dry_run"])
        progress.finish()
        if not options["dry_run"]:
            _finish(settings, library, site, report.release, key, options)
            report.fingerprints = explain_names(library, site, report.release)
    if options["as_json"]:
        click.echo(json.dumps(_as_json(settings, report, site.read())))
        return
    for line in _summarize(settings, report, options):
        click.echo(line)


def promote(settings: Settings, site_name: str, release: str) -> None:
    """Serve ``release`` (an id, its beginning, or an alias) from now on."""
    library, site = _open(settings, site_name)
    wanted = site.read().resolve(release)
    before, after = activate_release(library, site, wanted, check=check_signature(settings, library))
    same = before.active == after.active
    click.echo(f"{wanted[:SHORT]} is active" + (", as it was" if same else f"; before it was {_short(before.active)}"))


def rollback(settings: Settings, site_name: str, release: str | None) -> None:
    """Serve what was active before, or ``release``; once more goes further back, and ``promote`` forward again."""
    library, site = _open(settings, site_name)
    state = site.read()
    wanted = state.resolve(release) if release else previous_release(state)
    check = check_signature(settings, library)
    before, _ = activate_release(library, site, wanted, if_active=state.active or "", going_back=True, check=check)
    click.echo(f"rolled back from {_short(before.active)} to {wanted[:SHORT]}")


def list_releases(settings: Settings, site_name: str, *, as_json: bool) -> None:
    """List the kept releases of a site, the newest first."""
    _, site = _open(settings, site_name)
    state = site.read()
    if as_json:
        click.echo(json.dumps([_describe(one.id, state) for one in reversed(state.releases)]))
        return
    if not state.releases:
        click.echo(f"nothing is published to {site.name} yet: assetserver publish ./dist --prod")
    for one in reversed(state.releases):
        mark = "*" if one.id == state.active else " "
        names = " ".join(f"@{alias}" for alias in _aliases(one.id, state))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.published))
        click.echo(f"{mark} {one.id[:SHORT]}  {when}  {' '.join(filter(None, (names, one.message)))}".rstrip())
    if state.lock:
        click.echo(f"locked: {state.lock}")


class Progress:
    """A line that shows how far something long is, and how long it will take; only where someone can see it."""

    def __init__(self) -> None:
        self._what = ""
        self._begun_s = time.monotonic()
        self._shown_s = 0.0
        self._is_shown = sys.stderr.isatty()

    def __call__(self, what: str, size: int, total: int, files: int = 0, all_files: int = 0) -> None:
        """Show that ``size`` of ``total`` bytes, and ``files`` of ``all_files``, are ``what``."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._begun_s = what, now_s
        if not self._is_shown or (now_s - self._shown_s < 0.1 and size < total):  # noqa: PLR2004 - ten times a second
            return
        self._shown_s = now_s
        share = size / total if total else 1
        bar = ("━" * int(share * _BAR)).ljust(_BAR, "─")
        line = f"{what:<11} {bar} {share:4.0%}  {f'{files:,} of {all_files:,} files, ' if all_files else ''}{in_units(size)}"
        line += f" of {in_units(total)}{_time_left(now_s - self._begun_s, share)}"
        click.echo(f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K", err=True, nl=False)

    def finish(self) -> None:
        """Clear the line."""
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def preview_url(settings: Settings, release: ReleaseId) -> str:
    """Return where a release can be looked at before it goes live, or "" if nowhere."""
    if settings.previews.host:
        return f"https://{release[:SHORT]}.{settings.previews.host}/"
    if not settings.previews.enabled:
        return ""
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}/-/releases/{release[:SHORT]}/"


def _finish(
    settings: Settings, library: Library, site: Site, release: ReleaseId, key: SecretKey | None, options: dict[str, Any]
) -> None:
    """Sign a release, keep it, and make it live, as ``options`` say; write down its files' integrity."""
    path = library.manifest_path(release)
    if key is not None:
        with open(path, "rb") as file:
            text = sign(key, file.read(), format_trusted_comment(release, int(time.time())))
        replace_durably(path + SUFFIX, text.encode())
    keep_release(library, site, release, options["message"], options["alias"])
    if options["prod"]:
        activate_release(library, site, release, check=check_signature(settings, library))
    if options["integrity"]:
        files = library.load_manifest(release).files
        replace_durably(options["integrity"], format_integrity(integrity_of(library.blobs, files)))


def _load_key(path: str) -> SecretKey:
    password = os.environ.get(_PASSWORD)
    if password is None and sys.stdin.isatty():
        password = click.prompt(
            "Password of the key (empty for none)", default="", hide_input=True, show_default=False, err=True
        )
    return load_secret_key(path, password.encode() if password else None)


def _open(settings: Settings, site_name: str) -> tuple[Library, Site]:
    library = open_library(settings)
    return library, library.site(site_name)


def _tell_waiting() -> None:
    click.echo("waiting for gc or verify, which is running", err=True)


def _summarize(settings: Settings, report: PublishReport, options: dict[str, Any]) -> Iterator[str]:
    short = report.release[:SHORT]
    yield f"{'would publish' if options['dry_run'] else 'published'} {short}: {report.files:,} files, {in_units(report.size)}"
    yield f"  {report.new_blobs:,} new ({in_units(report.new_bytes)}), {report.files - report.new_blobs:,} known"
    if report.saved:
        yield "  spares visitors " + ", ".join(f"{in_units(saved)} with {name}" for name, saved in report.saved.items())
    yield from (f"  {one.level}: {one.message}" for one in report.findings)
    if options["dry_run"]:
        return
    if url := preview_url(settings, report.release):
        yield f"  preview {url}"
    yield "  live now" if options["prod"] else f"  not live yet: assetserver promote {short}"


def _as_json(settings: Settings, report: PublishReport, state: SiteState) -> dict[str, Any]:
    return {
        "id": report.release,
        "files": report.files,
        "bytes": report.size,
        "new": report.new_blobs,
        "new_bytes": report.new_bytes,
        "saved": report.saved,
        "active": state.active == report.release,
        "preview": preview_url(settings, report.release),
        "fingerprints": report.fingerprints,
        "findings": [
            {"level": one.level, "code": one.code, "path": one.path, "line": one.line, "message": one.message}
            for one in report.findings
        ],
    }


def _describe(release: ReleaseId, state: SiteState) -> dict[str, Any]:
    one = next(one for one in state.releases if one.id == release)
    return {
        "id": release,
        "published": one.published,
        "message": one.message,
        "active": release == state.active,
        "aliases": _aliases(release, state),
    }


def _aliases(release: ReleaseId, state: SiteState) -> list[str]:
    return [alias for alias, meant in state.aliases.items() if meant == release]


def _short(release: str | None) -> str:
    return release[:SHORT] if release else "nothing"


def _time_left(spent_s: float, share: float) -> str:
    """Return how long the rest will take, if the first second has shown it and it is worth saying."""
    if spent_s < 1 or not 0 < share < 1:
        return ""
    left_s = spent_s / share - spent_s
    return f", {int(left_s // 60)} min {int(left_s % 60)} s left" if left_s >= 60 else f", {left_s:.0f} s left"  # noqa: PLR2004
