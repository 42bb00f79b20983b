"""The commands that look at what a server does, as they are typed. What they do stands in ``topcommand`` and ``reporting``."""

from __future__ import annotations

import click

from .endings import told_kindly
from .options import CONFIG, DATA, JSON, Command, data_path, load


@click.command(cls=Command)
@CONFIG
@DATA
@click.option("--url", default="", metavar="URL", help="Where the server is, or its admin socket's path.  [from the settings]")
@click.option(
    "--token",
    default="",
    envvar="ASSETSERVER_TOKEN",
    metavar="T",
    help="Token with the scope metrics, where there is no admin listener.  [$ASSETSERVER_TOKEN]",
)
@click.option("--interval", type=click.FloatRange(0.2, 3600), default=1.0, metavar="S", help="Look every S seconds.  [1]")
@click.option("--once", is_flag=True, help="Show one screen, and end.")
def top(config: str | None, data: str | None, url: str, token: str, interval: float, *, once: bool) -> None:
    """Watch a running server.

    Requests, codings, what is asked for most, missed names of old releases, jobs; until Ctrl+C.
    """
    with told_kindly():
        from . import topcommand  # noqa: PLC0415 - `version` and `--help` must not wait for what draws

        topcommand.top(load(config, data_path(data)), url, token, interval, is_once=once)


@click.command(cls=Command)
@CONFIG
@DATA
@click.option("--days", type=click.IntRange(1, 35), default=7, metavar="N", help="The last N days, today among them.  [7]")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, metavar="N", help="At most N of each.  [20]")
@JSON
def report(config: str | None, data: str | None, days: int, limit: int, *, as_json: bool) -> None:
    """Say what was asked for.

    Top assets, releases that still get requests, how often memory answered, missed names of old releases.
    """
    with told_kindly():
        from . import reporting  # noqa: PLC0415 - as in `top`

        reporting.report(load(config, data_path(data)), days, limit, as_json=as_json)
