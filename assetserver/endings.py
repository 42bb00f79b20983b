"""How a command ends: errors in one line and an exit code, in JSON where that is asked for; hints to type as they stand.

Exit codes follow sysexits.h: 0 done, 1 refused or failed, 2 usage, 69 the address is taken, 78 configuration, 130 interrupted.
A server that is stopped with Ctrl+C has done what it was asked: 0.
"""

from __future__ import annotations

import errno
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import click
from click.core import ParameterSource

from .errors import AssetServerError, ListenError, PublishError, SettingsError

EX_FAILURE = 1
EX_UNAVAILABLE = 69
EX_CONFIG = 78
EX_INTERRUPTED = 130

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
_OTHER_FOLDER = "or name another folder with --data"
_REMEDIES = {
    errno.EACCES: f"run this as the user whose folder it is, {_OTHER_FOLDER}",
    errno.EPERM: f"run this as the user whose folder it is, {_OTHER_FOLDER}",
    errno.EROFS: f"mount it so that it can be written, {_OTHER_FOLDER}",
    errno.ENOTDIR: f"a file is where a folder should be: move it away, {_OTHER_FOLDER}",
    errno.EEXIST: f"a file is where a folder should be: move it away, {_OTHER_FOLDER}",
    errno.ENOENT: f"make the folder that it should be in, {_OTHER_FOLDER}",
    errno.EIO: "the disk may be failing: look at the system's log, then run assetserver verify",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
}
_REPEATED = ("config", "data", "site")
"""Options that a hint needs, or it would speak of other releases."""
_HINT = re.compile(
    r"\bassetserver (publish|promote|rollback|releases|alias|diff|verify|gc|lock|unlock|purge|token \w+|sign|worker|reload"
    r"|jobs \w+|top|report)\b"
)


class StoppedError(Exception):
    """Someone pressed Ctrl+C. The message says how things stand."""


@contextmanager
def told_kindly() -> Iterator[None]:
    """Turn what people can mend into one line on stderr and an exit code, and what they stop into 130.

    With ``--json`` stdout has ``{"ok": false, "error": "…", "findings": […]}``.
    """
    try:
        yield
    except SettingsError as error:
        _fail(EX_CONFIG, error, str(error))
    except ListenError as error:
        _fail(EX_UNAVAILABLE, error, str(error))
    except AssetServerError as error:
        _fail(EX_FAILURE, error, str(error))
    except (KeyboardInterrupt, click.Abort, StoppedError) as error:
        _fail(EX_INTERRUPTED, error, str(error) or "stopped")
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read stdout has seen enough; click ends quietly
            raise
        _fail(EX_FAILURE, error, _explain(error))


def with_options(text: str) -> str:
    """Return ``text`` with the options that lead to the same releases after each command in it, to be typed so."""
    context = click.get_current_context(silent=True)
    if context is None:
        return text
    given = {
        name: f" --{name} {shlex.quote(str(context.params[name]))}"
        for name in _REPEATED
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    for_all = "".join(option for name, option in given.items() if name != "site")  # gc looks at all sites
    return _HINT.sub(lambda hint: hint[0] + for_all + ("" if hint[1] == "gc" else given.get("site", "")), text)


def _explain(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in _DISK_IS_FULL:
        what = f"the disk is full: {error.filename or 'a file'} cannot be written ({reason})"
        return f"{what}; what was live stays live. Make room, also with assetserver gc, then try again"
    where = f"{error.filename}: " if error.filename is not None else ""
    remedy = _REMEDIES.get(error.errno or 0, "")
    return f"{where}{reason.lower()}" + (f"; {remedy}" if remedy else "")


def _fail(code: int, error: BaseException, message: str) -> NoReturn:
    message = with_options(message)
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        findings = message.splitlines() if isinstance(error, PublishError) else []
        told = {"ok": False, "error": message, "findings": [{"level": "error", "message": one} for one in findings]}
        click.echo(json.dumps(told))
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    raise SystemExit(code) from error


def tell_stopped() -> None:
    """Say to who pressed Ctrl+C that all has ended."""
    with suppress(OSError, ValueError):  # who reads stderr may be gone
        click.echo("stopped", err=True)
