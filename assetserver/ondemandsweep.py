"""Pictures on demand whose source is gone, removed: who deletes an upload leaves no smaller copy of it on the disk.

Nobody is served one in any case: a source that is not found has no pictures. Where they lie is known by what they were made
of, so the cache is looked through: when an upload was removed since the last look, and once an hour for what nobody told of.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from .data import open_changes, open_library, open_media_blobs
from .delivery.variantstore import VariantStore
from .settings import Settings
from .storage.blobs import Digest

logger = logging.getLogger(__name__)

LOOK_S = 60.0
"""How often it is asked whether an upload was removed."""
WHOLE_S = 3600.0
"""How often the cache is looked through whatever is told: releases go as well, and machines crash."""
_SHARE = 50
"""So many times as long as a look takes, the next one is put off: a large cache takes 2 % of a core, niced."""
_ROUNDS = 2
"""An upload is told to be removed before its bytes are: after the look that is due, one more."""


class CacheSweep:
    """Removes from ``store`` what is made of sources that ``has_source`` (by SHA-256) does not know, in a thread of its own.

    ``read_mark`` gives what moves when an upload is removed. ``clock_s`` is monotonic seconds.
    """

    def __init__(
        self,
        store: VariantStore,
        has_source: Callable[[str], bool],
        read_mark: Callable[[], bytes],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._has_source = has_source
        self._read_mark = read_mark
        self._clock_s = clock_s
        self._mark: bytes | None = None
        self._rounds = 0
        self._whole_s = 0.0
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assetserver-cache-sweep", daemon=True)

    def start(self) -> None:
        """Look now, and again and again until ``close``."""
        self._thread.start()

    def close(self) -> None:
        """End soon."""
        self._is_ended.set()

    def look(self) -> int:
        """Remove what is due, and return how many pictures that were. Blocks; may be repeated."""
        mark, now_s = self._read_mark(), self._clock_s()
        if mark != self._mark:
            self._mark, self._rounds = mark, _ROUNDS
        if not self._rounds and now_s < self._whole_s:
            return 0
        self._rounds, self._whole_s = max(0, self._rounds - 1), now_s + WHOLE_S
        return self._store.sweep(self._has_source)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._is_ended.wait(pause_s):
            begin_s = self._clock_s()
            try:
                if removed := self.look():
                    logger.info("%d pictures were removed from the cache: what they were made of is gone", removed)
            except OSError as error:
                logger.warning("the cache of pictures was not looked through: %s", error)
            pause_s = max(LOOK_S, _SHARE * (self._clock_s() - begin_s))


def open_sweep(settings: Settings, store: VariantStore) -> CacheSweep:
    """Return what keeps ``store`` free of pictures of removed uploads and releases; it has not started."""
    media, library = open_media_blobs(settings), open_library(settings)

    def has_source(digest: str) -> bool:
        return any(blobs.size_of(Digest(digest)) is not None for blobs in (media, library.blobs))

    return CacheSweep(store, has_source, open_changes(settings).read)
