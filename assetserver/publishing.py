"""The commands that make and switch releases: ``publish``, ``promote``, ``rollback``, ``releases``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from typing import Any

import click

from .addresses import live_url, preview_url
from .data import (
    check_folder,
    check_signature,
    choose_site,
    open_library,
    open_records,
    open_site,
    publish_options,
    served_sites,
)
from .endings import StoppedError, with_options
from .errors import PublishError
from .progress import Progress
from .releases.activation import activate_release, keep_release
from .releases.collect import publishing_lock
from .releases.integrity import format_integrity, integrity_of
from .releases.library import Library
from .releases.manifest import SHORT, ReleaseId
from .releases.publish import PublishReport, publish_folder
from .releases.serving import explain_names
from .releases.signing import SUFFIX, SecretKey, format_trusted_comment, load_secret_key, sign
from .releases.sites import Site, SiteState, parse_alias, previous_release
from .settings import Settings
from .storage.durable import replace_durably
from .wording import escape, in_units, in_utc, plural, short_path

_PASSWORD = "ASSETSERVER_SIGN_PASSWORD"  # noqa: S105 - the name of a variable
_STDOUT = "-"


def publish(settings: Settings, directory: str, options: dict[str, Any]) -> None:
    """Publish ``directory`` and say what was done; with ``prod``, serve it from now on.

    What can be told to be wrong before the work is. Raises ``StoppedError`` for Ctrl+C.
    """
    library = open_library(settings)
    site = library.site(choose_site(settings, options["site"]))
    options = options | {"alias": parse_alias(options["alias"]) if options["alias"] else ""}
    _check_folders(library, directory)
    check_integrity(options)
    wants_pictures = _wants_pictures(settings, options)
    before = site.read()
    progress = Progress()
    try:
        key = load_key(options["sign"]) if options["sign"] else None  # a wrong password is told before the work
        report = _publish(settings, library, site, directory, progress, key, options)
    except (KeyboardInterrupt, click.Abort) as error:
        progress.finish()
        raise StoppedError(_describe_stop(before, site.read())) from error
    pictures = _order_pictures(settings, library, report.release) if wants_pictures else 0
    lines = _summarize(settings, site.name, report, before, options)
    if pictures:
        click.echo(f"pictures are made smaller in the background: {pictures:,} {plural(pictures, 'job')}", err=True)
    if options["as_json"]:
        lines = iter([json.dumps(_as_json(settings, site, report, options))])
    for line in lines:
        click.echo(line, err=options["integrity"] == _STDOUT and not options["dry_run"])


def _publish(
    settings: Settings,
    library: Library,
    site: Site,
    directory: str,
    progress: Progress,
    key: SecretKey | None,
    options: dict[str, Any],
) -> PublishReport:
    with nullcontext() if options["dry_run"] else publishing_lock(library.folder, _tell_waiting):
        report = publish_folder(library, directory, progress, publish_options(settings, site.name), dry_run=options["dry_run"])
        progress.finish()
        if not options["dry_run"]:
            _finish(settings, library, site, report.release, key, options)
            report.fingerprints = explain_names(library, site, report.release)
    return report


def _wants_pictures(settings: Settings, options: dict[str, Any]) -> bool:
    """Tell whether pictures are to be made smaller. Raises ``PublishError`` if nobody could get them."""
    if options["images"] and not settings.images.on_demand:
        raise PublishError("--images makes what images.on_demand serves, which is off; set images.on_demand = true")
    return (options["images"] or settings.publish.images) and settings.images.on_demand and not options["dry_run"]


def _order_pictures(settings: Settings, library: Library, release: ReleaseId) -> int:
    """Queue what makes the pictures of a release smaller; return how many jobs that are."""
    from .ondemandladders import list_ladder_jobs  # noqa: PLC0415 - who makes no pictures starts without

    jobs = list_ladder_jobs(settings, library, release)
    if jobs:
        with closing(open_records(settings)) as records:
            records.jobs().enqueue(jobs)
    return len(jobs)


def _check_folders(library: Library, directory: str) -> None:
    """Raise ``PublishError`` if what is published would hold the data folder, or that is none."""
    check_folder(library)
    outer, inner = os.path.realpath(directory), os.path.realpath(library.folder)
    if os.path.commonpath([outer, inner]) == outer:
        problem = f"the data folder {short_path(library.folder)} is inside {directory}, and would be published with it"
        raise PublishError(f"{problem}; name the folder that the build wrote, or another data folder with --data")


def check_integrity(options: dict[str, Any]) -> None:
    """Raise ``PublishError`` if the integrity values cannot be written where they should be."""
    path = options["integrity"]
    if path == _STDOUT and options["as_json"]:
        raise PublishError("--json and --integrity - would both write to stdout; give --integrity a file")
    if not path or path == _STDOUT:
        return
    folder = os.path.dirname(path) or os.curdir
    if not os.path.isdir(folder):
        raise PublishError(f"--integrity {path}: there is no folder {folder}; make it first")
    if os.path.isdir(path):
        raise PublishError(f"--integrity {path} is a folder; name a file in it")


def _describe_stop(before: SiteState, after: SiteState) -> str:
    if after.generation == before.generation:
        return "stopped; nothing went live, and the site is as it was; publish again to go on"
    return "stopped when the site had changed already; see what is live now: assetserver releases"


def promote(settings: Settings, site_name: str | None, release: str) -> None:
    """Serve ``release`` (an id, its beginning, or an alias) from now on."""
    library, site = open_site(settings, site_name)
    wanted = site.read().resolve(release)
    check = check_signature(settings, library)
    before, after = activate_release(library, site, wanted, check=check, owes_purge=bool(settings.purge))
    same = before.active == after.active
    click.echo(f"{wanted[:SHORT]} is active" + (", as it was" if same else f"; before it was {_short(before.active)}"))
    _warn_unless_served(settings, site.name)


def rollback(settings: Settings, site_name: str | None, release: str | None) -> None:
    """Serve what was active before, or ``release``; once more goes further back, and ``promote`` forward again."""
    library, site = open_site(settings, site_name)
    state = site.read()
    wanted = state.resolve(release) if release is not None else previous_release(state)
    check = check_signature(settings, library)
    was, owes = state.active or "", bool(settings.purge)
    before, _ = activate_release(library, site, wanted, if_active=was, going_back=True, check=check, owes_purge=owes)
    click.echo(f"rolled back from {_short(before.active)} to {wanted[:SHORT]}")
    _warn_unless_served(settings, site.name)


def list_releases(settings: Settings, site_name: str | None, *, as_json: bool) -> None:
    """List the kept releases of a site, the newest first."""
    _, site = open_site(settings, site_name)
    state = site.read()
    if as_json:
        click.echo(json.dumps([_describe(one.id, state) for one in reversed(state.releases)]))
        return
    if not state.releases:
        click.echo(with_options(f"nothing is published to {site.name} yet: assetserver publish ./dist --prod"))
    for one in reversed(state.releases):
        mark = "*" if one.id == state.active else " "
        names = " ".join(f"@{alias}" for alias in _aliases(one.id, state))
        notes = " ".join(filter(None, (names, escape(one.message))))
        click.echo(f"{mark} {one.id[:SHORT]}  {in_utc(one.published)}  {notes}".rstrip())
    if state.lock:
        click.echo(f"locked: {escape(state.lock)}")


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
        activate_release(library, site, release, check=check_signature(settings, library), owes_purge=bool(settings.purge))
    if options["integrity"]:
        content = format_integrity(integrity_of(library.blobs, library.load_manifest(release).files))
        write_integrity(options["integrity"], content)


def write_integrity(path: str, content: bytes) -> None:
    """Write integrity values to the file at ``path``, or to stdout for "-"."""
    if path == _STDOUT:
        click.echo(content, nl=False)
    else:
        replace_durably(path, content)


def load_key(path: str) -> SecretKey:
    """Return the key at ``path``; its password comes from the environment, or is asked for."""
    password = os.environ.get(_PASSWORD)
    if password is None and sys.stdin.isatty():
        password = click.prompt(
            "Password of the key (empty for none)", default="", hide_input=True, show_default=False, err=True
        )
    return load_secret_key(path, password.encode() if password else None)


def _tell_waiting() -> None:
    click.echo("waiting for gc or verify, which is running", err=True)


def _warn_unless_served(settings: Settings, site_name: str) -> None:
    if problem := _describe_unserved(settings, site_name):
        click.echo(f"warning: {problem}", err=True)


def _describe_unserved(settings: Settings, site_name: str) -> str:
    """Return why nobody sees what is published to a site, or "" if it is served."""
    if any(one.name == site_name for one in served_sites(settings)):
        return ""
    problem = "no site is served, for the settings have [[mounts]] and no [[sites]]"
    return f'{problem}; to serve this one add [[sites]] with name = "{site_name}"'


def _summarize(
    settings: Settings, site_name: str, report: PublishReport, before: SiteState, options: dict[str, Any]
) -> Iterator[str]:
    short = report.release[:SHORT]
    yield from describe_report(report, dry_run=options["dry_run"])
    if problem := _describe_unserved(settings, site_name):
        yield f"  warning: {problem}"
    if options["dry_run"]:
        yield from _describe_plan(settings, site_name, report.release, before, options)
        return
    if url := preview_url(settings, site_name, report.release):
        yield f"  preview {url}"
        if options["alias"]:
            yield f"  preview {preview_url(settings, site_name, report.release, options['alias'])}"
        if report.has_rooted_references and not (options["prod"] or settings.previews.host):
            yield "  note: pages address files from /, where the live site is; previews.host gives previews hosts of their own"
    if not options["prod"]:
        yield with_options(f"  not live yet: assetserver promote {short}")
    else:
        url = live_url(settings, site_name)
        yield f"  live now at {url}" if url else "  active now, and served by nobody"


def describe_report(report: PublishReport, *, dry_run: bool) -> Iterator[str]:
    """Yield what publishing did, or would do, wherever that was."""
    verb, files = "would publish" if dry_run else "published", plural(report.files, "file")
    yield f"{verb} {report.release[:SHORT]}: {report.files:,} {files}, {in_units(report.size)}"
    yield f"  {report.new_blobs:,} new ({in_units(report.new_bytes)}), {report.files - report.new_blobs:,} known"
    if report.saved:
        yield "  spares visitors " + ", ".join(f"{in_units(saved)} with {name}" for name, saved in report.saved.items())
    yield from (f"  {one.level}: {one.message}" for one in report.findings)


def _describe_plan(
    settings: Settings, site_name: str, release: ReleaseId, state: SiteState, options: dict[str, Any]
) -> Iterator[str]:
    """Yield what publishing without ``--dry-run`` would change of a site in ``state``."""
    if alias := options["alias"]:
        meant = state.aliases.get(alias)
        if meant is None:
            yield f"  would set @{alias}"
        else:
            yield f"  @{alias} means it already" if meant == release else f"  would move @{alias} from {meant[:SHORT]}"
    if options["prod"] and state.lock:
        yield with_options(f"  would not go live: the site is locked: {escape(state.lock)}; assetserver unlock")
    elif options["prod"] and state.active == release:
        yield "  is live already"
    elif options["prod"]:
        url = live_url(settings, site_name)
        yield f"  would go live{f' at {url}' if url else ''}; now it is {_short(state.active)}"
    if options["integrity"]:
        yield "  the integrity would be written, too; a dry run writes nothing"


def _as_json(settings: Settings, site: Site, report: PublishReport, options: dict[str, Any]) -> dict[str, Any]:
    state = site.read()
    kept = next((one.message for one in state.releases if one.id == report.release), "")
    is_active = state.active == report.release
    return {
        **report_as_json(report),
        "site": site.name,
        "message": options["message"] or kept,
        "dry_run": options["dry_run"],
        "active": is_active,
        "aliases": _aliases(report.release, state),
        "preview": preview_url(settings, site.name, report.release),
        "url": live_url(settings, site.name) if is_active else "",
    }


def report_as_json(report: PublishReport) -> dict[str, Any]:
    """Return what publishing did, or would do, wherever that was."""
    return {
        "ok": True,
        "id": report.release,
        "files": report.files,
        "bytes": report.size,
        "new": report.new_blobs,
        "new_bytes": report.new_bytes,
        "saved": None if report.saved is None else dict(sorted(report.saved.items())),
        "fingerprints": dict(sorted(report.fingerprints.items())),
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
    return sorted(alias for alias, meant in state.aliases.items() if meant == release)


def _short(release: str | None) -> str:
    return release[:SHORT] if release else "nothing"
