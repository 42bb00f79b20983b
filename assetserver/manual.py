"""The manual: pages for man(1), made of the commands and the table of settings. Pure but for the date of the version.

The language is mdoc (mandoc's ``mdoc(7)``), which groff knows as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version

import click

from .settings import SettingRow, describe_settings
from .settingtables import ARRAYS

_EXITS = (
    ("0", "Done."),
    ("1", "Refused, failed, or something is damaged; the message says what."),
    ("2", "The command line is wrong."),
    ("69", "The address is taken."),
    ("78", "The settings are wrong."),
    ("130", "Interrupted."),
)
_VARIABLES = (
    ("ASSETSERVER_CONFIG", "The file of settings, where none is named."),
    ("ASSETSERVER_DATA", "The data folder, where none is named."),
    ("ASSETSERVER_TOKEN", "The token of publish --url."),
    ("ASSETSERVER_SIGN_PASSWORD", "The password of the key of publish --sign."),
    ("ASSETSERVER_TABLE__KEY", "A setting, such as ASSETSERVER_SERVER__PORT=9000; see assetserver.toml(5)."),
)


def format_commands(main: click.Group) -> str:
    """Return assetserver(1)."""
    context = click.Context(main, info_name="assetserver")
    lines = [
        *_head("ASSETSERVER", 1, "assetserver", "publish websites and serve them"),
        ".Sh SYNOPSIS",
        ".Nm",
        ".Ar command",
        ".Op Ar argument ...",
        ".Sh DESCRIPTION",
        ".Nm",
        *_text("is an origin server for static files and uploaded assets. Every command explains itself with --help."),
        ".Sh COMMANDS",
    ]
    for path, command in _walk(main, ()):
        lines += _command(path, command, context)
    lines += [".Sh ENVIRONMENT", *_list(((f".Ev {name}", text) for name, text in _VARIABLES))]
    lines += [".Sh FILES", *_list([(".Pa assetserver.toml", "Settings, read from the working directory if it is there.")])]
    lines += [".Sh EXIT STATUS", *_list(((f".Li {code}", text) for code, text in _EXITS))]
    lines += [".Sh SEE ALSO", ".Xr assetserver.toml 5"]
    return "\n".join(lines) + "\n"


def format_settings() -> str:
    """Return assetserver.toml(5)."""
    lines = [
        *_head("ASSETSERVER.TOML", 5, "assetserver.toml", "settings of assetserver"),
        ".Sh DESCRIPTION",
        *_text("Every key may be left out. Relative paths count from the folder of the file. Unknown keys are errors."),
        ".Pp",
        *_text(
            "A variable such as ASSETSERVER_SERVER__PORT=9000 overrides the file, and a flag overrides both. "
            "An array of tables in a variable is JSON."
        ),
        ".Sh TABLES",
    ]
    table = ""
    for row in describe_settings():
        name, _, key = row.name.replace("[]", "").partition(".")
        if name != table:
            lines += [] if not table else [".El"]
            lines += [f".Ss {_escape(f'[[{name}]]' if name in ARRAYS else f'[{name}]')}", ".Bl -tag -width Ds"]
            table = name
        lines += [f".It Ic {_escape(key)}", *_text(row.description), *_describe(row)]
    lines += [".El", ".Sh SEE ALSO", ".Xr assetserver 1"]
    return "\n".join(lines) + "\n"


def _head(title: str, section: int, name: str, what: str) -> Iterator[str]:
    yield f'.\\" Made by assetserver {version("assetserver")}: assetserver manual {section}'
    yield ".Dd $Mdocdate$"
    yield f".Dt {title} {section}"
    yield ".Os"
    yield ".Sh NAME"
    yield f".Nm {name}"
    yield f".Nd {what}"


def _walk(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name))
        elif not command.hidden:
            yield (*path, name), command


def _command(path: tuple[str, ...], command: click.Command, context: click.Context) -> Iterator[str]:
    own = click.Context(command, parent=context, info_name=" ".join(path))
    arguments = [one.make_metavar(own) for one in command.params if isinstance(one, click.Argument)]
    yield f".Ss {_escape(' '.join((*path, *arguments)))}"
    for number, part in enumerate((command.help or "").split("\n\n")):
        yield from [".Pp"] if number else []
        yield from _text(part)
    options = [record for one in command.params if (record := one.get_help_record(own)) and isinstance(one, click.Option)]
    if options:
        yield from _list((f".Li {_escape(names)}", text) for names, text in options)


def _describe(row: SettingRow) -> Iterator[str]:
    told = row.type + (f", {row.limits}" if row.limits else "")
    default = "Required." if row.default == "required" else f"The default is {row.default}."
    yield ".Pp"
    yield from _text(f"{told[0].upper()}{told[1:]}. {default}")


def _list(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield ".Bl -tag -width Ds"
    for head, text in items:
        yield f".It {head.removeprefix('.')}"
        yield from _text(text)
    yield ".El"


def _text(text: str) -> Iterator[str]:
    """Yield lines of text, each sentence on a line of its own, as mdoc wants it."""
    for sentence in re.split(r"(?<=[.;:]) (?=[A-Z\[])", " ".join(text.split())):
        yield _escape(sentence)


def _escape(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("…", "\\[u2026]").replace('"', "\\(dq").replace("`", "\\(ga")
    return ("\\&" if escaped[:1] in (".", "'") else "") + escaped
