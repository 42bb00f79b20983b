"""The command ``publish --url``: a folder of this machine becomes a release of another."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urljoin

import click
import msgspec

from .data import open_empty
from .endings import StoppedError
from .errors import FileChangedError, PublishError, RemoteError
from .progress import Progress
from .publishing import check_integrity, describe_report, load_key, report_as_json, write_integrity
from .releases.integrity import format_integrity, integrity_of
from .releases.library import Library
from .releases.manifest import SHORT, Manifest, ReleaseId, decode_manifest
from .releases.publish import PublishReport
from .releases.scan import FoundFile
from .releases.signing import SecretKey, format_trusted_comment, sign
from .releases.sites import parse_alias
from .remote.client import Published, Remote, SiteInfo, is_in_the_clear
from .remote.previous import Previous
from .remote.sending import Build, Sent, count_missing, read_build, rehearse, send_build
from .remote.submission import Submission
from .storage.blobs import Digest
from .storage.signatures import read_signed
from .wording import escape, in_units

_STDOUT = "-"


def publish(directory: str, options: dict[str, Any]) -> None:
    """Publish ``directory`` to the server at ``url`` and say what was done; with ``prod``, have it served from now on.

    Raises ``StoppedError`` for Ctrl+C.
    """
    if not options["token"]:
        raise PublishError(
            "publishing to a URL needs a token: --token, or ASSETSERVER_TOKEN. "
            "There, assetserver token create --scope publish makes one"
        )
    options = options | {"alias": parse_alias(options["alias"]) if options["alias"] else ""}
    check_integrity(options)
    progress = Progress()
    with Remote(options["url"], options["token"]) as remote, TemporaryDirectory(prefix="assetserver-") as nowhere:
        if is_in_the_clear(remote.url):
            click.echo("warning: without https everybody on the way can read the token, and what is sent", err=True)
        try:
            _publish(remote, open_empty(nowhere), directory, progress, options)
        except (KeyboardInterrupt, click.Abort) as error:
            remote.closing.set()
            progress.finish()
            raise StoppedError("stopped; what was sent is kept for a while, and publishing again goes on from there") from error


def _publish(remote: Remote, library: Library, directory: str, progress: Progress, options: dict[str, Any]) -> None:
    key = load_key(options["sign"]) if options["sign"] else None  # a wrong password is told before the work
    info = remote.describe_site(options["site"] or "")
    build = read_build(library, directory, info, progress)
    submission = Submission(dict(build.files), options["message"], options["alias"], build.left_out, options["dry_run"])
    if options["dry_run"]:
        report = rehearse(library, build, info, progress)
        report.new_blobs, report.new_bytes = count_missing(remote, build, info.site, submission)
        progress.finish()
        _tell(_summarize_plan(report, info, options), _plan_as_json(report, info, options), options)
        return
    previous = Previous(cache_folder(), remote.url, info.site)
    sent = send_build(remote, build, info.site, submission, progress, previous)
    progress.finish()
    published = _finish(remote, build, sent.published, key, options)
    report = _report(published, sent)
    _tell(_summarize(remote, report, published, sent, options), _as_json(remote, report, published), options)


def cache_folder() -> str:
    """Return where what was sent is kept to make the next publish shorter (XDG Base Directory), or "" where there is none."""
    base = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    return os.path.join(base, "assetserver", "sent") if os.path.isabs(base) else ""


def _finish(remote: Remote, build: Build, published: Published, key: SecretKey | None, options: dict[str, Any]) -> Published:
    """Sign a release and make it live, as ``options`` say; write down its files' integrity. Return how it is published now."""
    release = ReleaseId(published.id)
    if key is not None:
        manifest = _fetch_manifest(remote, build, release)
        remote.send_signature(release, sign(key, manifest, format_trusted_comment(release, int(time.time()))))
    if options["integrity"]:
        content = format_integrity(integrity_of(_BuildBlobs(build.sources), build.records))
        write_integrity(options["integrity"], content)
    if not options["prod"]:
        return published
    live = remote.activate(published.id, published.site)
    return msgspec.structs.replace(published, active=live.active, url=live.url)


