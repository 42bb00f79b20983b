"""A folder becomes a release: scan → hash and store → look into it → checks → compress → manifest → index.

Every step is durable before the next one names it, and every step may be repeated: killed at any point, what was live stays
live and whole, and publishing again goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from assetserver.errors import DigestMismatchError, FileChangedError, PublishError
from assetserver.semantics.caching import compile_glob
from assetserver.semantics.fingerprints import DECLARED, PROVED, REFERENCED, split_name
from assetserver.storage.signatures import read_signed

from .activation import write_release_index
from .bundlers import EntryChunks, PlaceOf, declared_names, source_keys
from .checks import CheckedRelease, CheckPolicy, Finding, check_release, is_left_out
from .compressing import Forms, compress_blobs
from .facts import Facts
from .headersfile import HeaderTable, parse_headers
from .library import Library
from .links import link_fields
from .manifest import FileRecord, Manifest, ReleaseId
from .pairing import Build
from .patterns import Dialect
from .redirectsfile import RedirectTable, parse_redirects
from .references import join_base
from .scan import FoundFile, Scan, scan_folder
from .siterules import HEADERS_FILE, NO_RULES, REDIRECTS_FILE, RULE_FILES, SiteRules
from .storing import Progress, StoredFile, store_files
from .survey import survey_files
from .updating import DeltaPolicy, DeltaReport, make_deltas

_NOT_FOUND_PAGE = "404.html"
"""Served at any depth: it cannot but address files from "/"."""

_RULES_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """How a site is published: whose reading of the rule files applies, globs of names declared fingerprints, what is checked.

    ``mount``: the URL path that the site is served under. ``fallback``: a page answers what is not there. ``deltas``: for the
    visitors of which releases before they are made.
    """

    dialect: Dialect = "netlify"
    immutable: tuple[str, ...] = ()
    policy: CheckPolicy = field(default_factory=CheckPolicy)
    mount: str = "/"
    fallback: bool = False
    deltas: DeltaPolicy = field(default_factory=DeltaPolicy)


@dataclass(slots=True)
class PublishReport:
    """What publishing did: files and bytes; ``saved`` is what each coding spares visitors, in bytes over all files.

    ``saved`` is None in a dry run, where nothing is compressed. ``fingerprints``: why names are taken for fingerprints, by path
    in order. ``findings``: what people should look at. ``has_rooted_references``: a page or style sheet refers to "/…", which,
    in a preview under another path than the site's, leads to what is live. ``deltas``: what returning visitors are spared.
    """

    release: ReleaseId
    files: int = 0
    size: int = 0
    new_blobs: int = 0
    new_bytes: int = 0
    compressed: int = 0
    existed: bool = False
    saved: dict[str, int] | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    has_rooted_references: bool = False
    deltas: DeltaReport = field(default_factory=DeltaReport)


DEFAULTS = PublishOptions()


def publish_folder(
    library: Library,
    folder: str,
    progress: Progress,
    options: PublishOptions = DEFAULTS,
    *,
    before: Sequence[ReleaseId] = (),
    dry_run: bool = False,
) -> PublishReport:
    """Make the files in ``folder`` a kept release of ``library`` and return what was done; no site names it yet.

    ``before``: the releases that visitors may hold files of, the likeliest first: they are to get what changed alone.
    ``dry_run``: find out, store nothing. May be repeated: the same files give the same release, and nothing is done twice.
    Raises ``PublishError`` for a folder that cannot be published, for what the checks stop, or if a file changes meanwhile.
    """
    return publish_scan(library, scan_folder(folder, RULE_FILES), progress, options, before=before, dry_run=dry_run)


def publish_scan(
    library: Library,
    scan: Scan,
    progress: Progress,
    options: PublishOptions = DEFAULTS,
    *,
    before: Sequence[ReleaseId] = (),
    dry_run: bool = False,
) -> PublishReport:
    """As ``publish_folder``, of a build whose files are known, and may be blobs of ``library`` already.

    Raises ``DigestMismatchError`` if a file is not what ``scan`` says that it must be.
    """
    rules, warnings = _read_rules(scan, options.dialect)
    taken = take_files(library, scan, progress, options.policy, dry_run=dry_run)
    stored = taken.kept
    facts = survey_files(library, stored, progress, dry_run=dry_run)
    records = _name_files(scan.place_of, stored, facts, options.immutable)
    findings = (*warnings, *_check(taken, records, facts, rules, options))
    manifest = Manifest(records, rules, _links(scan.place_of, records, facts, options.mount))
    report = _report(manifest, stored, findings)
    report.has_rooted_references = any(_is_rooted(one) for path, one in facts.items() if path != _NOT_FOUND_PAGE)
    if dry_run:
        return report
    library.confirm_folders()  # before anything durable is named in them
    sizes = {path: (record.digest, record.size) for path, record in records.items()}
    forms, report.compressed = compress_blobs(library, sizes, progress)
    library.blobs.confirm(
        {record.digest for record in records.values()} | {one.digest for made in forms.values() for one in made}
    )
    if sources := source_keys(scan.place_of, records):
        library.save_sources(manifest.id, sources)
    older = [one for one in before if one != manifest.id][: options.deltas.releases]
    report.deltas = make_deltas(library, Build(records, sources), older, forms, options.deltas, progress)
    report.existed = not library.save_manifest(manifest)
    write_release_index(library, manifest, lambda digest: forms.get(digest) or ())
    report.saved = _savings(manifest, forms)
    return report


@dataclass(frozen=True, slots=True)
class Taken:
    """What of a folder becomes the release, what is left out, and what secrets were seen, by path."""

    kept: list[StoredFile]
    left_out: tuple[str, ...]
    secrets: Mapping[str, str]


def take_files(library: Library, scan: Scan, progress: Progress, policy: CheckPolicy, *, dry_run: bool) -> Taken:
    """Hash the files of a build, store them unless ``dry_run``, and return what ``policy`` makes of them. May be repeated.

    Raises what ``store_files`` does, and ``DigestMismatchError`` if a file is not what ``scan`` says that it must be.
    """
    files = [one for one in scan.files if not is_left_out(one.path, policy)]
    keeps_secrets = policy.secrets == "publish"
    stored = store_files(library, scan.memory, files, progress, keeps_secrets=keeps_secrets, dry_run=dry_run)
    for one in stored:
        if scan.digests.get(one.found.path, one.digest) != one.digest:
            raise DigestMismatchError(f"{one.found.path} is {one.digest}, not {scan.digests[one.found.path]}")
    secrets: dict[str, str] = {one.found.path: one.known.secret for one in stored if one.known.secret}
    kept = [one for one in stored if not is_left_out(one.found.path, policy, one.known.secret or None)]
    named = {one.found.path for one in kept}
    return Taken(kept, (*scan.left_out, *(one.path for one in scan.files if one.path not in named)), secrets)


def _check(
    taken: Taken, records: Mapping[str, FileRecord], facts: Mapping[str, Facts], rules: SiteRules, options: PublishOptions
) -> list[Finding]:
    """Return what people should look at. Raises ``PublishError`` with all that stops."""
    globs = [compile_glob(glob) for glob in options.immutable]
    redirects = RedirectTable(rules.redirects, rules.dialect)
    headers = HeaderTable(rules.headers, rules.dialect)
    release = CheckedRelease(
        records,
        facts,
        taken.left_out,
        taken.secrets,
        immutable_by_rule=lambda path: any(glob.fullmatch(path) for glob in globs) or _is_immutable(headers, path),
        answered=lambda path: bool(rules.redirects) and redirects.select("/" + path, "") is not None,
        fallback=options.fallback,
        mount=options.mount,
        catch_all=_catch_all(rules),
    )
    return _stop(release, options)


def check_names(
    files: Mapping[str, FileRecord], left_out: Collection[str], secrets: Mapping[str, str], options: PublishOptions
) -> None:
    """Raise ``PublishError`` for what stops, as far as it can be told without looking into files: before they travel.

    ``left_out``, ``secrets``: as in ``Taken``.
    """
    _stop(CheckedRelease(files, left_out=left_out, secrets=secrets, mount=options.mount), options)


def _stop(release: CheckedRelease, options: PublishOptions) -> list[Finding]:
    findings = [*check_release(release, options.policy), *_reserved(release.files, options.mount)]
    if errors := [one.message for one in findings if one.level == "error"]:
        raise PublishError("\n".join(errors))
    return findings


def _catch_all(rules: SiteRules) -> str:
    """Return the page that a rule answers everything with that is not there, with status 200; "" if there is none."""
    rewrites = (one for one in rules.redirects if one.source == "/*" and one.status == HTTPStatus.OK and not one.query)
    return next((one.target for one in rewrites if ":" not in one.target), "")


def _is_rooted(facts: Facts) -> bool:
    return any(join_base(facts.base, one.url).startswith(("/", "\\")) for one in facts.references)


def _reserved(records: Mapping[str, FileRecord], mount: str) -> list[Finding]:
    """Return what would never be served, for its URL is the server's own."""
    path = next((path for path in records if mount == "/" and path.startswith("-/")), None)
    message = f"{path} cannot be served: URLs below /-/ are the server's own; rename the folder -"
    return [] if path is None else [Finding("error", "reserved", path, 0, message)]


