"""What a child process does of a publish over HTTP: check, look what is missing, or make the release of blobs that are there.

The same steps as for a folder of this machine, of files that happen to be blobs already: the same files give the same release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

import msgspec

from assetserver.errors import BlobMissingError, DigestMismatchError, PublishError
from assetserver.releases.activation import keep_release
from assetserver.releases.checks import Finding, is_left_out
from assetserver.releases.collect import publishing_lock
from assetserver.releases.library import Library
from assetserver.releases.manifest import FileRecord
from assetserver.releases.publish import PublishOptions, PublishReport, check_names, publish_scan
from assetserver.releases.scan import Scan, describe_file
from assetserver.releases.serving import explain_names
from assetserver.releases.siterules import RULE_FILES
from assetserver.releases.sites import parse_alias, visited_releases
from assetserver.releases.updating import DeltaReport
from assetserver.semantics.targets import AssetPath
from assetserver.storage.blobs import Digest

from .submission import Plan, WantedFile, decode_submission, plan_files


class Work(msgspec.Struct, frozen=True):
    """How far a publish is: what is done, bytes and files of it, and of how many."""

    what: str
    size: int = 0
    total: int = 0
    files: int = 0
    all_files: int = 0


class Missing(msgspec.Struct, frozen=True):
    """Nothing was published: the blobs of these digests are not there."""

    digests: tuple[str, ...]


class Ready(msgspec.Struct, frozen=True):
    """The release is kept. ``findings``: what people should look at; ``saved`` and the rest as in ``PublishReport``."""

    id: str
    site: str
    existed: bool
    files: int
    bytes: int
    compressed: int
    saved: dict[str, int]
    fingerprints: dict[str, str]
    findings: tuple[Finding, ...]
    has_rooted_references: bool
    deltas: DeltaReport = DeltaReport()


Tell = Callable[[Work], None]


def finish_release(library: Library, site: str, options: PublishOptions, content: bytes, tell: Tell) -> Missing | Ready:
    """Publish to ``site`` what the submission ``content`` lists, or say what of it is missing. Blocks; may be repeated.

    On return of ``Ready`` the release is durable and kept, and not active. Raises ``BadRequestError`` for what is no
    submission, and ``PublishError`` for what cannot be published: where names tell, before anything of it is sent.
    """
    submission = decode_submission(content)
    plan = _apply_policy(plan_files(submission), options)
    alias = parse_alias(submission.alias) if submission.alias else ""
    records: dict[str, FileRecord] = {path: FileRecord(Digest(one.sha256), one.size) for path, one in plan.published.items()}
    check_names(records, plan.left_out, {}, options)
    with publishing_lock(library.folder, lambda: tell(Work("waiting"))):
        missing = find_missing(library, plan.needed)
        if missing or submission.dry_run:
            return Missing(missing)
        report = _publish(library, plan, site, options, tell)
        if isinstance(report, Missing):
            return report
        kept_by = library.site(site)
        keep_release(library, kept_by, report.release, submission.message, alias)
        report.fingerprints = explain_names(library, kept_by, report.release)
        return _ready(site, report)


def _apply_policy(plan: Plan, options: PublishOptions) -> Plan:
    """Leave out what the policy does by name: nobody needs to send it."""
    published = {path: one for path, one in plan.published.items() if not is_left_out(path, options.policy)}
    left_out = sorted({*plan.left_out, *(plan.published.keys() - published.keys())})
    if not published:
        raise PublishError("nothing of it is published: publish.secrets or publish.source_maps leave all of it out")
    return Plan(published, plan.beside, tuple(left_out))


def find_missing(library: Library, needed: Mapping[AssetPath, WantedFile]) -> tuple[str, ...]:
    """Return the digests of blobs that are not there, in the order of paths. A damaged one is removed, and missing.

    Raises ``PublishError`` for a file whose bytes are there, and are not as many as the submission says.
    """
    missing: dict[str, None] = {}
    for path, one in sorted(needed.items()):
        size = library.blobs.size_of(Digest(one.sha256))
        if size is None or (size != one.size and _remove_if_damaged(library, Digest(one.sha256))):
            missing[one.sha256] = None
        elif size != one.size:
            raise PublishError(f"{path!r} has {size:,} bytes, not {one.size:,}; hash the files again")
    return tuple(missing)


def _remove_if_damaged(library: Library, digest: Digest) -> bool:
    hashed = sha256()
    try:
        for piece in library.blobs.read(digest):
            hashed.update(piece)
    except BlobMissingError:
        return True
    if hashed.hexdigest() == digest:
        return False
    library.blobs.delete(digest)
    return True


def _publish(library: Library, plan: Plan, site: str, options: PublishOptions, tell: Tell) -> PublishReport | Missing:
    def progress(what: str, size: int, total: int, files: int, all_files: int) -> None:
        tell(Work(what, size, total, files, all_files))

    damaged = [one.sha256 for one in plan.beside.values() if _remove_if_damaged(library, Digest(one.sha256))]
    if damaged:
        return Missing(tuple(damaged))
    try:
        before = visited_releases(library.site(site).read())
        return publish_scan(library, _scan(library, plan, site), progress, options, before=before)
    except DigestMismatchError:  # the disk changed a blob; its sender still has it
        needed = dict.fromkeys(one.sha256 for one in plan.needed.values())
        return Missing(tuple(one for one in needed if _remove_if_damaged(library, Digest(one))))


def _scan(library: Library, plan: Plan, site: str) -> Scan:
    """Return the blobs of a plan as files to publish."""
    needed = plan.needed
    places = {path: library.blobs.path_of(Digest(one.sha256)) for path, one in needed.items()}
    return Scan(
        tuple(describe_file(places[path], path) for path in plan.published),
        plan.left_out,
        {path: describe_file(places[path], path) for path in plan.beside if path in RULE_FILES},
        lambda name: places.get(AssetPath(name), ""),
        memory=f"remote:{site}",
        digests={path: Digest(one.sha256) for path, one in plan.published.items()},
    )


def _ready(site: str, report: PublishReport) -> Ready:
    return Ready(
        report.release,
        site,
        report.existed,
        report.files,
        report.size,
        report.compressed,
        report.saved or {},
        report.fingerprints,
        report.findings,
        report.has_rooted_references,
        report.deltas,
    )
