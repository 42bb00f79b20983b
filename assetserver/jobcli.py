"""The commands of background jobs, as they are typed. What they do stands in ``jobcommands`` and ``working``."""

from __future__ import annotations

from typing import Any

import click

from .endings import told_kindly
from .jobs.job import STATES
from .options import CONFIG, DATA, JSON, Command, Commands, data_path, load

IDS = click.argument("job_ids", metavar="ID...", type=click.IntRange(1), nargs=-1)


@click.command(cls=Command)
@CONFIG
@DATA
@click.option("--kinds", default="", metavar="K,…", help="Only these, such as purge,webhook: those that open connections.")
@click.option("--check", "is_check", is_flag=True, help="Only check whether that could be done; exit with 78 if not.")
def worker(config: str | None, data: str | None, kinds: str, is_check: bool) -> None:
    """Do background jobs until stopped.

    serve does them beside itself; run this on its own to have more hands, any number of times, with the same settings.

    Stopped with SIGTERM or Ctrl+C it finishes what it has begun; with SIGHUP, too, and then begins anew, with new settings.
    Killed, others take its jobs over.
    """
    with told_kindly():
        from . import jobcommands  # noqa: PLC0415 - `version` and `--help` must not wait for Uvicorn

        settings = load(config, data_path(data))
        raise SystemExit(jobcommands.check_worker(settings, kinds) if is_check else jobcommands.work_alone(settings, kinds))


@click.group(cls=Commands)
def jobs() -> None:
    """List, retry and cancel background jobs.

    What failed for good is dead, and kept for a month.
    """


@jobs.command("list")
@CONFIG
@DATA
@click.option(
    "--state",
    type=click.Choice(STATES),
    multiple=True,
    metavar="S",
    help="Only those that are queued, running, done, dead or cancelled; may be repeated.",
)
@click.option("--kind", default="", metavar="K", help="Only this kind, such as webhook.")
@click.option("--below", type=click.IntRange(1), metavar="ID", help="Go on below ID, where a list ended.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, metavar="N", help="At most N.  [50]")
@JSON
def list_jobs(config: str | None, data: str | None, **options: Any) -> None:
    """List the jobs, the newest first, with what went wrong."""
    with told_kindly():
        from . import jobcommands  # noqa: PLC0415 - as in `worker`

        jobcommands.list_jobs(load(config, data_path(data)), options)


@jobs.command("retry")
@IDS
@CONFIG
@DATA
@click.option("--dead", is_flag=True, help="All that are dead, instead of IDs.")
@click.option("--kind", default="", metavar="K", help="With --dead: only this kind.")
@JSON
def retry_jobs(job_ids: tuple[int, ...], config: str | None, data: str | None, **options: Any) -> None:
    """Queue jobs again that are dead or cancelled, as if they were new."""
    if bool(job_ids) == options["dead"]:
        raise click.UsageError("say which: IDs as `assetserver jobs list` shows them, or --dead for all that are dead")
    with told_kindly():
        from . import jobcommands  # noqa: PLC0415 - as in `worker`

        jobcommands.retry(load(config, data_path(data)), job_ids, options)


@jobs.command("cancel")
@IDS
@CONFIG
@DATA
@JSON
def cancel_jobs(job_ids: tuple[int, ...], config: str | None, data: str | None, as_json: bool) -> None:
    """Cancel jobs that are queued or running.

    What a worker does for one at this moment is of no effect any more.
    """
    if not job_ids:
        raise click.UsageError("say which: IDs as `assetserver jobs list` shows them")
    with told_kindly():
        from . import jobcommands  # noqa: PLC0415 - as in `worker`

        jobcommands.cancel(load(config, data_path(data)), job_ids, as_json=as_json)
