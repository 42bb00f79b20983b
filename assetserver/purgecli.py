"""The command ``purge``, as it is typed. What it does stands in ``purgecommands``."""

from __future__ import annotations

from typing import Any

import click

from .endings import told_kindly
from .options import CONFIG, DATA, JSON, SITE, Command, data_path, load


@click.command(cls=Command)
@click.argument("paths", metavar="PATH...", nargs=-1)
@CONFIG
@DATA
@SITE
@click.option("--tag", "tags", multiple=True, metavar="T", help="All that has this tag of [[cache]]; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="All of the site.")
@JSON
def purge(paths: tuple[str, ...], config: str | None, data: str | None, **options: Any) -> None:
    """Have the caches of [[purge]] forget URLs.

    PATH is the path of a URL, such as /docs/; it is purged wherever the site is served.

    Publishing, promoting and rolling back purge by themselves what they change.
    """
    if not (paths or options["tags"] or options["everything"]):
        raise click.UsageError("say what: PATHs such as /docs/, --tag T, or --all")
    with told_kindly():
        from . import purgecommands  # noqa: PLC0415 - `version` and `--help` must not wait for Uvicorn

        purgecommands.purge(load(config, data_path(data)), paths, **options)
