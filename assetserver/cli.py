"""The command line: ``assetserver serve``, ``check``, ``version``.

Exit codes follow sysexits.h: 0 done, 2 usage, 69 the address is taken, 78 configuration, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version as installed_version
from typing import Any, NoReturn

import click

from .errors import SettingsError

EX_CONFIG = 78

_CONFIG = click.option("--config", type=click.Path(), metavar="FILE", help="Settings; assetserver.toml if it is there.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(installed_version("assetserver"), "-V", "--version", message="assetserver %(version)s")
def main() -> None:
    """Serve static files with exact HTTP."""


@main.command()
@click.argument("directory", required=False, metavar="[DIR]")
@_CONFIG
@click.option("--host", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", type=int, help="TCP port to listen on; 0 takes any free one.  [8000]")
@click.option("--uds", metavar="PATH", help="Unix socket to listen on, instead of host and port.")
@click.option("--fd", type=int, help="Inherited listening socket, by number.")
@click.option("--workers", type=int, help="Worker processes.  [1]")
@click.option("--access-log", metavar="FORM", help="combined, json or off.  [combined]")
@click.option("--reload", is_flag=True, help="Restart when the program's own code changes, for development.")
def serve(directory: str | None, config: str | None, reload: bool, **flags: Any) -> None:
    """Serve the folder DIR at /, or without DIR what the settings say.

    Changes in the folder show within a second; text is compressed, caching is set, nothing has to be configured.
    """
    overrides: dict[str, Any] = {f"server.{name}": value for name, value in flags.items() if value is not None}
    if directory is not None:
        overrides["mounts"] = [{"prefix": "/", "directory": directory, "listing": True}]
    with _settings_errors():
        from .serving import serve_settings  # noqa: PLC0415 - `version` and `--help` must not wait for Uvicorn

        settings = _load(config, overrides)
        if not settings.mounts:
            _fail(
                2, "there is nothing to serve: name a folder (assetserver serve ./dist), or add [[mounts]] to assetserver.toml"
            )
        raise SystemExit(serve_settings(settings, _as_environment(config, overrides), reload=reload))


@main.command()
@_CONFIG
@click.option("--list", "wants_list", is_flag=True, help="List every setting instead, with default and limits (Markdown).")
def check(config: str | None, wants_list: bool) -> None:
    """Check the settings and say what would be served. Changes nothing; exits with 78 if something is wrong."""
    if wants_list:
        _list_settings()
        return
    with _settings_errors():
        from .app import create_app  # noqa: PLC0415 - as in `serve`
        from .serving import describe_mounts  # noqa: PLC0415

        settings = _load(config, {})
        create_app(settings)
        if not settings.mounts:
            _fail(EX_CONFIG, "the settings are sound, but there is nothing to serve: add [[mounts]]")
    for line in describe_mounts(settings):
        click.echo(line)
    click.echo("ok")


@main.command()
def version() -> None:
    """Say which version this is, and which versions it runs on."""
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


def _load(config: str | None, overrides: dict[str, Any]) -> Any:
    from .app import default_config  # noqa: PLC0415 - as in `serve`
    from .settings import load_settings  # noqa: PLC0415

    return load_settings(config or default_config(), os.environ, overrides)


def _as_environment(config: str | None, overrides: dict[str, Any]) -> dict[str, str]:
    """Return the flags as variables, for the processes that ``--workers`` and ``--reload`` start."""
    variables = {"ASSETSERVER_CONFIG": config} if config else {}
    for name, value in overrides.items():
        text = json.dumps(value) if isinstance(value, list) else str(value)
        variables["ASSETSERVER_" + name.upper().replace(".", "__")] = text
    return variables


class _settings_errors:  # noqa: N801 - used as a statement
    """Turns a ``SettingsError`` into one line on stderr and exit code 78."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SettingsError):
            _fail(EX_CONFIG, str(error))


def _fail(code: int, message: str) -> NoReturn:
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    raise SystemExit(code)
