"""Which SQLite there is; and what can be asked of its file without SQLAlchemy, whose import takes longer than a start may.

One process must not open a file through two libraries, since closing one's descriptor drops the locks of the other's: whoever
opens the records takes the one that is chosen here.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
from contextlib import closing, suppress
from types import ModuleType
from urllib.parse import quote

from assetserver.errors import StorageError

FIXED = (3, 51, 3)
AFFECTED_SINCE = (3, 7, 0)
PATIENCE_S = 5.0
"""How long a transaction waits for another one's end; requests are then told to come again."""

_LOOK = "SELECT count(*), coalesce(sum(name = 'tokens'), 0) FROM sqlite_master WHERE type = 'table'"


def choose_driver() -> ModuleType:
    """Return the module that brings the newer SQLite: ``pysqlite3`` where it is installed, or Python's own."""
    with suppress(ImportError):
        bundled = importlib.import_module("pysqlite3.dbapi2")
        if bundled.sqlite_version_info > sqlite3.sqlite_version_info:
            return bundled
    return sqlite3


def is_affected(version: tuple[int, ...]) -> bool:
    """Tell whether this version of SQLite has the WAL-reset bug."""
    return AFFECTED_SINCE <= version < FIXED


def has_tokens(path: str) -> bool:
    """Tell whether the records in the file at ``path``, which is there, hold a token. It changes nothing; may be repeated.

    A file without any table is one that nobody has filled yet. Raises ``StorageError`` for one that cannot be read, or whose
    tables are another program's.
    """
    driver, name = choose_driver(), f"file:{quote(os.path.abspath(path))}?mode=rw"  # rw: never made, if it is not there
    try:
        with closing(driver.connect(name, uri=True, timeout=PATIENCE_S)) as connection:
            tables, is_ours = connection.execute(_LOOK).fetchone()
            if tables and not is_ours:
                raise StorageError(f"{path} has no tokens; it is another program's")
            return bool(tables and connection.execute("SELECT EXISTS (SELECT 1 FROM tokens)").fetchone()[0])
    except driver.Error as error:
        raise StorageError(f"{path}: {error}") from error
