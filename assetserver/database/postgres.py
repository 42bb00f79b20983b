"""PostgreSQL as the database of several machines: how it is reached, who may write when, and what its errors mean.

Changes of uploads and tokens look first and then write, which holds because nobody else does meanwhile: they take turns by an
advisory lock, as SQLite's writers do by nature. Jobs need no turns: workers skip the rows that others have locked.

Leases are judged by the database's clock, since machines have one each. Who works is told of new jobs by NOTIFY, in the
transaction that queues them; a connection of its own listens, past any pooler. NOTIFY may be lost with that connection: polling
is what is relied on. Whether a worker died nobody can tell here; its leases end.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection, create_engine, func, text
from sqlalchemy import select as select_of
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from assetserver.errors import BusyError, NoSpaceError, SchemaError, StorageError

from .schema import migrate

logger = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long a transaction waits for another one's end, and for the server; requests are then told to come again."""

CHANNEL = "assetserver_jobs"
_TURN = 0x61737365
"""The advisory lock of who writes alone: "asse"."""

_CONNECTIONS = 8
_RECONNECT_S = 5.0
_BUSY = ("55P03", "57014", "40001", "40P01")
"""lock_not_available, query_canceled (by the timeout), serialization_failure, deadlock_detected"""

_FULL = ("53100", "53200", "53300")
"""disk_full, out_of_memory, too_many_connections"""

_NOW = select_of(func.extract("epoch", func.clock_timestamp()))
_TAKE_TURN = text(f"SELECT pg_advisory_xact_lock({_TURN})")
_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', '')")


class PostgresDatabase:
    """The database at ``url``, ``postgresql://USER@HOST/NAME``, which must be there; its tables need not.

    It needs psycopg. All methods block, and may be called from any thread.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        milliseconds = int(patience_s * 1000)
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._engine = create_engine(
            self._url,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_timeout=patience_s,
            pool_pre_ping=True,  # 0.1 ms; a server that was restarted is noticed before a request is lost
            connect_args={
                "connect_timeout": max(2, int(patience_s)),
                "options": f"-c lock_timeout={milliseconds} -c statement_timeout={6 * milliseconds}",
            },
        )
        self.name = f"database {self._url.database} at {self._url.host or self._url.query.get('host', 'localhost')}"

    def open(self) -> None:
        """Make the tables what this program needs. May be repeated. Raises ``SchemaError`` for those of a newer one."""
        with self.write() as connection:
            migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection to read with: it sees one moment, and waits for nobody."""
        with self._named_errors(), self._engine.connect() as plain:
            connection = plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self, *, alone: bool = True) -> Iterator[Connection]:
        """Give a connection to write with; see ``Database.write``. Raises ``BusyError`` after the patience."""
        with self._named_errors(), self._engine.connect() as connection, connection.begin():
            if alone:
                connection.execute(_TAKE_TURN)
            yield connection

    def now(self, connection: Connection) -> float:
        """Return the time by which leases are judged: the server's."""
        return float(connection.execute(_NOW).scalar_one())

    def listen(self, worker: str) -> PostgresListener:  # noqa: ARG002 - nobody looks for it here
        """Begin to be a worker; see ``JobQueue.listen``."""
        return PostgresListener(self._url.set(drivername="postgresql").render_as_string(hide_password=False))

    def notify(self, connection: Connection) -> None:
        """Have who works told of new jobs once the transaction ends."""
        connection.execute(_NOTIFY)

    def wake_workers(self) -> None:
        """Do nothing: ``notify`` has."""

    def find_dead(self, workers: Collection[str]) -> set[str]:  # noqa: ARG002 - see the head of this module
        """Return nobody."""
        return set()

    def close(self) -> None:
        """Close what is open. It opens anew if it is used again."""
        self._engine.dispose()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Raise what ``errors`` has for what PostgreSQL says."""
        try:
            yield
        except DBAPIError as error:
            raise self._explain(error) from error
        except PoolTimeoutError as error:
            raise BusyError(f"all connections to {self.name} are in use") from error

    def _explain(self, error: DBAPIError) -> Exception:
        state = getattr(error.orig, "sqlstate", None) or ""
        said = " ".join(str(error.orig).split())
        if state in _BUSY:
            return BusyError(f"{self.name} is busy: {said}")
        if state in _FULL:
            return NoSpaceError(f"{self.name}: {said}")
        if error.connection_invalidated or not state or state[:2] in ("08", "57", "28", "3D"):
            return StorageError(f"{self.name} cannot be reached: {said}")
        return SchemaError(f"{self.name}: {said}")


class PostgresListener:
    """Waits for NOTIFY, on a connection of its own, and for rings of this process. Without a connection it still waits."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None
        self._connect_s = float("-inf")
        self._heard, self._rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, timeout_s: float) -> None:
        """Return when something was queued, somebody rang, or the time is over."""
        self._connect()
        poll = select.poll()
        poll.register(self._heard, select.POLLIN)
        if self._connection is not None:
            poll.register(self._connection.fileno(), select.POLLIN)
        for descriptor, _ in poll.poll(max(0.0, timeout_s) * 1000):
            if descriptor == self._heard:
                with suppress(BlockingIOError):
                    os.read(self._heard, 65536)
            else:
                self._take()

    def ring(self) -> None:
        """End the wait, or the next one. From any thread, and from a signal handler."""
        with suppress(OSError):
            os.write(self._rung, b"!")

    def close(self) -> None:
        """Close the connection. May be repeated."""
        self._hang_up()
        for descriptor in (self._heard, self._rung):
            if descriptor >= 0:
                os.close(descriptor)
        self._heard = self._rung = -1

    def _connect(self) -> None:
        """Listen, unless we do, or tried a moment ago. Nothing that was queued before is heard of: it is looked for after."""
        if self._connection is not None or time.monotonic() - self._connect_s < _RECONNECT_S:
            return
        import psycopg  # noqa: PLC0415 - it may be missing where there is only SQLite

        self._connect_s = time.monotonic()
        try:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=2, keepalives_idle=30, keepalives_interval=10, keepalives_count=3
            )
            self._connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error as error:
            logger.warning("new jobs are only polled for, since nothing tells of them: %s", error)
            self._hang_up()
        else:
            self.ring()

    def _take(self) -> None:
        """Take what was told, whatever it says; if that is the end of the connection, make another one later."""
        import psycopg  # noqa: PLC0415 - as above

        try:
            self._connection.pgconn.consume_input()
            while self._connection.pgconn.notifies() is not None:
                pass
        except psycopg.Error:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
            self._connection = None
