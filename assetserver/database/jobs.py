"""Jobs in SQL: the engine of ``jobs.queue.JobQueue`` and ``JobDesk``, with the same statements in SQLite and PostgreSQL.

The pattern is that of Solid Queue (Rails): a table in the records' own database, so that a job and the upload that causes it
are one transaction. Jobs are claimed with ``FOR UPDATE SKIP LOCKED`` where workers write at the same time, and in SQLite, where
one writes alone, without. Whoever has a transaction of its own calls ``enqueue_within`` and ``complete_within``.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, Update, bindparam, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from assetserver.errors import JobMissingError, JobStateError
from assetserver.jobs.job import Failure, Job, Lease, NewJob, State
from assetserver.jobs.queue import Beat, JobPage, Listener
from assetserver.jobs.retry import RetryPolicy

from .connections import Database
from .schema import IS_ACTIVE, IS_ENDED, IS_QUEUED, IS_RUNNING, jobs

MOST_PRUNED = 500
"""A transaction that writes alone must be a short one."""

_COLUMNS = [jobs.c[name] for name in Job.__struct_fields__]
_ID: BindParameter[int] = bindparam("the_id")
_TOKEN: BindParameter[str] = bindparam("the_token")
_NOW: BindParameter[float] = bindparam("the_time")
_KIND: BindParameter[str] = bindparam("the_kind")
_MOST: BindParameter[int] = bindparam("the_most")

_NEXT = (
    select(jobs.c.id)
    .where(IS_QUEUED, jobs.c.kind == _KIND, jobs.c.run_at <= _NOW)
    .order_by(jobs.c.priority.desc(), jobs.c.run_at, jobs.c.id)
    .limit(_MOST)
    .with_for_update(skip_locked=True)
    .cte("next")
    .prefix_with("MATERIALIZED", dialect="postgresql")  # or a plan may run it more than once, and claim more
)
_CLAIM = (
    update(jobs)
    .where(jobs.c.id.in_(select(_NEXT.c.id)))
    .values(state="running", attempts=jobs.c.attempts + 1, progress=0.0, signal=0)
    .values(worker=bindparam("the_worker"), lease_token=_TOKEN, lease_until=bindparam("the_end"))
    .returning(*_COLUMNS)
)
_DUE = select(jobs.c.run_at).where(IS_QUEUED, jobs.c.kind == _KIND).order_by(jobs.c.run_at).limit(1)
_WAITING = select(func.count()).select_from(jobs).where(IS_QUEUED, jobs.c.kind == _KIND)
_MINE = update(jobs).where(jobs.c.id == _ID, jobs.c.lease_token == _TOKEN, IS_RUNNING)
_FREED = {"lease_token": None, "lease_until": None}
_COMPLETE = _MINE.values(state="done", progress=1.0, reason="", finished=_NOW, **_FREED)
_PROLONG = _MINE.values(lease_until=bindparam("the_end"), progress=bindparam("the_progress"))
_ENDS = select(jobs.c.worker, func.min(jobs.c.lease_until).label("first_end")).where(IS_RUNNING).group_by(jobs.c.worker)
_LEASED = select(*_COLUMNS, jobs.c.lease_token).where(IS_RUNNING)
"""Made once: to build a statement takes longer than to run it."""


def enqueue_within(connection: Connection, new: Sequence[NewJob], now: float) -> list[int]:
    """Queue jobs in a transaction of the caller's, who says its end; return their ids. See ``JobQueue.enqueue``.

    Of two with one key the higher priority counts. Then ``Database.notify`` within, ``Database.wake_workers`` after.
    """
    statement = _INSERTS[connection.dialect.name]
    return [connection.execute(statement, _to_row(job, now)).scalar_one() for job in new]


def complete_within(connection: Connection, lease: Lease, now: float) -> bool:
    """Record in a transaction of the caller's that a job is done. If it returns False, undo the rest: the lease is lost."""
    return _change(connection, _COMPLETE, lease, the_time=now)


