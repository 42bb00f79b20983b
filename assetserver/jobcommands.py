"""The commands of background jobs: ``worker``, ``jobs list``, ``jobs retry``, ``jobs cancel``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from .announcing import announcements
from .data import data_folder, open_records
from .endings import tell_stopped, with_options
from .errors import JobError, JobMissingError, SettingsError
from .jobkinds import choose_kinds
from .jobs.job import STATES, Job, State
from .jobs.queue import JobDesk
from .settings import Settings
from .supervision.notices import Notifier
from .wording import escape, in_utc, plural, short_path
from .working import work

_DEAD: tuple[State, ...] = ("dead",)
_MANY = 10_000
_WIDEST = 100


def work_alone(settings: Settings, wanted: str) -> int:
    """Do jobs until stopped, of the kinds that are ``wanted``; return the exit code.

    Raises ``SettingsError`` if these settings know no kind of job. That they know none of those that are wanted is no mistake:
    a service that does them may be there before they are set.
    """
    kinds = choose_kinds(settings, wanted)
    if not kinds and not wanted:
        causes = "set images.enabled, images.on_demand, webhooks.url or [[purge]]"
        raise SettingsError(f"there is nothing to do: these settings cause no jobs; {causes}")
    if not kinds:
        told = f"nothing to do: these settings cause no jobs of the kinds {wanted}"
        click.echo(told, err=True)
        Notifier(os.environ).ready(told)
        return 0
    told = f"doing jobs ({', '.join(kinds)}) of {_place(settings)} (stop with Ctrl+C)"
    code = work(settings, kinds=wanted, on_ready=partial(click.echo, told, err=True))
    tell_stopped()
    return code


def check_worker(settings: Settings, wanted: str) -> int:
    """Raise ``SettingsError`` if a worker could not begin with these settings; changes nothing."""
    choose_kinds(settings, wanted)
    open_records(settings).close()
    return 0


def list_jobs(settings: Settings, options: dict[str, Any]) -> None:
    """List jobs, and below them on stderr how many there are of each state."""
    with _opened(settings) as desk:
        page = desk.list_jobs(options["state"], options["kind"], options["below"], options["limit"])
        count = desk.count()
    if options["as_json"]:
        click.echo(json.dumps({"jobs": [_as_json(job) for job in page.jobs], "next": page.next_id, "count": count}))
        return
    now = time.time()
    for line in _as_lines(page.jobs, now):
        click.echo(line)
    told = ", ".join(f"{count[state]} {state}" for state in STATES if state in count)
    click.echo(told or "no jobs", err=True)
    if page.next_id is not None:
        click.echo(f"more: {with_options(f'assetserver jobs list --below {page.next_id}')}", err=True)


def retry(settings: Settings, job_ids: Sequence[int], options: dict[str, Any]) -> None:
    """Queue jobs again: those named, or all that are dead."""
    with _opened(settings) as desk:
        if options["dead"]:
            job_ids = [job.id for job in desk.list_jobs(_DEAD, options["kind"], limit=_MANY).jobs]
        _change(desk.retry, job_ids, "queued again", as_json=options["as_json"])


def cancel(settings: Settings, job_ids: Sequence[int], *, as_json: bool) -> None:
    """Cancel jobs that are queued or running."""
    with _opened(settings) as desk:
        _change(desk.cancel, job_ids, "cancelled", as_json=as_json)


def _change(change: Callable[[int], Job], job_ids: Sequence[int], done: str, *, as_json: bool) -> None:
    """Change each job; what cannot be is told in the end, and the others are changed all the same."""
    changed: list[Job] = []
    refused: list[JobError] = []
    for job_id in dict.fromkeys(job_ids):
        try:
            changed.append(change(job_id))
        except JobError as error:
            refused.append(error)
    if as_json and not refused:
        click.echo(json.dumps({"jobs": [_as_json(job) for job in changed]}))
    elif not as_json:
        for job in changed:
            click.echo(f"{done}: {job.id} ({job.kind})")
        if not job_ids:
            click.echo("no job is dead", err=True)
    if refused:
        told = "; ".join(map(str, refused))
        others = f" ({len(changed)} {plural(len(changed), 'other')} {done})" if changed else ""
        raise JobError(told + others)


@contextmanager
def _opened(settings: Settings) -> Iterator[JobDesk]:
    """Give the jobs. Raises ``JobMissingError`` where nothing was ever kept: it would be made, and be empty."""
    records = open_records(settings, announcements(settings))
    if not records.are_there():
        raise JobMissingError(f"there are no jobs: there are no records in {_place(settings)}. If it is elsewhere, use --data")
    try:
        yield records.jobs()
    finally:
        records.close()


def _place(settings: Settings) -> str:
    """Return where the records are, without the password that may be in its address."""
    url = settings.database.url
    if url.startswith("postgresql"):
        return "PostgreSQL"
    return short_path(data_folder(settings) if url == "sqlite" else url.removeprefix("sqlite:///"))


def _as_lines(jobs: Sequence[Job], now: float) -> Iterator[str]:
    widths = [max((len(column) for column in columns), default=0) for columns in zip(*map(_columns, jobs), strict=True)]
    for job in jobs:
        line = "  ".join(f"{text:<{width}}" for text, width in zip(_columns(job), widths, strict=True))
        yield f"{line}  {_describe(job, now)}".rstrip()


def _columns(job: Job) -> tuple[str, str, str, str]:
    return str(job.id), job.state, escape(job.kind), in_utc(job.created)


def _describe(job: Job, now: float) -> str:
    """Say what is special about a job: how often it was tried, when it is tried again, and why."""
    told = []
    if job.attempts > 1 or job.reason:
        told.append(f"attempt {job.attempts} of {job.max_attempts}")
    if job.state == "running" and job.progress:
        told.append(f"{job.progress:.0%}")
    if job.state == "queued" and job.run_at > now + 1:
        told.append(f"again at {in_utc(job.run_at)}" if job.attempts else f"not before {in_utc(job.run_at)}")
    reason = escape(job.reason)
    if reason:
        told.append(reason if len(reason) <= _WIDEST else reason[: _WIDEST - 1] + "…")
    if job.signal:
        told.append(f"signal {job.signal}")
    return "; ".join(told)


def _as_json(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "priority": job.priority,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "progress": job.progress,
        "created": job.created,
        "run_at": job.run_at if job.state == "queued" else None,
        "finished": job.finished,
        "worker": job.worker if job.state == "running" else None,
        "reason": job.reason or None,
        "signal": job.signal or None,
    }
