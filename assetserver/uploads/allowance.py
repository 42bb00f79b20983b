"""How much may be received at once: uploads, bytes of unfinished ones, and the space that the disk keeps free.

What resumable uploads hold is in the records, the same for all processes. Whole files have no record before they are
complete; what they hold is counted here, in the process that receives them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from assetserver.errors import BusyError, NoSpaceError, QuotaError
from assetserver.settingtables import UploadSettings

from .records import Held, Quota


class Load:
    """What one upload in flight holds."""

    def __init__(self, counts: Counter[str], owner: str, check: Callable[[str, int], None]) -> None:
        self._counts = counts
        self._owner = owner
        self._check = check
        self._bytes = 0

    def hold(self, total: int) -> None:
        """Count ``total`` bytes as held, if that is more than before. Raises ``QuotaError`` if they are too many."""
        more = total - self._bytes
        if more > 0:
            self._check(self._owner, more)
            self._counts[self._owner] += more
            self._bytes = total

    def release(self) -> None:
        """Hold nothing any more."""
        self._counts[self._owner] -= self._bytes
        if not self._counts[self._owner]:
            del self._counts[self._owner]


class Allowance:
    """What may be received, and what is being received in this process. Never blocks."""

    def __init__(self, settings: UploadSettings) -> None:
        self.quota = Quota(settings.token_unfinished_bytes, settings.unfinished_bytes)
        self.active = 0
        self._concurrent = settings.concurrent
        self._reserve_bytes = settings.reserve_bytes
        self._counts: Counter[str] = Counter()

    @contextmanager
    def receiving(self, owner: str, length: int | None) -> Iterator[Load]:
        """Count one upload as in flight. Raises ``BusyError`` if there are too many, ``QuotaError`` for too many bytes."""
        self.check_room()
        load = Load(self._counts, owner, self.check_held)
        load.hold(length or 0)
        self.active += 1
        try:
            yield load
        finally:
            self.active -= 1
            load.release()

    def check_room(self) -> None:
        """Raise ``BusyError`` if as many uploads as may be are received right now."""
        if self.active >= self._concurrent:
            raise BusyError(f"{self.active} uploads are being received; come again")

    def check_held(self, owner: str, more: int, recorded: Held | None = None) -> None:
        """Raise ``QuotaError`` if ``more`` bytes are too many, with those in flight and those ``recorded``."""
        by_owner = self._counts[owner] + (recorded.by_owner if recorded else 0)
        in_all = self._counts.total() + (recorded.in_all if recorded else 0)
        if by_owner + more > self.quota.per_owner:
            raise QuotaError(f"unfinished uploads of this token hold {by_owner} bytes; {self.quota.per_owner} are the limit")
        if in_all + more > self.quota.in_all:
            raise QuotaError(f"unfinished uploads hold {in_all} bytes; {self.quota.in_all} are the limit")

    def check_space(self, more: int, free: int) -> None:
        """Raise ``NoSpaceError`` if ``more`` of ``free`` bytes would leave less than is kept free."""
        if free - more < self._reserve_bytes:
            raise NoSpaceError(f"the disk has no room for {more} more bytes; {self._reserve_bytes} are kept free")
