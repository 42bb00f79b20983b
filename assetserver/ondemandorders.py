"""Pictures on demand as a server gets them: from the store, or ordered as a job and waited for.

Equal orders are one job: within a process they are counted, and across processes they have the key of the job. Nobody tells
that a picture is there; its record appears, and is looked for while somebody waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import anyio

from .delivery.variantstore import Refusal, StoredPicture, VariantStore
from .errors import AssetServerError, OverloadedError, PictureRefusedError
from .jobs.queue import JobQueue
from .kindnames import ON_DEMAND
from .ondemandjobs import Order, job_of
from .storage.pools import FilePool, wait_future

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.1
_THREADS = 2
"""Ordering is a transaction; files that are served must not wait for it."""
_LOST_S = 60.0
"""An order that was not filled for so long may be placed again: its job may be gone."""


class Orders:
    """What one server process has ordered and not got yet: each picture once, and no more than ``limit``.

    Nor are more queued, by whomever, and however long nobody makes them.

    ``open_queue`` opens the jobs, ``is_filled`` tells whether there is a result for a key. May be used from any thread.
    """

    def __init__(
        self,
        open_queue: Callable[[], JobQueue],
        is_filled: Callable[[str], bool],
        limit: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_queue = open_queue
        self._is_filled = is_filled
        self._limit = limit
        self._clock_s = clock_s
        self._open: dict[str, float] = {}
        self._lock = threading.Lock()

    def place(self, order: Order) -> None:
        """Order a picture, if it is not on its way. Blocks. Raises ``OverloadedError`` if too many are, and as the queue."""
        key, now_s = order.key, self._clock_s()
        with self._lock:
            if now_s < self._open.get(key, 0.0):
                return
            is_again = key in self._open
            if len(self._open) >= self._limit:
                self._open = {
                    one: until_s for one, until_s in self._open.items() if now_s < until_s and not self._is_filled(one)
                }
            if len(self._open) >= self._limit:
                raise self._overloaded()
            self._open[key] = now_s + _LOST_S
        try:
            self._enqueue(order, is_again=is_again)
        except BaseException:
            self.forget(key)
            raise

    def _enqueue(self, order: Order, *, is_again: bool) -> None:
        queue = self._open_queue()
        if self._is_filled(order.key):  # opening takes a while, in which another process may have got it
            return
        if not is_again and queue.count_queued(ON_DEMAND) >= self._limit:
            raise self._overloaded()
        queue.enqueue([job_of(order)])

    def _overloaded(self) -> OverloadedError:
        return OverloadedError(f"{self._limit} pictures are being made already; ask again later")

    def forget(self, key: str) -> None:
        """Count a picture no more: it is there, or nobody makes it."""
        with self._lock:
            self._open.pop(key, None)


class Workshop:
    """Where pictures are got: from ``store``, or by ``orders``. ``files`` are the threads that read.

    ``wait_s`` is how long one is waited for.
    """

    def __init__(self, store: VariantStore, orders: Orders, files: FilePool, wait_s: float) -> None:
        self.store = store
        self._orders = orders
        self._files = files
        self._pool = FilePool("assetserver-orders", _THREADS)
        self._wait_s = wait_s

    def close(self) -> None:
        """End the threads that order."""
        self._pool.close()

    async def obtain(self, order: Order) -> StoredPicture | None:
        """Return what is ordered, if it is there or comes in time.

        Raises ``PictureRefusedError`` if it never will, ``OverloadedError`` if too many others are waited for.
        """
        if (found := await self._find(order.key)) is not None:
            return found
        deadline_s = time.monotonic() + self._wait_s
        if not await self._place(order):
            return None
        pause_s = _FIRST_PAUSE_S
        while True:
            if self.store.is_known(order.key) and (found := await self._find(order.key)) is not None:
                self._orders.forget(order.key)
                return found
            if time.monotonic() >= deadline_s:
                return None
            await anyio.sleep(pause_s)
            pause_s = min(1.3 * pause_s, _LONGEST_PAUSE_S)

    async def find(self, order: Order) -> StoredPicture | None:
        """Return what would be ordered, if it is there. What is there is hashed, 2 ms a MiB; what is not is one stat."""
        if not self.store.is_known(order.key):
            return None
        found = await wait_future(self._files.submit(self.store.find, order.key))
        return found if isinstance(found, StoredPicture) else None

    async def _find(self, key: str) -> StoredPicture | None:
        found = await wait_future(self._files.submit(self.store.find, key))
        if isinstance(found, Refusal):
            self._orders.forget(key)
            raise PictureRefusedError(found.reason)
        return found

    async def _place(self, order: Order) -> bool:
        """Order a picture; return False where the records do not take it now. The log says why."""
        try:
            await wait_future(self._pool.submit(self._orders.place, order))
        except OverloadedError:
            raise
        except AssetServerError as error:
            if not error.retryable:
                raise
            logger.warning("a picture cannot be ordered: %s", error)
            return False
        return True
