"""What every engine of jobs keeps. An engine's own test file inherits it and says how to make an empty queue."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
import pytest

from assetserver.database.jobs import SqlJobs, complete_within, enqueue_within
from assetserver.errors import JobMissingError, JobStateError
from assetserver.jobs.job import LATER, NORMAL, URGENT, Failure, Lease, NewJob
from assetserver.jobs.queue import Beat
from assetserver.jobs.retry import RetryPolicy

START = 1_800_000_000.0
LEASE_S = 10.0
NEVER_S = 600.0
"""Longer than a test may take: one that nobody wakes fails."""

WAITS = RetryPolicy(first_s=100.0, factor=10.0, longest_s=1e6)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def new(kind: str = "resize", **values: object) -> NewJob:
    return NewJob(**{"kind": kind, "payload": '{"a": "ä"}', **values})


class JobQueueContract:
    """Inherit it, and have a fixture ``database`` return an opened, empty one."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def queue(self, database, clock) -> SqlJobs:
        return SqlJobs(database, after_death=WAITS, clock=clock)

    def claim(self, queue: SqlJobs, limit: int = 1, *, worker: str = "w1", kind: str = "resize") -> list[Lease]:
        return queue.claim(worker, {kind: limit}, LEASE_S)

    def claim_one(self, queue: SqlJobs, **values: str) -> Lease:
        (lease,) = self.claim(queue, **values)
        return lease

    @contextmanager
    def living(self, queue: SqlJobs, worker: str):
        """A worker that lives meanwhile."""
        listener = queue.listen(worker)
        try:
            yield listener
        finally:
            listener.close()

    # From queued to done

    def test_what_is_queued_is_found_claimed_once_and_done(self, queue, clock):
        (job_id,) = queue.enqueue([new(key="k", priority=3, max_attempts=7)])
        job = queue.find(job_id)
        assert (job.kind, job.payload, job.key, job.priority, job.max_attempts) == ("resize", '{"a": "ä"}', "k", 3, 7)
        assert (job.state, job.attempts, job.created, job.run_at, job.worker) == ("queued", 0, START, START, "")
        clock.now += 1
        lease = self.claim_one(queue)
        assert (lease.job.id, lease.job.state, lease.job.attempts) == (job_id, "running", 1)
        assert (lease.job.worker, lease.job.lease_until) == ("w1", START + 1 + LEASE_S)
        assert self.claim(queue) == []
        assert queue.complete(lease)
        done = queue.find(job_id)
        assert (done.state, done.finished, done.progress, done.lease_until) == ("done", START + 1, 1.0, None)

    def test_urgent_jobs_come_first_then_the_oldest(self, queue, clock):
        (later,) = queue.enqueue([new(priority=LATER)])
        clock.now += 1
        first, second = queue.enqueue([new(priority=NORMAL), new(priority=NORMAL)])
        clock.now += 1
        (urgent,) = queue.enqueue([new(priority=URGENT)])
        assert [lease.job.id for lease in self.claim(queue, 3)] == [urgent, first, second]
        assert [lease.job.id for lease in self.claim(queue, 3)] == [later]

    def test_kinds_that_a_worker_does_not_know_stay_queued(self, queue):
        queue.enqueue([new("resize"), new("webhook"), new("unknown")])
        leases = queue.claim("w1", {"webhook": 5, "resize": 5, "never": 5}, LEASE_S)
        assert sorted(lease.job.kind for lease in leases) == ["resize", "webhook"]
        assert queue.next_due_s(["resize", "webhook"]) is None
        assert queue.count() == {"running": 2, "queued": 1}

    def test_of_each_kind_no_more_are_claimed_than_are_free(self, queue):
        queue.enqueue([new("resize")] * 5 + [new("webhook")] * 5)
        leases = queue.claim("w1", {"resize": 2, "webhook": 3}, LEASE_S)
        assert Counter(lease.job.kind for lease in leases) == {"resize": 2, "webhook": 3}

    def test_a_delayed_job_waits_for_its_time(self, queue, clock):
        queue.enqueue([new(delay_s=60.0)])
        assert self.claim(queue) == []
        assert queue.next_due_s(["resize"]) == 60.0
        assert (queue.count_queued("resize"), queue.count_queued("webhook")) == (1, 0)
        clock.now += 60
        assert queue.next_due_s(["resize"]) == 0.0
        assert len(self.claim(queue)) == 1
        assert queue.count_queued("resize") == 0

    def test_an_empty_queue_is_never_due(self, queue):
        assert queue.next_due_s(["resize"]) is None
        assert queue.next_due_s([]) is None
        assert queue.claim("w1", {}, LEASE_S) == []
        assert queue.enqueue([]) == []
        assert queue.sweep() == 0
        assert queue.prune(0, 0) == 0

    # One job for one work

    def test_a_key_is_one_job_as_long_as_it_is_on_its_way(self, queue):
        first, again, other, without, free = queue.enqueue([new(key="a"), new(key="a"), new(key="b"), new(), new()])
        assert first == again
        assert len({first, other, without, free}) == 4
        lease = next(one for one in self.claim(queue, 9) if one.job.id == first)
        assert queue.enqueue([new(key="a")]) == [first]
        queue.complete(lease)
        assert queue.enqueue([new(key="a")]) != [first]

    def test_of_two_with_one_key_the_higher_priority_counts(self, queue):
        (job_id,) = queue.enqueue([new(key="a", priority=LATER)])
        queue.enqueue([new(key="a", priority=URGENT)])
        assert queue.find(job_id).priority == URGENT
        queue.enqueue([new(key="a", priority=NORMAL)])
        assert queue.find(job_id).priority == URGENT

    def test_many_that_queue_the_same_make_one_job(self, queue):
        with ThreadPoolExecutor(8) as pool:
            ids = {job_id for found in pool.map(lambda _: queue.enqueue([new(key="same")]), range(40)) for job_id in found}
        assert len(ids) == 1
        assert queue.count() == {"queued": 1}

    # Within a transaction of somebody else

    def test_a_job_is_recorded_with_its_cause_or_not_at_all(self, queue, database):
        def fail() -> None:
            with database.write() as connection:
                enqueue_within(connection, [new()], START)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert queue.count() == {}
        with database.write() as connection:
            (job_id,) = enqueue_within(connection, [new()], START)
        assert queue.find(job_id).state == "queued"

    def test_a_job_is_done_together_with_its_results_or_not_at_all(self, queue, database):
        queue.enqueue([new()])
        lease = self.claim_one(queue)

        def fail() -> None:
            with database.write() as connection:
                assert complete_within(connection, lease, START)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert queue.find(lease.job.id).state == "running"
        with database.write() as connection:
            assert complete_within(connection, lease, START)
        assert not queue.complete(lease)

    # Failures

    def test_a_job_that_fails_waits_and_is_dead_after_its_last_attempt(self, queue, clock):
        (job_id,) = queue.enqueue([new(max_attempts=2)])
        assert queue.fail(self.claim_one(queue), Failure("no route"), 30.0)
        job = queue.find(job_id)
        assert (job.state, job.run_at, job.attempts, job.reason, job.finished) == ("queued", START + 30, 1, "no route", None)
        clock.now += 30
        assert queue.fail(self.claim_one(queue), Failure("killed", signal=9), 30.0)
        job = queue.find(job_id)
        assert (job.state, job.attempts, job.reason, job.signal, job.finished) == ("dead", 2, "killed", 9, START + 30)
        clock.now += 1e6
        assert self.claim(queue) == []

    def test_what_never_can_work_is_dead_at_once(self, queue):
        (job_id,) = queue.enqueue([new(max_attempts=5)])
        assert queue.fail(self.claim_one(queue), Failure("not a picture", is_permanent=True), 30.0)
        assert (queue.find(job_id).state, queue.find(job_id).reason) == ("dead", "not a picture")

    def test_what_went_wrong_is_forgotten_once_it_is_done(self, queue):
        (job_id,) = queue.enqueue([new()])
        queue.fail(self.claim_one(queue), Failure("no route", signal=11), 0.0)
        queue.complete(self.claim_one(queue))
        assert (queue.find(job_id).state, queue.find(job_id).reason, queue.find(job_id).signal) == ("done", "", 0)

    def test_an_attempt_that_was_not_begun_does_not_count(self, queue):
        (job_id,) = queue.enqueue([new()])
        assert queue.release(self.claim_one(queue), was_begun=False)
        assert (queue.find(job_id).state, queue.find(job_id).attempts) == ("queued", 0)
        assert queue.release(self.claim_one(queue), was_begun=True)
        assert (queue.find(job_id).state, queue.find(job_id).attempts) == ("queued", 1)
        assert self.claim_one(queue).job.attempts == 2

    # Leases

    def test_a_heartbeat_prolongs_and_tells_progress(self, queue, clock):
        (job_id,) = queue.enqueue([new()])
        with self.living(queue, "w1"):
            lease = self.claim_one(queue)
            clock.now += 9
            assert queue.heartbeat([Beat(lease, 0.25)], LEASE_S) == []
            clock.now += 9
            assert queue.sweep() == 0
            assert (queue.find(job_id).progress, queue.find(job_id).lease_until) == (0.25, START + 19)

    def test_who_gives_no_sign_of_life_loses_its_jobs_and_comes_too_late(self, queue, clock):
        (job_id,) = queue.enqueue([new()])
        with self.living(queue, "w1"), self.living(queue, "w2"):
            late = self.claim_one(queue)
            clock.now += LEASE_S + 1
            assert queue.sweep() == 1
            assert queue.sweep() == 0
            taken = self.claim_one(queue, worker="w2")
            assert taken.job.id == job_id
            assert queue.heartbeat([Beat(late, 0.9)], LEASE_S) == [late]
            assert not queue.complete(late)
            assert not queue.fail(late, Failure("late"), 0)
            assert not queue.release(late, was_begun=False)
            assert (queue.find(job_id).state, queue.find(job_id).worker, queue.find(job_id).attempts) == ("running", "w2", 2)
            assert queue.complete(taken)
            assert not queue.complete(late)
            assert queue.find(job_id).reason == ""

    def test_the_first_death_of_a_worker_costs_no_time_and_later_ones_do(self, queue, clock):
        (job_id,) = queue.enqueue([new(max_attempts=3)])
        with self.living(queue, "w1"):
            self.claim(queue)
            clock.now += LEASE_S + 1
            queue.sweep()
            assert queue.next_due_s(["resize"]) == 0.0
            self.claim(queue)
            clock.now += LEASE_S + 1
            queue.sweep()
            assert 50.0 <= queue.next_due_s(["resize"]) <= 100.0
            clock.now += 100
            self.claim(queue)
            clock.now += LEASE_S + 1
            queue.sweep()
        job = queue.find(job_id)
        assert (job.state, job.attempts, job.reason) == ("dead", 3, "worker w1 gave no sign of life")

    def test_many_workers_never_have_the_same_job(self, queue):
        queue.enqueue([new() for _ in range(200)])
        claimed: list[int] = []
        lock = threading.Lock()

        def work(number: int) -> None:
            while leases := self.claim(queue, 3, worker=f"w{number}"):
                for lease in leases:
                    assert queue.complete(lease)
                with lock:
                    claimed.extend(lease.job.id for lease in leases)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        assert len(claimed) == len(set(claimed)) == 200
        assert queue.count() == {"done": 200}

    def test_many_that_sweep_take_each_job_once(self, queue, clock):
        queue.enqueue([new() for _ in range(30)])
        self.claim(queue, 30)
        clock.now += LEASE_S + 1
        with ThreadPoolExecutor(6) as pool:
            assert sum(pool.map(lambda _: queue.sweep(), range(6))) == 30
        assert {job.attempts for job in queue.list_jobs().jobs} == {1}

    # People

    def test_dead_and_cancelled_jobs_can_be_queued_again_as_if_new(self, queue, clock):
        (job_id,) = queue.enqueue([new(max_attempts=2)])
        queue.fail(self.claim_one(queue), Failure("bad", is_permanent=True), 0)
        clock.now += 5
        job = queue.retry(job_id)
        assert (job.state, job.attempts, job.run_at, job.finished, job.reason) == ("queued", 0, START + 5, None, "bad")
        queue.cancel(job_id)
        assert queue.retry(job_id).state == "queued"
        assert self.claim_one(queue).job.attempts == 1

    def test_a_cancelled_job_is_not_begun_and_one_that_runs_is_of_no_effect(self, queue):
        waiting, running = queue.enqueue([new(priority=LATER), new()])
        lease = self.claim_one(queue)
        assert lease.job.id == running
        assert queue.cancel(waiting).state == queue.cancel(running).state == "cancelled"
        assert self.claim(queue) == []
        assert queue.heartbeat([Beat(lease, 0.5)], LEASE_S) == [lease]
        assert not queue.complete(lease)
        assert queue.find(running).reason == "cancelled by hand"

    def test_what_cannot_be_changed_is_refused_in_words(self, queue):
        (job_id,) = queue.enqueue([new(key="k")])
        with pytest.raises(JobStateError, match=f"job {job_id} is queued; only what is dead or cancelled can be retried"):
            queue.retry(job_id)
        queue.complete(self.claim_one(queue))
        with pytest.raises(JobStateError, match="is done already"):
            queue.cancel(job_id)
        for change in (queue.find, queue.retry, queue.cancel):
            with pytest.raises(JobMissingError, match="there is no job 777"):
                change(777)

    def test_a_job_is_not_retried_while_another_does_the_same(self, queue):
        (dead,) = queue.enqueue([new(key="k")])
        queue.fail(self.claim_one(queue), Failure("bad", is_permanent=True), 0)
        (other,) = queue.enqueue([new(key="k")])
        with pytest.raises(JobStateError, match="another that does the same is on its way"):
            queue.retry(dead)
        queue.cancel(other)
        assert queue.retry(dead).state == "queued"

    def test_jobs_are_listed_the_newest_first_by_pages_states_and_kinds(self, queue):
        ids = queue.enqueue([new("resize"), new("webhook"), new("resize"), new("webhook")])
        queue.cancel(ids[0])
        page = queue.list_jobs(limit=3)
        assert ([job.id for job in page.jobs], page.next_id) == ([ids[3], ids[2], ids[1]], ids[1])
        rest = queue.list_jobs(below_id=page.next_id, limit=3)
        assert ([job.id for job in rest.jobs], rest.next_id) == ([ids[0]], None)
        assert [job.id for job in queue.list_jobs(("queued",), "resize").jobs] == [ids[2]]
        assert [job.id for job in queue.list_jobs(("cancelled", "dead")).jobs] == [ids[0]]

    def test_a_finished_job_is_forgotten_after_its_time_a_dead_one_later(self, queue, clock):
        done, dead, cancelled, waiting = queue.enqueue([new() for _ in range(4)])
        leases = {lease.job.id: lease for lease in self.claim(queue, 2)}
        queue.complete(leases[done])
        queue.fail(leases[dead], Failure("bad", is_permanent=True), 0)
        queue.cancel(cancelled)
        clock.now += 50
        assert queue.prune(100, 1000) == 0
        clock.now += 60
        assert queue.prune(100, 1000) == 1
        with pytest.raises(JobMissingError):
            queue.find(done)
        clock.now += 1000
        assert queue.prune(100, 1000) == 2
        assert [job.id for job in queue.list_jobs().jobs] == [waiting]

    def test_ids_are_never_given_twice(self, queue):
        (first,) = queue.enqueue([new()])
        queue.complete(self.claim_one(queue))
        assert queue.prune(-1, -1) == 1
        assert queue.enqueue([new()])[0] > first

    # Waking

    def test_a_worker_that_waits_is_woken_by_what_is_queued(self, queue):
        with self.living(queue, "w1") as listener:
            self.settle(listener)
            threading.Timer(0.05, lambda: queue.enqueue([new()])).start()
            self.wait_until(listener, lambda: queue.next_due_s(["resize"]) is not None)

    def test_a_ring_ends_a_wait_and_the_next_one(self, queue):
        with self.living(queue, "w1") as listener:
            self.settle(listener)
            listener.ring()
            listener.wait(NEVER_S)
            threading.Timer(0.05, listener.ring).start()
            listener.wait(NEVER_S)

    def settle(self, listener) -> None:
        """Take what rang before."""
        for _ in range(3):
            listener.wait(0.01)

    def wait_until(self, listener, condition: Callable[[], bool]) -> None:
        """Return once the condition holds, woken and not by polling: the test's own time limit ends a wait for nothing."""
        for _ in range(10):
            listener.wait(NEVER_S)
            if condition():
                return
        pytest.fail("it was woken, and for nothing")

    def test_without_a_clock_of_its_own_the_database_tells_the_time(self, database):
        queue = SqlJobs(database)
        (job_id,) = queue.enqueue([new(delay_s=100.0)])
        job = queue.find(job_id)
        assert 99.9 < job.run_at - job.created < 100.1
        assert 90.0 < queue.next_due_s(["resize"]) <= 100.0
        assert msgspec.structs.asdict(job)["created"] > 1_700_000_000
