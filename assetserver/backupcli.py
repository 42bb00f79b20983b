"""The commands ``backup`` and ``restore``. What they do stands in ``backup`` and ``restoring``."""

from __future__ import annotations

import json

import click
import msgspec

from .endings import EX_FAILURE, told_kindly
from .options import CONFIG, DATA, JSON, Command, data_path, load
from .wording import in_units, in_utc, plural


@click.command(cls=Command)
@click.argument("to", metavar="TO", type=click.Path())
@CONFIG
@DATA
@click.option("--verify", is_flag=True, help="Read all of it again, what was there before, too.")
@JSON
def backup(to: str, config: str | None, data: str | None, verify: bool, as_json: bool) -> None:
    """Copy all of the data to the folder TO.

    Releases, uploads and records, of one moment, while the server runs.

    TO is made, or continued: only what is new is copied, as hard links where TO is on the same disk.

    Exits with 1 if something of the data is damaged or lost; all the rest is in the backup.
    """
    with told_kindly():
        from .backup import back_up  # noqa: PLC0415 - `version` and `--help` must not wait for Uvicorn

        report = back_up(load(config, data_path(data)), to, verify=verify, on_wait=_tell_waiting)
    if as_json:
        click.echo(json.dumps({"ok": not report.faults, **msgspec.to_builtins(report)}))
    else:
        sites, releases = f"{report.sites:,} {plural(report.sites, 'site')}", plural(report.releases, "release")
        click.echo(f"backed up {sites}, {report.releases:,} {releases}, {report.blobs:,} {plural(report.blobs, 'blob')}")
        click.echo(f"  {report.new_blobs:,} new ({in_units(report.new_bytes)}); snapshot {report.snapshot}")
        if report.records == "postgresql":
            click.echo("  records are in PostgreSQL, and not in it: see docs/backup.md")
        for fault in report.faults:
            click.echo(f"  fault: {fault}", err=True)
    if report.faults:
        raise SystemExit(EX_FAILURE)


@click.command(cls=Command)
@click.argument("source", metavar="FROM", type=click.Path())
@CONFIG
@DATA
@JSON
def restore(source: str, config: str | None, data: str | None, as_json: bool) -> None:
    """Make a data folder of the backup in the folder FROM.

    The data folder has to be empty, or not there yet. Every byte is checked.
    """
    with told_kindly():
        from .restoring import restore as restore_data  # noqa: PLC0415 - as in `backup`

        report = restore_data(load(config, data_path(data)), source)
    if as_json:
        click.echo(json.dumps({"ok": True, **msgspec.to_builtins(report)}))
        return
    click.echo(f"restored what was there at {in_utc(report.begun)}: {', '.join(report.sites) or 'no site'}")
    click.echo(f"  {report.blobs:,} {plural(report.blobs, 'blob')} ({in_units(report.bytes)}), all sound")
    if report.records == "postgresql":
        click.echo("  records are in PostgreSQL: restore them with pg_restore")


def _tell_waiting() -> None:
    click.echo("waiting for another command on this data that is running: gc, verify --repair or backup", err=True)