def cancel_within(connection: Connection, key: str, reason: str, now: float) -> None:
    """Cancel the job with this key, if there is one that is queued or running, in a transaction of the caller's."""
    ended = update(jobs).where(jobs.c.key == key, IS_ACTIVE)
    connection.execute(ended.values(state="cancelled", finished=now, reason=reason, **_FREED))


OnDead = Callable[[Connection, Job, Failure], Sequence[NewJob]]
"""Records what it means that a job is dead or was cancelled, in that transaction; returns the jobs that follow from it."""


class SqlJobs:
    """The jobs in ``database``.

    ``on_dead``, by kind: see ``OnDead``. ``after_death``: when a job is tried again whose worker died. ``clock`` is for tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_dead: Mapping[str, OnDead] = MappingProxyType({}),
        after_death: RetryPolicy | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database = database
        self._on_dead = on_dead
        self._after_death = after_death or RetryPolicy()
        self._clock = clock

    # For who makes work

    def enqueue(self, new: Sequence[NewJob]) -> list[int]:
        """Queue jobs; see ``JobQueue.enqueue``."""
        with self._database.write(alone=False) as connection:
            ids = enqueue_within(connection, new, self._now(connection))
            self._database.notify(connection)
        self._database.wake_workers()
        return ids

    # For workers

    def listen(self, worker: str) -> Listener:
        """Begin to be a worker; see ``JobQueue.listen``."""
        return self._database.listen(worker)

    def claim(self, worker: str, free: Mapping[str, int], lease_s: float) -> list[Lease]:
        """Take jobs that are due; see ``JobQueue.claim``."""
        token = secrets.token_hex(12)
        claimed: list[Job] = []
        with self._database.write(alone=False) as connection:
            now = self._now(connection)
            values = {"the_worker": worker, "the_token": token, "the_time": now, "the_end": now + lease_s}
            for kind, most in free.items():
                rows = connection.execute(_CLAIM, values | {"the_kind": kind, "the_most": most}).all()
                claimed += [_to_job(row) for row in rows]
        return [Lease(job, token) for job in sorted(claimed, key=lambda job: (-job.priority, job.run_at, job.id))]

    def next_due_s(self, kinds: Collection[str]) -> float | None:
        """Return in how many seconds a job is due; see ``JobQueue.next_due_s``."""
        with self._database.read() as connection:
            found = [connection.execute(_DUE, {"the_kind": kind}).scalar() for kind in kinds]
            due = [one for one in found if one is not None]
            return min(due) - self._now(connection) if due else None

    def count_queued(self, kind: str) -> int:
        """Return how many jobs of a kind are queued; see ``JobQueue.count_queued``."""
        with self._database.read() as connection:
            return int(connection.execute(_WAITING, {"the_kind": kind}).scalar_one())

    def heartbeat(self, beats: Sequence[Beat], lease_s: float) -> list[Lease]:
        """Prolong leases; see ``JobQueue.heartbeat``."""
        with self._database.write(alone=False) as connection:
            end = self._now(connection) + lease_s
            return [
                beat.lease
                for beat in beats
                if not _change(connection, _PROLONG, beat.lease, the_end=end, the_progress=beat.progress)
            ]

    def complete(self, lease: Lease) -> bool:
        """Record that a job is done; see ``JobQueue.complete``."""
        with self._database.write(alone=False) as connection:
            return complete_within(connection, lease, self._now(connection))

    def fail(self, lease: Lease, failure: Failure, retry_in_s: float) -> bool:
        """Record that an attempt failed; see ``JobQueue.fail``. Alone where a death means something: others look at that."""
        with self._database.write(alone=lease.job.kind in self._on_dead) as connection:
            return self._end_attempt(connection, lease, failure, self._now(connection), retry_in_s)

    def release(self, lease: Lease, *, was_begun: bool) -> bool:
        """Give a job back; see ``JobQueue.release``."""
        attempts = lease.job.attempts if was_begun else lease.job.attempts - 1
        with self._database.write(alone=False) as connection:
            return _change(connection, _MINE.values(state="queued", attempts=attempts, progress=0.0, **_FREED), lease)

    def sweep(self) -> int:
        """Take jobs from workers that died or stalled; see ``JobQueue.sweep``. Writes only where there is something to take."""
        with self._database.read() as connection:
            ends = {row.worker: row.first_end for row in connection.execute(_ENDS)}
            if not ends:
                return 0
            dead = self._database.find_dead(ends)
            if not dead and min(ends.values()) >= self._now(connection):
                return 0
        with self._database.write(alone=bool(self._on_dead)) as connection:
            over = _LEASED.where((jobs.c.lease_until < self._now(connection)) | jobs.c.worker.in_(dead))
            now = self._now(connection)
            return sum(
                self._take(connection, row, now, died=row.worker in dead)
                for row in connection.execute(over.with_for_update(skip_locked=True)).all()
            )

    def prune(self, keep_done_s: float, keep_dead_s: float) -> int:
        """Forget jobs that ended long ago; see ``JobQueue.prune``."""
        with self._database.read() as connection:
            now = self._now(connection)
            done = (jobs.c.state == "done") & (jobs.c.finished < now - keep_done_s)
            dead = (jobs.c.state != "done") & (jobs.c.finished < now - keep_dead_s)
            old = select(jobs.c.id).where(IS_ENDED, done | dead).limit(MOST_PRUNED)
            ids = connection.execute(old).scalars().all()
        if not ids:
            return 0
        with self._database.write(alone=False) as connection:
            return connection.execute(delete(jobs).where(jobs.c.id.in_(ids), IS_ENDED)).rowcount

    # For people

    def find(self, job_id: int) -> Job:
        """Return a job; see ``JobDesk.find``."""
        with self._database.read() as connection:
            return _find(connection, job_id)

    def list_jobs(
        self, states: Collection[State] = (), kind: str = "", below_id: int | None = None, limit: int = 100
    ) -> JobPage:
        """Return the newest jobs; see ``JobDesk.list_jobs``."""
        query = select(*_COLUMNS).order_by(jobs.c.id.desc()).limit(limit + 1)
        if states:
            query = query.where(jobs.c.state.in_(states))
        if kind:
            query = query.where(jobs.c.kind == kind)
        if below_id is not None:
            query = query.where(jobs.c.id < below_id)
        with self._database.read() as connection:
            found = [_to_job(row) for row in connection.execute(query)]
        return JobPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    def count(self) -> dict[State, int]:
        """Return how many jobs there are of each state."""
        with self._database.read() as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state)).all()
        return {row[0]: row[1] for row in rows}

    def oldest_s(self) -> float:
        """Return for how many seconds the job that waits for longest has been due, 0.0 if none is."""
        with self._database.read() as connection:
            first = connection.execute(select(func.min(jobs.c.run_at)).where(IS_QUEUED)).scalar()
            return 0.0 if first is None else max(0.0, self._now(connection) - first)

    def retry(self, job_id: int) -> Job:
        """Queue a job again; see ``JobDesk.retry``."""
        wanted = update(jobs).where(jobs.c.id == job_id, jobs.c.state.in_(("dead", "cancelled")))
        with self._database.write() as connection:
            again = wanted.values(state="queued", attempts=0, run_at=self._now(connection), finished=None, progress=0.0)
            try:
                changed = connection.execute(again).rowcount
            except IntegrityError as error:
                raise JobStateError(f"job {job_id} need not be retried: another that does the same is on its way") from error
            job = _find(connection, job_id)
            if not changed:
                raise JobStateError(f"job {job_id} is {job.state}; only what is dead or cancelled can be retried")
            self._database.notify(connection)
        self._database.wake_workers()
        return job

    def cancel(self, job_id: int) -> Job:
        """End a job; see ``JobDesk.cancel``."""
        with self._database.write() as connection:
            ended = update(jobs).where(jobs.c.id == job_id, IS_ACTIVE)
            reason = "cancelled by hand"
            changed = connection.execute(
                ended.values(state="cancelled", finished=self._now(connection), reason=reason, **_FREED)
            ).rowcount
            job = _find(connection, job_id)
            if not changed:
                raise JobStateError(f"job {job_id} is {job.state} already")
            self._tell_dead(connection, job, Failure(reason), self._now(connection))
            return job

    def _now(self, connection: Connection) -> float:
        return self._clock() if self._clock else self._database.now(connection)

    def _take(self, connection: Connection, row: Any, now: float, *, died: bool) -> bool:
        """Take a job from its worker: as an attempt that failed."""
        reason = f"worker {row.worker} {'died' if died else 'gave no sign of life'}"
        delay_s = self._after_death.delay_after_death_s(row.attempts, random.random())  # noqa: S311 - spreads, protects nothing
        return self._end_attempt(connection, Lease(_to_job(row), row.lease_token), Failure(reason), now, delay_s)

    def _end_attempt(self, connection: Connection, lease: Lease, failure: Failure, now: float, retry_in_s: float) -> bool:
        """Record that an attempt failed, whether there will be another, and if not what that means."""
        told = {"reason": failure.reason, "signal": failure.signal, **_FREED}
        if not failure.is_permanent and lease.job.attempts < lease.job.max_attempts:
            return _change(connection, _MINE.values(state="queued", run_at=now + retry_in_s, progress=0.0, **told), lease)
        is_dead = _change(connection, _MINE.values(state="dead", finished=now, **told), lease)
        if is_dead:
            self._tell_dead(connection, lease.job, failure, now)
        return is_dead

    def _tell_dead(self, connection: Connection, job: Job, failure: Failure, now: float) -> None:
        if on_dead := self._on_dead.get(job.kind):
            enqueue_within(connection, on_dead(connection, job, failure), now)
            self._database.notify(connection)


def _make_insert(insert: Callable[[Any], Any]) -> Any:
    """Return the statement that queues a job, or finds the one that has its key already."""
    new = insert(jobs)
    higher = case((new.excluded.priority > jobs.c.priority, new.excluded.priority), else_=jobs.c.priority)
    known = new.on_conflict_do_update(index_elements=[jobs.c.key], index_where=IS_ACTIVE, set_={"priority": higher})
    return known.returning(jobs.c.id)


_INSERTS = {"sqlite": _make_insert(sqlite.insert), "postgresql": _make_insert(postgresql.insert)}


def _to_row(new: NewJob, now: float) -> dict[str, object]:
    return {
        "kind": new.kind,
        "key": new.key or None,
        "payload": new.payload,
        "state": "queued",
        "priority": new.priority,
        "attempts": 0,
        "max_attempts": new.max_attempts,
        "run_at": now + new.delay_s,
        "created": now,
        "worker": "",
        "progress": 0.0,
        "reason": "",
        "signal": 0,
        "trace": new.trace,
    }


def _change(connection: Connection, statement: Update, lease: Lease, **values: object) -> bool:
    """Change a job if its lease still counts; return whether it did."""
    return connection.execute(statement, {"the_id": lease.job.id, "the_token": lease.token, **values}).rowcount == 1


def _find(connection: Connection, job_id: int) -> Job:
    row = connection.execute(select(*_COLUMNS).where(jobs.c.id == job_id)).first()
    if row is None:
        raise JobMissingError(f"there is no job {job_id}; what ended is forgotten after a while")
    return _to_job(row)


def _to_job(row: Row[Any]) -> Job:
    values = {name: getattr(row, name) for name in Job.__struct_fields__}
    return Job(**values | {"key": values["key"] or ""})