def _fetch_manifest(remote: Remote, build: Build, release: ReleaseId) -> bytes:
    """Return the manifest to sign. Raises ``RemoteError`` if it is of other files than those of this machine."""
    content = remote.fetch_manifest(release)
    manifest: Manifest = decode_manifest(content, release)
    files = {path: (one.digest, one.size) for path, one in manifest.files.items()}
    if files != {path: (one.digest, one.size) for path, one in build.records.items()}:
        raise RemoteError(f"{remote.url} made release {release[:SHORT]} of other files than it was sent; it is not signed")
    return content


class _BuildBlobs:
    """The files of a build, by digest."""

    def __init__(self, sources: Mapping[str, FoundFile]) -> None:
        self._sources = sources

    def read(self, digest: Digest) -> Iterator[bytes]:
        """Yield the bytes of a file. Raises ``PublishError`` if it changed."""
        found = self._sources[digest]
        try:
            yield from read_signed(found.full, found.signature)
        except FileChangedError as error:
            raise PublishError(f"{found.path} changed meanwhile; publish again when the build is done") from error


def _report(published: Published, sent: Sent) -> PublishReport:
    return PublishReport(
        ReleaseId(published.id),
        published.files,
        published.bytes,
        sent.blobs,
        sent.bytes,
        published.compressed,
        published.existed,
        published.saved,
        published.fingerprints,
        published.findings,
        published.has_rooted_references,
        published.deltas,
    )


def _tell(lines: Iterator[str], content: dict[str, Any], options: dict[str, Any]) -> None:
    for line in iter([json.dumps(content)]) if options["as_json"] else lines:
        click.echo(line, err=options["integrity"] == _STDOUT and not options["dry_run"])


def _summarize(
    remote: Remote, report: PublishReport, published: Published, sent: Sent, options: dict[str, Any]
) -> Iterator[str]:
    yield from describe_report(report, dry_run=False)
    if sent.blobs:
        yield f"  {in_units(sent.sent_bytes)} travelled"
    for url in filter(None, published.previews):
        yield f"  preview {_absolute(remote, url)}"
    if not options["prod"]:
        yield "  not live yet: publish again with --prod; nothing will have to travel"
    elif published.url:
        yield f"  live now at {_absolute(remote, published.url)}"
    else:
        yield "  active now, and served by nobody: the server's settings have no [[sites]] for it"


def _summarize_plan(report: PublishReport, info: SiteInfo, options: dict[str, Any]) -> Iterator[str]:
    yield from describe_report(report, dry_run=True)
    if options["alias"]:
        yield f"  would set @{options['alias']}"
    if options["prod"] and info.locked:
        yield f"  would not go live: the site is locked: {escape(info.locked)}"
    elif options["prod"] and info.active == report.release:
        yield "  is live already"
    elif options["prod"]:
        yield f"  would go live; now it is {info.active[:SHORT] if info.active else 'nothing'}"
    if options["integrity"]:
        yield "  the integrity would be written, too; a dry run writes nothing"


def _as_json(remote: Remote, report: PublishReport, published: Published) -> dict[str, Any]:
    is_active = published.active == published.id
    return {
        **report_as_json(report),
        "site": published.site,
        "message": published.message,
        "dry_run": False,
        "active": is_active,
        "aliases": list(published.aliases),
        "preview": _absolute(remote, published.previews[0]) if published.previews else "",
        "url": _absolute(remote, published.url) if is_active else "",
    }


def _plan_as_json(report: PublishReport, info: SiteInfo, options: dict[str, Any]) -> dict[str, Any]:
    return {
        **report_as_json(report),
        "site": info.site,
        "message": options["message"],
        "dry_run": True,
        "active": info.active == report.release,
        "aliases": [],
        "preview": "",
        "url": "",
    }


def _absolute(remote: Remote, url: str) -> str:
    """Return a URL that the server told as people can open it: its path alone, where it does not know its own name."""
    return urljoin(remote.url + "/", url) if url else ""
