"""A worker on a real queue: what it claims, how what came of it is recorded, how it ends, and what it survives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from assetserver.database.jobs import SqlJobs, complete_within
from assetserver.database.sqlite import SqliteDatabase
from assetserver.errors import BusyError, JobFailedError, JobRefusedError, SchemaError
from assetserver.jobs.attempt import Attempt, Kind, Outcome
from assetserver.jobs.job import NewJob
from assetserver.jobs.retry import RetryPolicy
from assetserver.jobs.worker import Worker, name_worker

LIMIT_S = 60.0
AT_ONCE = RetryPolicy(attempts=3, first_s=0.0)


def wait_for(condition: Callable[[], object], what: str = "what was waited for") -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.005)


@pytest.fixture
def database(tmp_path):
    database = SqliteDatabase(str(tmp_path / "records.sqlite3"))
    database.open()
    yield database
    database.close()


@pytest.fixture
def queue(database) -> SqlJobs:
    return SqlJobs(database, after_death=AT_ONCE)


@contextmanager
def working(queue, handle, **values):
    """A worker that does jobs of the kind ``a``, on a thread, until the block ends. It has what ``run`` returned."""
    kind = {"retry": AT_ONCE, **{name: values.pop(name) for name in ("at_once", "limit_s") if name in values}}
    worker = Worker(queue, {"a": Kind(handle, **kind)}, **values)
    worker.ended = []
    thread = threading.Thread(target=lambda: worker.ended.append(worker.run()))
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def new(**values: object) -> NewJob:
    return NewJob(**{"kind": "a", "payload": "{}", "max_attempts": 3, **values})


def state(queue, job_id: int) -> str:
    return queue.find(job_id).state


def test_jobs_are_done_with_what_they_were_given(queue):
    seen = []

    def handle(attempt: Attempt) -> Outcome:
        seen.append((attempt.job.payload, attempt.job.attempts))
        return Outcome.DONE

    ids = queue.enqueue([new(payload="1")])
    with working(queue, handle) as worker:
        wait_for(lambda: queue.count() == {"done": 1})
        ids += queue.enqueue([new(payload="2"), new(kind="other")])
        wait_for(lambda: queue.count() == {"done": 2, "queued": 1})
    assert seen == [("1", 1), ("2", 1)]
    assert worker.ended == [True]


def test_no_more_are_begun_at_once_than_the_kind_allows(queue):
    running, most, lock = [0], [0], threading.Lock()
    several = threading.Barrier(2)

    def handle(_: Attempt) -> Outcome:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        several.wait(LIMIT_S)
        with lock:
            running[0] -= 1
        return Outcome.DONE

    queue.enqueue([new() for _ in range(10)])
    with working(queue, handle, at_once=2):
        wait_for(lambda: queue.count() == {"done": 10})
    assert most == [2]


def test_what_fails_is_tried_again_until_it_is_dead(queue):
    errors = [JobFailedError("first", signal=11), ValueError("second"), JobFailedError("third", signal=9)]

    def handle(attempt: Attempt) -> Outcome:
        raise errors[attempt.job.attempts - 1]

    (job_id,) = queue.enqueue([new()])
    with working(queue, handle):
        wait_for(lambda: state(queue, job_id) == "dead")
    assert (queue.find(job_id).attempts, queue.find(job_id).reason, queue.find(job_id).signal) == (3, "third", 9)


def test_what_never_can_work_is_not_tried_again(queue):
    def handle(_: Attempt) -> Outcome:
        raise JobRefusedError("not a picture")

    (job_id,) = queue.enqueue([new()])
    with working(queue, handle):
        wait_for(lambda: state(queue, job_id) == "dead")
    assert queue.find(job_id).attempts == 1


def test_who_asks_for_a_pause_gets_it(queue):
    def handle(_: Attempt) -> Outcome:
        raise JobFailedError("too many", retry_after_s=1000.0)

    (job_id,) = queue.enqueue([new()])
    with working(queue, handle):
        wait_for(lambda: queue.find(job_id).reason)
    assert queue.find(job_id).run_at > time.time() + 900


def test_a_handler_may_record_the_end_with_its_results(queue, database):
    def handle(attempt: Attempt) -> Outcome:
        with database.write() as connection:
            assert complete_within(connection, attempt.lease, database.now(connection))
        return Outcome.RECORDED

    (job_id,) = queue.enqueue([new()])
    with working(queue, handle):
        wait_for(lambda: state(queue, job_id) == "done")


def test_progress_is_seen_by_others_and_a_lease_outlives_itself(queue):
    go_on = threading.Event()

    def handle(attempt: Attempt) -> Outcome:
        attempt.progress(0.5)
        assert go_on.wait(LIMIT_S)
        attempt.progress(0.75)
        return Outcome.DONE

    (job_id,) = queue.enqueue([new()])
    lease_s = 2.0  # a third of it may pass between two heartbeats, and the rest before somebody on a slow machine has run
    with working(queue, handle, lease_s=lease_s):
        wait_for(lambda: queue.find(job_id).progress == 0.5)
        first = queue.find(job_id).lease_until
        wait_for(lambda: queue.find(job_id).lease_until > first + lease_s, "a second lease")
        assert queue.sweep() == 0
        go_on.set()
        wait_for(lambda: state(queue, job_id) == "done")
    assert queue.find(job_id).attempts == 1


def test_who_is_cancelled_learns_of_it_and_changes_nothing(queue):
    told = threading.Event()

    def handle(attempt: Attempt) -> Outcome:
        while True:
            if attempt.is_lost:
                told.set()
            attempt.raise_if_lost()
            time.sleep(0.01)

    (job_id,) = queue.enqueue([new()])
    with working(queue, handle, lease_s=0.6) as worker:
        wait_for(lambda: state(queue, job_id) == "running")
        queue.cancel(job_id)
        assert told.wait(LIMIT_S)
        wait_for(lambda: not worker._list_running())
        (other,) = queue.enqueue([new(kind="a", max_attempts=1)])
        wait_for(lambda: state(queue, other) == "running")
        queue.cancel(other)
    assert state(queue, job_id) == "cancelled"


def test_a_stop_waits_for_what_runs(queue):
    begun, go_on = threading.Event(), threading.Event()

    def handle(_: Attempt) -> Outcome:
        begun.set()
        assert go_on.wait(LIMIT_S)
        return Outcome.DONE

    first, second = queue.enqueue([new(), new()])
    with working(queue, handle) as worker:
        assert begun.wait(LIMIT_S)
        worker.stop()
        wait_for(lambda: worker._is_stopping)
        go_on.set()
    assert (state(queue, first), state(queue, second)) == ("done", "queued")
    assert queue.find(second).attempts == 0
    assert worker.ended == [True]


def test_what_does_not_end_in_time_is_given_back_and_ends_for_nothing(queue):
    begun, go_on = threading.Event(), threading.Event()

    def handle(_: Attempt) -> Outcome:
        begun.set()
        go_on.wait(LIMIT_S)
        return Outcome.DONE

    (job_id,) = queue.enqueue([new()])
    with working(queue, handle, grace_s=0.0):
        assert begun.wait(LIMIT_S)
    job = queue.find(job_id)
    assert (job.state, job.attempts, job.lease_until) == ("queued", 1, None)
    go_on.set()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name.startswith("assetserver-job")])
    assert state(queue, job_id) == "queued"


def test_a_worker_whose_handler_hangs_ends_and_costs_one_attempt(queue, caplog):
    go_on = threading.Event()

    def handle(_: Attempt) -> Outcome:
        go_on.wait(LIMIT_S)
        return Outcome.DONE

    (job_id,) = queue.enqueue([new(max_attempts=1)])
    with working(queue, handle, limit_s=0.3, lease_s=2.0) as worker:
        wait_for(lambda: worker.ended)
    go_on.set()
    assert worker.ended == [False]
    job = queue.find(job_id)
    assert (job.state, job.attempts) == ("dead", 1)
    assert "it took longer than" in job.reason
    assert f"job {job_id} (a) takes too long; the worker ends" in caplog.text


class Refusing(SqlJobs):
    """A queue whose records are locked as often as a test says."""

    def __init__(self, database, refusals: int) -> None:
        super().__init__(database)
        self.refusals = dict.fromkeys(("next_due_s", "claim", "complete", "heartbeat", "sweep"), refusals)

    def _refuse(self, name: str) -> None:
        if self.refusals[name]:
            self.refusals[name] -= 1
            raise BusyError("the records are locked")

    def next_due_s(self, kinds):
        self._refuse("next_due_s")
        return super().next_due_s(kinds)

    def claim(self, worker, free, lease_s):
        self._refuse("claim")
        return super().claim(worker, free, lease_s)

    def complete(self, lease):
        self._refuse("complete")
        return super().complete(lease)

    def heartbeat(self, beats, lease_s):
        self._refuse("heartbeat")
        return super().heartbeat(beats, lease_s)

    def sweep(self):
        self._refuse("sweep")
        return super().sweep()


def test_records_that_are_locked_lose_nothing(database):
    queue = Refusing(database, 3)
    slowly = threading.Event()

    def handle(_: Attempt) -> Outcome:
        slowly.wait(1.0)
        return Outcome.DONE

    queue.enqueue([new() for _ in range(4)])
    with working(queue, handle, at_once=4, lease_s=3.0) as worker:
        wait_for(lambda: queue.count() == {"done": 4})
    assert worker.ended == [True]
    assert {job.attempts for job in queue.list_jobs().jobs} == {1}
    assert queue.refusals["complete"] == queue.refusals["claim"] == 0


def test_records_of_a_newer_program_end_the_worker(database):
    class Newer(SqlJobs):
        def next_due_s(self, kinds):
            raise SchemaError("install a newer assetserver")

    worker = Worker(Newer(database), {"a": Kind(lambda _: Outcome.DONE)})
    with pytest.raises(SchemaError):
        worker.run()


def test_two_workers_share_and_one_takes_over_from_a_dead_one(queue):
    done = []

    def handle(attempt: Attempt) -> Outcome:
        done.append(attempt.job.id)
        return Outcome.DONE

    ids = queue.enqueue([new() for _ in range(40)])
    dead = queue.listen("dead")
    queue.claim("dead", {"a": 5}, 3600.0)
    dead.close()
    with working(queue, handle), working(queue, handle):
        wait_for(lambda: queue.count() == {"done": 40})
    assert sorted(done) == ids


def test_what_ended_long_ago_is_forgotten_by_who_has_nothing_to_do(queue):
    queue.enqueue([new() for _ in range(3)])
    with working(queue, lambda _: Outcome.DONE):
        wait_for(lambda: queue.count() == {"done": 3})
    with working(queue, lambda _: Outcome.DONE, keep_done_s=-1.0, keep_dead_s=-1.0):
        wait_for(lambda: queue.count() == {})


def test_a_worker_that_was_stopped_before_it_ran_claims_nothing(queue):
    queue.enqueue([new()])
    worker = Worker(queue, {"a": Kind(lambda _: Outcome.DONE)})
    worker.stop()
    assert worker.run()
    assert queue.count() == {"queued": 1}


def test_names_of_workers_are_never_the_same_and_can_be_names_of_files():
    names = {name_worker() for _ in range(100)}
    assert len(names) == 100
    assert all("/" not in name and not name.startswith(".") and len(name) < 100 for name in names)
