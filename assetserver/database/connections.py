"""What the records need of a database, whichever it is: transactions, a clock, and word of jobs."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from assetserver.jobs.queue import Listener


class Database(Protocol):
    """A database that holds the records. All methods block, and may be called from any thread.

    Within a transaction they raise ``BusyError`` where others hold the records for too long, ``NoSpaceError`` and
    ``StorageError`` where the disk refuses or nobody answers, ``SchemaError`` for what are no records of ours.
    """

    def open(self) -> None:
        """Make the tables what this program needs, durably. May be repeated."""
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """Give a connection to read with: it sees one moment, and waits for nobody."""
        ...

    def write(self, *, alone: bool = True) -> AbstractContextManager[Connection]:
        """Give a connection to write with. What was done is durable on return, or with an exception undone.

        ``alone``: nobody else writes alone meanwhile, so that what is looked at first still holds in the end. Without, rows
        that others have locked are to be skipped, or waited for.
        """
        ...

    def now(self, connection: Connection) -> float:
        """Return the time by which leases are judged, in seconds since 1970: one clock for all who use this database."""
        ...

    def listen(self, worker: str) -> Listener:
        """Begin to be a worker of this name; see ``JobQueue.listen``."""
        ...

    def notify(self, connection: Connection) -> None:
        """Within a transaction that queues jobs: have who works told of it at its end, where the database can."""
        ...

    def wake_workers(self) -> None:
        """After a transaction that queued jobs: wake who works, where the database cannot."""
        ...

    def find_dead(self, workers: Collection[str]) -> set[str]:
        """Return which of these workers certainly do not live any more; of the others, their leases tell."""
        ...

    def close(self) -> None:
        """Close what is open. It opens anew if it is used again."""
        ...
