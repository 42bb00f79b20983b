"""The command line: what it takes. What the commands do stands in ``serving``, ``publishing``, ``upkeep`` and the like.

How they end, and with which exit code, stands in ``endings``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from .backupcli import backup, restore
from .endings import EX_FAILURE, told_kindly
from .jobcli import jobs, worker
from .lookcli import report, top
from .options import CONFIG, DATA, JSON, SITE, Commands, check_directory, data_path, load
from .purgecli import purge
from .servicecli import reload_server, systemd
from .shellcli import completion, manual
from .tokencli import sign, token


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="assetserver", message="assetserver %(version)s")
def main() -> None:
    """Publish websites and serve them, with exact HTTP."""


@main.command()
@click.argument("directory", required=False, metavar="[DIR]")
@CONFIG
@DATA
@click.option("--host", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", type=int, help="TCP port to listen on; 0 takes any free one.  [8000]")
@click.option("--uds", metavar="PATH", help="Unix socket to listen on, instead of host and port.")
@click.option("--fd", type=int, help="Inherited listening socket, by number.")
@click.option("--workers", type=int, help="Worker processes.  [1]")
@click.option("--access-log", metavar="FORM", help="combined, json or off.  [combined]")
@click.option("--reload", is_flag=True, help="Restart when the program's own code changes, for development.")
@click.option("--check", "is_check", is_flag=True, help="Only check whether that could be served; exit with 78 if not.")
def serve(directory: str | None, config: str | None, data: str | None, reload: bool, is_check: bool, **flags: Any) -> None:
    """Serve the folder DIR, or the active releases.

    With DIR, that folder at /; without, what the settings say, or else the active release of the data folder.

    Changes in the folder show within a second; text is compressed, caching is set, nothing has to be configured.
    """
    overrides: dict[str, Any] = {f"server.{name}": value for name, value in flags.items() if value is not None}
    if directory is not None:
        overrides["mounts"] = [{"prefix": "/", "directory": directory, "listing": True}]
        overrides |= {"uploads.enabled": False, "publish.remote": False}
    overrides |= data_path(data)
    with told_kindly():
        from .reloading import still_served  # noqa: PLC0415 - `version` and `--help` must not wait for Uvicorn

        with still_served() as handover:
            if directory is not None:
                check_directory(directory)
            from .serving import check_server, prepare_server  # noqa: PLC0415 - as above

            settings = load(config, overrides)
            if is_check:
                check_server(settings)
                return
            run = prepare_server(settings, _as_environment(config, overrides), reload=reload, handover=handover)
        raise SystemExit(run())


@main.command()
@CONFIG
@DATA
@click.option("--list", "wants_list", is_flag=True, help="List every setting instead, with default and limits (Markdown).")
def check(config: str | None, data: str | None, wants_list: bool) -> None:
    """Check the settings and say what would be served.

    Changes nothing; exits with 78 if something is wrong.
    """
    if wants_list:
        _list_settings()
        return
    with told_kindly():
        from .app import create_app  # noqa: PLC0415 - as in `serve`
        from .certificates import open_certificates  # noqa: PLC0415
        from .data import check_data_folder, warn_of_records  # noqa: PLC0415
        from .serving import describe_jobs, describe_mounts  # noqa: PLC0415

        settings = load(config, data_path(data))
        create_app(settings)
        check_data_folder(settings)
        open_certificates(settings)
        warning = warn_of_records(settings) if settings.uploads.enabled else ""
    for line in (*describe_mounts(settings), *describe_jobs(settings)):
        click.echo(line)
    if warning:
        click.secho("warning: ", fg="yellow", bold=True, nl=False, err=True)
        click.echo(warning, err=True)
    click.echo("ok")


@main.command()
@click.argument("directory", metavar="DIR")
@CONFIG
@DATA
@SITE
@click.option("--prod", is_flag=True, help="Serve it from now on.")
@click.option("--alias", default="", metavar="A", help="Name that means this release from now on, such as staging.")
@click.option("--message", "-m", default="", metavar="M", help="What is in it, for people.")
@click.option("--sign", default="", metavar="KEY", help="Sign it with this minisign secret key.")
@click.option(
    "--integrity", default="", metavar="FILE", help="Write every file's integrity (SRI, sha384) to FILE, or - for stdout."
)
@click.option("--images", is_flag=True, help="Have its pictures made smaller, for images.on_demand.")
@click.option("--url", default="", metavar="URL", help="Publish to the server at URL; only what is missing there travels.")
@click.option(
    "--token",
    default="",
    envvar="ASSETSERVER_TOKEN",
    metavar="T",
    help="Token for --url, with the scope publish.  [$ASSETSERVER_TOKEN]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; store nothing.")
@JSON
def publish(directory: str, config: str | None, data: str | None, **options: Any) -> None:
    """Turn the folder DIR into a release.

    It is immutable, compressed and kept; the same files are the same release.

    With --url, on another machine, as its settings say.
    """
    if options["url"] and (config or data):
        raise click.UsageError(f"{'--config' if config else '--data'} is of this machine, and --url of another; leave one out")
    if options["url"] and options["images"]:
        raise click.UsageError("--images is for a publish on the server itself; leave it out")
    with told_kindly():
        if options["url"]:
            from . import remotepublishing  # noqa: PLC0415 - as in `serve`

            remotepublishing.publish(directory, options)
            return
        from . import publishing  # noqa: PLC0415 - as in `serve`

        publishing.publish(load(config, data_path(data)), directory, options)


@main.command()
@click.argument("release")
@CONFIG
@DATA
@SITE
def promote(release: str, config: str | None, data: str | None, site: str | None) -> None:
    """Serve RELEASE from now on, in one step.

    RELEASE is an id, its first digits, or @alias.
    """
    with told_kindly():
        from . import publishing  # noqa: PLC0415 - as in `serve`

        publishing.promote(load(config, data_path(data)), site, release)


@main.command()
@click.argument("release", required=False)
@CONFIG
@DATA
@SITE
def rollback(release: str | None, config: str | None, data: str | None, site: str | None) -> None:
    """Serve what was active before, or RELEASE, in one step."""
    with told_kindly():
        from . import publishing  # noqa: PLC0415 - as in `serve`

        publishing.rollback(load(config, data_path(data)), site, release)


@main.command()
@CONFIG
@DATA
@SITE
@JSON
def releases(config: str | None, data: str | None, site: str | None, as_json: bool) -> None:
    """List the kept releases, the newest first; * is the active one."""
    with told_kindly():
        from . import publishing  # noqa: PLC0415 - as in `serve`

        publishing.list_releases(load(config, data_path(data)), site, as_json=as_json)


@main.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="[B]", required=False)
@CONFIG
@DATA
@SITE
@click.option("--all", "is_long", is_flag=True, help="List every file, not the first of each kind.")
@JSON
def diff(old: str, new: str | None, config: str | None, data: str | None, site: str | None, **options: Any) -> None:
    """Compare two releases, in files and bytes.

    With A alone: what is active, and A.
    """
    with told_kindly():
        from . import upkeep  # noqa: PLC0415 - as in `serve`

        upkeep.diff(load(config, data_path(data)), site, old, new, **options)


@main.command()
@click.argument("release", required=False)
@CONFIG
@DATA
@SITE
@click.option("--repair", is_flag=True, help="Remove damaged blobs and records, so that publishing again stores them anew.")
@JSON
def verify(release: str | None, config: str | None, data: str | None, site: str | None, **options: Any) -> None:
    """Read all releases again and name what is wrong.

    With RELEASE only that. Exits with 1 if anything is wrong.
    """
    with told_kindly():
        from . import upkeep  # noqa: PLC0415 - as in `serve`

        is_sound = upkeep.verify(load(config, data_path(data)), site, release, **options)
    if not is_sound:
        raise SystemExit(EX_FAILURE)


@main.command()
@CONFIG
@DATA
@click.option(
    "--keep",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="N",
    help="Keep the N newest releases of each site.",
)
@click.option(
    "--keep-days",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    metavar="N",
    help="Keep those of the last N days, too.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@JSON
def gc(config: str | None, data: str | None, **options: Any) -> None:
    """Remove old releases and what only they need.

    What is active, what rolling back leads to and what has an alias always stay. Waits for publishing to end.
    """
    with told_kindly():
        from . import upkeep  # noqa: PLC0415 - as in `serve`

        upkeep.gc(load(config, data_path(data)), **options)


@main.command()
@click.argument("name", required=False)
@click.argument("release", required=False)
@CONFIG
@DATA
@SITE
@click.option("--remove", is_flag=True, help="Remove the alias NAME; its release stays until gc.")
@JSON
def alias(name: str | None, release: str | None, config: str | None, data: str | None, **options: Any) -> None:
    """Give a release a name, or list the names.

    NAME means RELEASE from now on; without RELEASE, say what it means; without NAME, list all.

    What has an alias is kept by gc, and can be seen at /-/releases/@NAME/.
    """
    if options["remove"] and (name is None or release is not None):
        raise click.UsageError("--remove wants the NAME of the alias, and nothing else")
    with told_kindly():
        from . import upkeep  # noqa: PLC0415 - as in `serve`

        upkeep.alias(load(config, data_path(data)), options.pop("site"), name, release, **options)


@main.command()
@CONFIG
@DATA
@SITE
@click.option("--message", "-m", default="", metavar="M", help="Why, for those who are refused.")
def lock(config: str | None, data: str | None, site: str | None, message: str) -> None:
    """Refuse promote, rollback and publish --prod until unlock."""
    with told_kindly():
        from . import upkeep  # noqa: PLC0415 - as in `serve`

        upkeep.lock(load(config, data_path(data)), site, message)


@main.command()
@CONFIG
@DATA
@SITE
def unlock(config: str | None, data: str | None, site: str | None) -> None:
    """Allow promote, rollback and publish --prod again."""
    with told_kindly():
        from . import upkeep  # noqa: PLC0415 - as in `serve`

        upkeep.unlock(load(config, data_path(data)), site)


main.add_command(token)
main.add_command(sign)
main.add_command(worker)
main.add_command(jobs)
main.add_command(top)
main.add_command(report)
main.add_command(reload_server)
main.add_command(systemd)
main.add_command(purge)
main.add_command(backup)
main.add_command(restore)
main.add_command(completion)
main.add_command(manual)


@main.command()
def version() -> None:
    """Say which version this is, and which versions it runs on."""
    from importlib.metadata import version as installed_version  # noqa: PLC0415 - 20 ms that no other command needs

    python = sys.version.split()[0]
    parts = [f"{name} {installed_version(name)}" for name in ("starlette", "uvicorn", "httptools", "uvloop", "brotli")]
    click.echo(f"assetserver {installed_version('assetserver')} (Python {python}, {', '.join(parts)})")


def _list_settings() -> None:
    from .settings import describe_settings  # noqa: PLC0415 - as in `serve`

    click.echo("# Settings\n\nMade by `assetserver check --list`.\n")
    click.echo("| Setting | Type | Default | Limits | What it is |\n| --- | --- | --- | --- | --- |")
    for row in describe_settings():
        cells = (f"`{row.name}`", row.type, f"`{row.default}`" if row.default else "", row.limits, row.description)
        click.echo(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")


def _as_environment(config: str | None, overrides: dict[str, Any]) -> dict[str, str]:
    """Return the flags as variables, for the processes that ``--workers`` and ``--reload`` start."""
    variables = {"ASSETSERVER_CONFIG": config} if config else {}
    for name, value in overrides.items():
        text = json.dumps(value) if isinstance(value, list) else str(value)
        variables["ASSETSERVER_" + name.upper().replace(".", "__")] = text
    return variables
