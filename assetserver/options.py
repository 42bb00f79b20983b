"""What commands share: how they are found, the options that several take, and the settings that these lead to."""

from __future__ import annotations

import difflib
import os
from typing import Any, NoReturn

import click

from .errors import SettingsError

_NEAR = 0.8
"""How alike an option must be to be suggested, from 0 to 1: ``--prod`` for ``--prot``, never for ``--port``."""
_ELSEWHERE = {
    "activate": "promote",
    "add": "create",
    "aliases": "alias",
    "clean": "gc",
    "compare": "diff",
    "delete": "revoke",
    "deploy": "publish",
    "fsck": "verify",
    "invalidate": "purge",
    "kill": "cancel",
    "list": "releases",
    "ls": "releases",
    "new": "create",
    "prune": "gc",
    "push": "publish",
    "remove": "revoke",
    "revert": "rollback",
    "requeue": "retry",
    "rerun": "retry",
    "rm": "revoke",
    "run": "serve",
    "start": "serve",
    "status": "releases",
    "stop": "cancel",
    "switch": "promote",
    "tag": "alias",
    "undo": "rollback",
    "upload": "publish",
    "work": "worker",
}
"""What other tools call it."""


class Command(click.Command):
    """A command that suggests only options that are nearly what was written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words of the command; see ``click.Command``."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for one in self.get_params(ctx) for name in one.opts]
            near = difflib.get_close_matches(error.option_name, known, 1, _NEAR)
            raise click.NoSuchOption(error.option_name, error.message, near, ctx) from error


class Commands(click.Group):
    """Commands, found also where they are named as in other tools, to suggest the right one."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; see ``click.Group``."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            _refuse_command(ctx, name, list(self.commands))
        return super().resolve_command(ctx, args)


def _refuse_command(ctx: click.Context, name: str, known: list[str]) -> NoReturn:
    elsewhere = _ELSEWHERE.get(name)
    near = elsewhere if elsewhere in known else next(iter(difflib.get_close_matches(name, known, 1)), None)
    guess = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
    ctx.fail(f"there is no command {name}; {guess}")


CONFIG = click.option("--config", type=click.Path(), metavar="FILE", help="Settings; assetserver.toml if it is there.")
SITE = click.option("--site", metavar="NAME", help="Which site; needed where the settings name several.")
DATA = click.option("--data", type=click.Path(), metavar="DIR", help="Data folder.  [./data]")
JSON = click.option("--json", "as_json", is_flag=True, help="Say it in JSON.")


def data_path(path: str | None) -> dict[str, Any]:
    """Return what ``--data`` sets."""
    return {"data.path": path} if path else {}


def check_directory(path: str) -> None:
    """Raise ``SettingsError`` if ``path``, which someone typed, is no folder."""
    if os.path.isdir(path):
        return
    shown = os.path.normpath(path)
    what = f"{shown} is a file; name the folder that it is in" if os.path.isfile(path) else f"there is no folder {shown}"
    raise SettingsError(what)


def load(config: str | None, overrides: dict[str, Any]) -> Any:
    """Return the settings: those of ``config`` or the file that is there by default, the environment's, and ``overrides``."""
    from .settings import default_config, load_settings  # noqa: PLC0415 - `version` and `--help` must not wait for them

    return load_settings(config or default_config(), os.environ, overrides)
