"""The commands for shells and readers: ``completion`` and ``manual``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import Command

_VARIABLE = "_ASSETSERVER_COMPLETE"


@click.command(cls=Command)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands and options.

    In ~/.bashrc: eval "$(assetserver completion bash)"; for fish, in ~/.config/fish/completions/assetserver.fish.
    """
    completer = get_completion_class(shell)
    assert completer is not None  # noqa: S101 - click has these three
    click.echo(completer(context.find_root().command, {}, "assetserver", _VARIABLE).source())


@click.command(cls=Command)
@click.argument("section", metavar="1|5", type=click.Choice(("1", "5")))
@click.pass_context
def manual(context: click.Context, section: str) -> None:
    """Print a page for man: 1 the commands, 5 the settings.

    To read it: assetserver manual 1 | man -l -
    """
    from .manual import format_commands, format_settings  # noqa: PLC0415 - `version` and `--help` must not wait

    main = context.find_root().command
    assert isinstance(main, click.Group)  # noqa: S101 - it has this command
    click.echo(format_commands(main) if section == "1" else format_settings(), nl=False)
