"""The commands of a service, as they are typed. What they do stands in ``reloading`` and ``units``."""

from __future__ import annotations

import click

from .endings import told_kindly
from .options import CONFIG, DATA, Command, data_path, load


@click.command("reload", cls=Command)
@CONFIG
@DATA
@click.option("--pid", type=click.IntRange(1), metavar="N", help="Which server, where several share a data folder.")
def reload_server(config: str | None, data: str | None, pid: int | None) -> None:
    """Have the running server read its settings anew.

    It checks them first, starts new workers, and lets the old ones go when the new ones are ready; no request is lost. If
    anything is wrong, this says so and exits with 1, and what ran before goes on.
    """
    with told_kindly():
        from . import reloading  # noqa: PLC0415 - `version` and `--help` must not wait for Uvicorn

        click.echo(reloading.reload_server(load(config, data_path(data)), pid))
