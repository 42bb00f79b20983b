"""The commands of access, as they are typed. What they do stands in ``tokencommands``."""

from __future__ import annotations

from typing import Any

import click

from .endings import told_kindly
from .options import CONFIG, DATA, JSON, Command, Commands, data_path, load


@click.group(cls=Commands)
def token() -> None:
    """Make, list and revoke tokens.

    Uploading, and publishing over HTTP, need one.
    """


@token.command("create")
@CONFIG
@DATA
@click.option(
    "--scope",
    type=click.Choice(["upload", "publish", "read", "metrics", "admin"]),
    multiple=True,
    required=True,
    help="What it may do; may be repeated. admin is all of them.",
)
@click.option("--prefix", default="", metavar="P", help="Names of what is uploaded with it must begin with P.")
@click.option("--expires", default="", metavar="TIME", help="How long it counts, such as 12h or 90d.  [for ever]")
@click.option("--note", default="", metavar="N", help="What it is for, for people.")
@JSON
def create_token(config: str | None, data: str | None, **options: Any) -> None:
    """Make a token and print it.

    It stands alone on stdout, for TOKEN=$(assetserver token create --scope upload); what it may do is told on stderr. Only a
    hash of it is kept: it cannot be shown again.
    """
    with told_kindly():
        from . import tokencommands  # noqa: PLC0415 - as in `serve`

        tokencommands.create(load(config, data_path(data)), options)


@token.command("list")
@CONFIG
@DATA
@JSON
def list_tokens(config: str | None, data: str | None, as_json: bool) -> None:
    """List the tokens, the oldest first."""
    with told_kindly():
        from . import tokencommands  # noqa: PLC0415 - as in `serve`

        tokencommands.list_tokens(load(config, data_path(data)), as_json=as_json)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@CONFIG
@DATA
def revoke_token(token_id: str, config: str | None, data: str | None) -> None:
    """Make the token ID void, with its grants, at once."""
    with told_kindly():
        from . import tokencommands  # noqa: PLC0415 - as in `serve`

        tokencommands.revoke(load(config, data_path(data)), token_id)


@click.command(cls=Command)
@click.argument("path")
@CONFIG
@DATA
@click.option("--expires", default="1h", show_default=True, metavar="TIME", help="How long the URL is good, such as 15m or 7d.")
def sign(path: str, config: str | None, data: str | None, expires: str) -> None:
    """Print a signed URL for an upload.

    PATH is /media/ID/NAME, /media/by-name/NAME or /media/by-name/COLLECTION/NAME.

    Needed where the settings say access = "signed" for a collection.
    """
    with told_kindly():
        from . import tokencommands  # noqa: PLC0415 - as in `serve`

        tokencommands.sign(load(config, data_path(data)), path, expires)
