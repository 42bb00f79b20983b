"""``assetserver systemd install``: the units that come with this program, with the paths and the user of this machine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import SettingsError

PREFIX, USER = "/opt/assetserver", "assetserver"
"""What the units have as they come."""

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_UNITS = (".service", ".socket", ".timer", ".slice")
_OTHERS = {"sysusers.conf": "sysusers.d", "tmpfiles.conf": "tmpfiles.d"}


class UnitFile(NamedTuple):
    """A file to write: its absolute path, and its text."""

    path: str
    text: str


def find_units() -> Path:
    """Return the folder of the units: in the package where that is installed, beside it in a copy of the project."""
    package = Path(__file__).parent
    found = [folder for folder in (package / "units", package.parent / "systemd") if (folder / "assetserver.service").is_file()]
    if not found:
        raise SettingsError("this installation has no units; install assetserver anew")
    return found[0]


def render_units(folder: Path, prefix: str, user: str, *, is_package: bool) -> Iterator[UnitFile]:
    """Yield the files to write, with what runs at ``prefix`` as ``user``.

    ``is_package``: where packages have them, below ``/usr/lib``; else where administrators have theirs. Raises
    ``SettingsError`` for what is no path or no name.
    """
    if not _USER.fullmatch(user):
        raise SettingsError(f"--user is {user!r}; it must be lower-case letters, digits, _ and -, 31 at most")
    if not re.fullmatch(r"/[!-~]+", prefix) or set(prefix) & set("%\"'\\"):
        raise SettingsError(f"--prefix is {prefix!r}; it must be an absolute path of printable ASCII without spaces and quotes")
    base = "/usr/lib" if is_package else "/etc"
    for source in sorted(folder.iterdir()):
        if source.suffix in _UNITS:
            path = f"{base}/systemd/system/{source.name}"
        elif source.name in _OTHERS:
            path = f"{base}/{_OTHERS[source.name]}/assetserver.conf"
        else:
            continue
        yield UnitFile(path, _adapt(source.read_text("utf-8"), prefix.rstrip("/"), user))


def write_units(files: list[UnitFile], root: str) -> None:
    """Write files below ``root``, each in one step; those that are there are replaced. Raises ``OSError``."""
    for path, text in files:
        place = os.path.join(root, path.lstrip("/"))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        fresh = f"{place}.new"
        with open(fresh, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(fresh, 0o644)
        os.replace(fresh, place)


def own_prefix() -> str:
    """Return the prefix under which this program is installed."""
    return sys.prefix


def _adapt(text: str, prefix: str, user: str) -> str:
    text = text.replace(f"={PREFIX}/bin/", f"={prefix}/bin/")
    for name in ("User", "Group", "SocketUser", "SocketGroup"):
        text = text.replace(f"\n{name}={USER}\n", f"\n{name}={user}\n")
    text = re.sub(rf"(?m)^(u) {USER} ", rf"\1 {user} ", text)
    return text.replace(f" {USER} {USER} -", f" {user} {user} -")
