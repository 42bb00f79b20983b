"""The keys of a data folder whose settings name none: a file of ``NAME:SECRET`` lines, made when a key is first needed.

To replace a key, put a new line first, and remove the old one when what it signed has expired. Everything here blocks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from tempfile import mkstemp

from assetserver.errors import SettingsError
from assetserver.storage.durable import make_durable_folder, named_errors, sync_folder, write_all

from .keys import KeyRing, SigningKey, make_key, parse_key

KEY_FILE = "keys"
"""Its name in the data folder."""


def load_keys(configured: tuple[str, ...], path: str) -> KeyRing:
    """Return the ``configured`` keys, or else those of the file at ``path``, which is made if it is not there.

    Raises ``SettingsError`` for what is not a key, naming the line; ``OSError`` if the file can be neither read nor made.
    """
    if configured:
        return KeyRing(parse_key(text) for text in configured)
    with suppress(FileExistsError):  # another process was faster: its keys are everybody's
        if not os.path.exists(path):
            _make_file(path)
    with open(path, encoding="utf-8") as file:
        lines = [(number, line.strip()) for number, line in enumerate(file, 1)]
    return KeyRing(_parse_line(path, number, line) for number, line in lines if line and not line.startswith("#"))


def _parse_line(path: str, number: int, line: str) -> SigningKey:
    try:
        return parse_key(line)
    except SettingsError as error:
        raise SettingsError(f"{path}:{number}: {error}") from error


def _make_file(path: str) -> None:
    """Write the file beside its place, for its owner alone, and link it there without overwriting one."""
    folder = os.path.dirname(path) or os.curdir
    make_durable_folder(folder)
    descriptor, temporary = mkstemp(dir=folder, prefix=".new-")  # mode 0600
    try:
        with named_errors(path), os.fdopen(descriptor, "wb", buffering=0):
            write_all(descriptor, f"# Keys that sign URLs and grants; the first one signs.\n{make_key('first')}\n".encode())
            os.fsync(descriptor)
        os.link(temporary, path)
        sync_folder(folder)
    finally:
        os.unlink(temporary)
