"""The commands of a service, as they are typed. What they do stands in ``reloading`` and ``units``."""

from __future__ import annotations

import click

from .endings import told_kindly
from .options import CONFIG, DATA, Command, Commands, data_path, load

NEXT_STEPS = """
Next:
  systemd-sysusers && systemd-tmpfiles --create   # the user, and the folders
  systemctl daemon-reload
  systemctl enable --now assetserver.socket assetserver.service assetserver-gc.timer
  systemctl status assetserver

Settings are read from /etc/assetserver/assetserver.toml, if it is there; after a change: systemctl reload assetserver
Secrets are files in /etc/assetserver/credentials, such as webhooks.secrets."""


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

        click.echo(reloading.reload_server(lambda: load(config, data_path(data)), pid))


@click.group(cls=Commands)
def systemd() -> None:
    """Install the units of a systemd service."""


@systemd.command("install")
@click.option("--user", default="assetserver", show_default=True, metavar="U", help="User that runs all of it.")
@click.option("--prefix", metavar="P", help="Where bin/assetserver is.  [this installation]")
@click.option("--root", metavar="DIR", help="Write below DIR, where packages have their units.")
@click.option("--dry-run", is_flag=True, help="Show the files; write nothing.")
def install(user: str, prefix: str | None, root: str | None, dry_run: bool) -> None:
    """Write the units, with the right paths, and say what to do next.

    Units that are there are replaced: changes of your own belong into drop-ins, which systemctl edit makes.
    """
    with told_kindly():
        from . import units  # noqa: PLC0415 - as in `reload`

        place = prefix or units.own_prefix()
        files = list(units.render_units(units.find_units(), place, user, is_package=root is not None))
        if dry_run:
            for path, text in files:
                click.echo(f"# {path}\n{text}")
            return
        units.write_units(files, root or "/")
        for path, _ in files:
            click.echo(path)
        if root is None:
            click.echo(NEXT_STEPS, err=True)
