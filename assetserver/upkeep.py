"""The commands that keep releases in order: ``diff``, ``verify``, ``gc``, ``alias``, ``lock``, ``unlock``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import click
import msgspec

from .data import check_signature, open_kept, open_site
from .endings import with_options
from .errors import ReleaseMissingError
from .progress import Progress
from .releases.collect import CollectReport, Retention, collect
from .releases.compare import Comparison, FileChange, Kind, Weight, compare_releases
from .releases.manifest import SHORT, ReleaseId
from .releases.sites import SiteState, lock_site, parse_alias, remove_alias, set_alias, unlock_site
from .releases.verify import Fault, VerifyReport
from .releases.verify import verify as verify_releases
from .settings import Settings
from .wording import escape, in_units, in_utc, plural

_LISTED = 10
"""Files of each kind that ``diff`` lists, unless all are wanted."""
_WIDEST = 72
_NAMED = 3
"""Paths, and releases, that are named with a fault."""


def diff(settings: Settings, site_name: str | None, old: str, new: str | None, *, is_long: bool, as_json: bool) -> None:
    """Say what leads from release ``old`` to ``new``; without ``new``, from the active release to ``old``."""
    library, site = open_site(settings, site_name)
    state = site.read()
    before, after = (state.resolve(old), state.resolve(new)) if new else (_active(state), state.resolve(old))
    found = compare_releases(library, before, after)
    if as_json:
        click.echo(json.dumps({"ok": True, **msgspec.to_builtins(found)}))
        return
    for line in _describe_comparison(found, state, None if is_long else _LISTED):
        click.echo(line)


def verify(settings: Settings, site_name: str | None, release: str | None, *, repair: bool, as_json: bool) -> bool:
    """Read everything again, or ``release``; say what is wrong and return whether nothing is."""
    library, wanted = open_kept(settings), None
    if release is not None or site_name is not None:  # all sites are read, so none has to be named
        state = open_site(settings, site_name)[1].read()
        wanted = state.resolve(release) if release is not None else None
    progress = Progress()
    check = check_signature(settings, library)
    report = verify_releases(library, progress, wanted, repair=repair, check_manifest=check, on_wait=_tell_waiting)
    progress.finish()
    if as_json:
        click.echo(json.dumps({"ok": not report.faults, "sound": not report.faults, **msgspec.to_builtins(report)}))
    else:
        for line in _describe_verification(report):
            click.echo(with_options(line))
    return not report.faults


def gc(settings: Settings, *, keep: int, keep_days: float, dry_run: bool, as_json: bool) -> None:
    """Remove what no site needs any more, and say what that was."""
    library = open_kept(settings)
    report = collect(library, Retention(keep, keep_days), dry_run=dry_run, on_wait=_tell_waiting)
    if as_json:
        click.echo(json.dumps({"ok": True, "dry_run": dry_run, **msgspec.to_builtins(report)}))
        return
    for line in _describe_collection(report, dry_run=dry_run):
        click.echo(line)


def alias(
    settings: Settings, site_name: str | None, name: str | None, release: str | None, *, remove: bool, as_json: bool
) -> None:
    """List the aliases of a site; or say what ``name`` means, make it mean ``release``, or ``remove`` it."""
    _, site = open_site(settings, site_name)
    before = site.read()
    if name is not None and release is not None:
        wanted = parse_alias(name)
        after = site.change(lambda state: set_alias(state, wanted, release))
        line = f"@{wanted} means {after.aliases[wanted][:SHORT]}"
        line += f"; before it was {before.aliases[wanted][:SHORT]}" if wanted in before.aliases else ""
    elif name is not None and remove:
        after = site.change(lambda state: remove_alias(state, name))
        line = f"@{name.removeprefix('@')} is removed; what it meant stays until gc"
    elif name is not None:
        after, line = before, f"@{name.removeprefix('@')} means {before.resolve('@' + name.removeprefix('@'))[:SHORT]}"
    else:
        after = before
        rows = [f"@{one} {meant[:SHORT]}" for one, meant in sorted(before.aliases.items())]
        line = "\n".join(rows) or with_options(f"site {site.name} has no aliases: assetserver alias NAME RELEASE")
    click.echo(json.dumps({"ok": True, "site": site.name, "aliases": dict(sorted(after.aliases.items()))}) if as_json else line)


def lock(settings: Settings, site_name: str | None, message: str) -> None:
    """Refuse activations of a site, for the reason ``message``, until it is unlocked."""
    _, site = open_site(settings, site_name)
    reason = message or f"since {in_utc(time.time())}"
    site.change(lambda state: lock_site(state, reason))
    click.echo(f"site {site.name} is locked: {escape(reason)}")


def unlock(settings: Settings, site_name: str | None) -> None:
    """Allow activations of a site again."""
    _, site = open_site(settings, site_name)
    before = SiteState()

    def how(state: SiteState) -> SiteState:
        nonlocal before
        before = state
        return unlock_site(state)

    site.change(how)
    click.echo(
        f"site {site.name} is unlocked; it was locked: {escape(before.lock)}"
        if before.lock
        else f"site {site.name} was not locked"
    )


def _active(state: SiteState) -> ReleaseId:
    if state.active is None:
        raise ReleaseMissingError("nothing is active to compare with; name two releases")
    return state.active


def _tell_waiting() -> None:
    click.echo("waiting for another command on this data that is running: publish, verify or gc", err=True)


def _describe_comparison(found: Comparison, state: SiteState, limit: int | None) -> Iterable[str]:
    yield f"{_name(found.before, state)} → {_name(found.after, state)}"
    shown = [one for kind in Kind for one in found.of(kind)[:limit]]
    width = min(max((len(_path(one)) for one in shown), default=0), _WIDEST)
    for kind in Kind:
        changes = found.of(kind)
        yield from (_describe_change(one, width) for one in changes[:limit])
        if rest := changes[limit:] if limit is not None else []:
            before, after = _sum(one.before for one in rest), _sum(one.after for one in rest)
            path = f"… and {len(rest):,} more; --all lists them"
            deltas = [one.delta for one in rest if one.delta is not None]
            yield _describe_change(FileChange(kind, path, path, before, after, sum(deltas) if deltas else None), width)
    counts = [f"{len(found.of(kind)):,} {kind.value}" for kind in Kind if found.of(kind)]
    yield ", ".join([*counts, f"{found.same:,} the same"])
    (old, new), (before, after) = found.files, found.weights
    raw = f"{in_units(before.raw)} → {in_units(after.raw)} ({_signed(after.raw - before.raw)})"
    br = f"{in_units(before.br)} → {in_units(after.br)} ({_signed(after.br - before.br)})"
    yield f"{old:,} → {new:,} files, {raw}, with br {br}"
    visits = found.visits
    plain = f" ({in_units(visits.returning_plain)} without deltas)" if visits.returning < visits.returning_plain else ""
    yield f"first visit {in_units(visits.first)}, returning visit {in_units(visits.returning)}{plain}"


def _describe_change(one: FileChange, width: int) -> str:
    sizes = ""
    if one.before != one.after or one.delta is not None:
        before, after = ("" if weight == Weight() else in_units(weight.raw) for weight in (one.before, one.after))
        br = f"{in_units(one.after.br):>8} with br" if after else ""
        sizes = f"{before:>8} → {after:>8}  {br}"
    if one.delta is not None:
        sizes += f"  {in_units(one.delta):>8} as a delta"
    return f"  {one.kind.value:<8} {_path(one):<{width}} {sizes}".rstrip()


def _path(one: FileChange) -> str:
    if one.kind is not Kind.RENAMED or one.old == one.new:
        return escape(one.new or one.old)
    folder, _, name = one.new.rpartition("/")
    return escape(f"{one.old} → {name if one.old.rpartition('/')[0] == folder else one.new}")


def _describe_verification(report: VerifyReport) -> Iterable[str]:
    for fault in report.faults:
        repaired = " (removed)" if fault.repaired else ""
        yield f"{_describe_use(fault)}{fault.what}{repaired}; {fault.remedy}"
    wrong = len(report.faults)
    result = f"{wrong:,} {plural(wrong, 'fault')}" if wrong else "all sound"
    releases = f"{report.releases:,} {plural(report.releases, 'release')}, {report.blobs:,} {plural(report.blobs, 'blob')}"
    yield f"checked {releases}, {in_units(report.bytes)}, in {report.seconds:.1f} s: {result}"
    if (count := report.unkept) and not report.faults:  # with a damaged state, nobody knows what is kept
        yield f"no site keeps {count:,} {plural(count, 'release')}: assetserver gc"
    if count := report.unreferenced:
        size = in_units(report.unreferenced_bytes)
        yield f"no release that can be read needs {count:,} {plural(count, 'blob')} ({size}): assetserver gc"


def _describe_use(fault: Fault) -> str:
    releases: dict[str, list[str]] = {}
    for release, path in fault.used:
        releases.setdefault(path, []).append(release[:SHORT])
    named = [f"{escape(path)} of {_some(ids, ' and ')}" for path, ids in list(releases.items())[:_NAMED]]
    rest = len(releases) - len(named)
    return (", ".join(named) + (f" and {rest:,} more" if rest else "") + ": ") if named else ""


def _describe_collection(report: CollectReport, *, dry_run: bool) -> Iterable[str]:
    verb = "would remove" if dry_run else "removed"
    stay = f"{report.kept:,} {plural(report.kept, 'release')} {'stays' if report.kept == 1 else 'stay'}"
    if not report.files and not any(report.dropped.values()):
        yield f"nothing to remove; {stay}"
        return
    for site, dropped in report.dropped.items():
        if dropped:
            yield f"site {site} {'would drop' if dry_run else 'dropped'} {_some([one[:SHORT] for one in dropped])}"
    count = len(report.releases)
    releases = [f"{count:,} {plural(count, 'release')}"] if count else []
    unused = "" if count else "unused "
    kinds = ", ".join([*releases, *(f"{number:,} {unused}{plural(number, kind)}" for kind, number in report.files.items())])
    yield f"{verb} {kinds or 'no files'} ({in_units(sum(report.bytes.values()))}); {stay}"


def _name(release: ReleaseId, state: SiteState) -> str:
    names = [f"@{alias}" for alias, meant in state.aliases.items() if meant == release]
    names += ["active"] if release == state.active else []
    return release[:SHORT] + (f" ({', '.join(names)})" if names else "")


def _some(names: list[str], between: str = ", ") -> str:
    rest = len(names) - _NAMED
    return between.join(names[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def _sum(weights: Iterable[Weight]) -> Weight:
    return sum(weights, Weight())


def _signed(count: int) -> str:
    return ("+" if count > 0 else "-" if count < 0 else "±") + in_units(abs(count))
