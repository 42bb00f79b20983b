"""Secrets that the service manager has put into files for this service alone. Source: systemd.exec(5), ``LoadCredential=``."""

from __future__ import annotations

import os
from collections.abc import Mapping

from assetserver.errors import SettingsError

_FOLDER = "CREDENTIALS_DIRECTORY"


def read_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the content of each file in the folder that ``environ`` names, by name and without space around it.

    Raises ``SettingsError`` for one that cannot be read.
    """
    folder = environ.get(_FOLDER, "")
    if not folder:
        return {}
    try:
        return {name: _read(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        place = getattr(error, "filename", None) or folder
        raise SettingsError(f"${_FOLDER}: {place} cannot be read ({reason})") from None


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()