def _is_immutable(headers: HeaderTable, path: str) -> bool:
    return any(name == b"cache-control" and b"immutable" in value.lower() for name, value in headers.select("/" + path).set)


def _read_rules(scan: Scan, dialect: Dialect) -> tuple[SiteRules, tuple[Finding, ...]]:
    headers, redirects = (_read_text(scan.rule_files.get(name)) for name in (HEADERS_FILE, REDIRECTS_FILE))
    header_rules, header_warnings = parse_headers(headers, dialect)
    redirect_rules, redirect_warnings = parse_redirects(redirects, dialect)
    warnings = [(HEADERS_FILE, text) for text in header_warnings] + [(REDIRECTS_FILE, text) for text in redirect_warnings]
    findings = tuple(Finding("warning", "rules", file, 0, text) for file, text in warnings)
    if not header_rules and not redirect_rules:
        return NO_RULES, findings
    return SiteRules(dialect, header_rules, redirect_rules), findings


def _read_text(found: FoundFile | None) -> str:
    if found is None:
        return ""
    path = found.full
    if found.size > _RULES_LIMIT_BYTES:
        raise PublishError(f"{path} is larger than {_RULES_LIMIT_BYTES:,} bytes; join rules with patterns")
    try:
        return b"".join(read_signed(path, found.signature)).decode()
    except FileChangedError as error:
        raise PublishError(f"{path} changed while it was read; publish again when the build is done") from error
    except OSError as error:
        raise PublishError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PublishError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def _name_files(
    place_of: PlaceOf, stored: list[StoredFile], facts: Mapping[str, Facts], immutable: tuple[str, ...]
) -> dict[str, FileRecord]:
    """Return the records of all files: which names are fingerprints, as far as this release alone can tell."""
    declared = declared_names(place_of, {one.found.path for one in stored})
    globs = [(compile_glob(glob), f"{DECLARED} by {glob}") for glob in immutable]
    named = _named_by_others(facts)

    def reason_of(one: StoredFile) -> str:
        path = one.found.path
        if one.known.is_proved:
            return PROVED
        if path in declared:
            return declared[path]
        for pattern, reason in globs:
            if pattern.fullmatch(path):
                return reason
        return REFERENCED if path.rpartition("/")[2] in named and split_name(path) else ""

    return {one.found.path: FileRecord(one.digest, one.found.size, reason_of(one)) for one in stored}


