"""Access joined: who may upload, with the records and keys of the data folder. Nothing is opened before it is needed."""

from __future__ import annotations

from functools import lru_cache, partial

from .access.records import AccessRecords
from .data import Records, load_signing_keys, open_revocations
from .settings import Settings
from .storage.pools import FilePool
from .uploads.authorising import Authority

THREADS = 2
"""Looking a token up takes 0.1 ms; uploads, whose threads write, must not be waited for."""


def open_authority(settings: Settings, records: Records) -> Authority:
    """Return who knows the tokens, grants and keys of ``settings``; its pool is closed with ``Authority.close``.

    Raises ``SettingsError`` for keys in the settings that are none.
    """
    names = [one.name for one in settings.collections]

    def open_access() -> AccessRecords | None:
        return records.access() if records.are_there() else None

    load_keys = lru_cache(maxsize=1)(partial(load_signing_keys, settings))
    if settings.access.keys:
        load_keys()
    pool = FilePool("assetserver-access", THREADS)
    return Authority(open_access, load_keys, pool, collections=names, read_mark=open_revocations(settings).read)