def _named_by_others(facts: Mapping[str, Facts]) -> set[str]:
    """Return the file names that occur in any file other than the one that has the name."""
    named: set[str] = set()
    for path, one in facts.items():
        named.update(name for name in one.names if name != path.rpartition("/")[2])
    return named


def _links(
    place_of: PlaceOf, files: Mapping[str, FileRecord], facts: Mapping[str, Facts], mount: str
) -> dict[str, tuple[str, ...]]:
    pages = {path: one for path, one in facts.items() if one.preloads}
    chunks = EntryChunks(place_of)
    links = {
        page: link_fields(page, one, files, chunks.preloads_of(page, one, mount=mount), mount=mount)
        for page, one in pages.items()
    }
    return {page: values for page, values in links.items() if values}


def _report(manifest: Manifest, stored: list[StoredFile], findings: tuple[Finding, ...]) -> PublishReport:
    new = {one.digest: one.found.size for one in stored if one.is_new}
    return PublishReport(
        manifest.id,
        files=len(stored),
        size=sum(one.found.size for one in stored),
        new_blobs=len(new),
        new_bytes=sum(new.values()),
        fingerprints={path: one.fingerprint for path, one in sorted(manifest.files.items()) if one.fingerprint},
        findings=findings,
    )


def _savings(manifest: Manifest, forms: Forms) -> dict[str, int]:
    saved: dict[str, int] = {}
    for record in manifest.files.values():
        for form in forms.get(record.digest, ()):
            saved[form.coding] = saved.get(form.coding, 0) + record.size - form.size
    return saved
