"""What do background jobs cost: to queue, to wait for, to do, and when a worker is killed?

Jobs that do nothing, in SQLite and, where it is installed, in PostgreSQL: what is measured is the queue. Workers are processes;
who queues jobs and who does them share the cores as they would beside a server. Every number stands beside its goal.

Prints Markdown on stdout, progress on stderr, and writes JSON. Needs Linux. Exit codes: 0 done, 1 something did not work.
"""

from __future__ import annotations

import getpass
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from glob import glob
from statistics import median, quantiles

import values
from machine import BenchError, read_cpu_s, say
from sqlalchemy import text
from values import Row

from assetserver.database.connections import Database
from assetserver.database.jobs import SqlJobs, enqueue_within
from assetserver.database.postgres import PostgresDatabase
from assetserver.database.sqlite import SqliteDatabase
from assetserver.jobs.attempt import Attempt, Kind, Outcome
from assetserver.jobs.job import NewJob
from assetserver.jobs.worker import LEASE_S, Worker

KIND = "nothing"
START_LIMIT_S = 30.0
LIMIT_S = 300.0
PAUSE_S = 0.1
PROGRAMS = "/usr/lib/postgresql/*/bin"
USER = "postgres"


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    queued: int = 500
    picked: int = 100
    done: int = 3000
    idle_s: float = 40.0
    kills: int = 5


QUICK = Plan(queued=30, picked=5, done=60, idle_s=2.0, kills=1)

Open = Callable[[], Database]


# --- Databases ---------------------------------------------------------------------------------------------------------------


def open_sqlite(folder: str) -> Open:
    """Return what opens a database in ``folder``, anew in each process."""

    def open_it() -> Database:
        database = SqliteDatabase(os.path.join(folder, "records.sqlite3"))
        database.open()
        return database

    return open_it


@contextmanager
def postgresql() -> Iterator[Open]:
    """Run a PostgreSQL in a temporary folder. Raises ``BenchError`` where it is not installed."""
    found = sorted(glob(PROGRAMS))
    if not found:
        raise BenchError("PostgreSQL is missing (apt-get install postgresql)")
    user = USER if os.geteuid() == 0 else getpass.getuser()
    folder = tempfile.mkdtemp(prefix="bench-pg-", dir="/tmp")
    owner = pwd.getpwnam(user)
    os.chown(folder, owner.pw_uid, owner.pw_gid)

    def control(program: str, *arguments: str) -> None:
        command = [f"{found[-1]}/{program}", "-D", f"{folder}/data", *arguments]
        silent = subprocess.DEVNULL
        subprocess.run(command, check=True, user=user if os.geteuid() == 0 else None, cwd="/", stdout=silent, stderr=silent)

    def open_it() -> Database:
        database = PostgresDatabase(f"postgresql://{USER}@/postgres?host={folder}")
        database.open()
        return database

    try:
        control("initdb", "-U", USER, "--auth=trust", "--no-sync")
        control(
            "pg_ctl", "-w", "-l", f"{folder}/log", "-o", f"-c listen_addresses= -c unix_socket_directories={folder}", "start"
        )
        try:
            yield open_it
        finally:
            control("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- Workers -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hand:
    """A worker process, and the pipe in which it tells of each job: its id, and when it was begun."""

    pid: int
    told: int


def start_worker(open_database: Open, told: tuple[int, int], *, at_once: int = 4, hangs: bool = False) -> Hand:
    """Start a worker; with ``hangs`` one that does not end what it begins."""
    os.set_blocking(told[1], False)
    if (pid := os.fork()) == 0:
        try:
            worker = Worker(SqlJobs(open_database()), {KIND: Kind(_handler(told[1], hangs=hangs), at_once=at_once)})
            signal.signal(signal.SIGTERM, lambda *_: worker.stop())
            os._exit(0 if worker.run() else 1)
        finally:
            os._exit(1)
    return Hand(pid, told[0])


def _handler(told: int, *, hangs: bool) -> Callable[[Attempt], Outcome]:
    def handle(attempt: Attempt) -> Outcome:
        with suppress(BlockingIOError):  # nobody reads
            os.write(told, b"%d %.6f\n" % (attempt.job.id, time.time()))
        while hangs:
            signal.pause()
        return Outcome.DONE

    return handle


@contextmanager
def working(open_database: Open, count: int, *, at_once: int = 4) -> Iterator[list[Hand]]:
    """Run workers until the block ends."""
    told = os.pipe()
    hands = [start_worker(open_database, told, at_once=at_once) for _ in range(count)]
    try:
        yield hands
    finally:
        for hand in hands:
            end(hand, signal.SIGTERM)
        for descriptor in told:
            os.close(descriptor)


def end(hand: Hand, number: int) -> None:
    """End a worker."""
    os.kill(hand.pid, number)
    os.waitpid(hand.pid, 0)


def wait_done(queue: SqlJobs) -> None:
    """Wait until nothing is on its way. Raises ``BenchError`` if that takes too long."""
    deadline_s = time.monotonic() + LIMIT_S
    while {"queued", "running"} & set(queue.count()):
        if time.monotonic() > deadline_s:
            raise BenchError(f"jobs do not end: {queue.count()}")
        time.sleep(0.02)


def new(count: int = 1) -> list[NewJob]:
    """Return jobs."""
    return [NewJob(kind=KIND, payload="{}")] * count


# --- Measuring ---------------------------------------------------------------------------------------------------------------


def measure_enqueue(open_database: Open, name: str, plan: Plan) -> Iterator[Row]:
    """Queue jobs, alone and in a transaction that is there anyway."""
    database = open_database()
    queue = SqlJobs(database)
    alone = [timed(lambda: queue.enqueue(new())) for _ in range(plan.queued)]
    bare, joined = [], []
    for _ in range(plan.queued):
        bare.append(timed(lambda: record(database, [])))
        joined.append(timed(lambda: record(database, new())))
    extra = median(joined) - median(bare)
    yield Row(f"{name}: a job in a transaction of its own, median", 1000 * median(alone), "ms")
    yield Row(f"{name}: what a job adds to the transaction of its upload", 1000 * extra, "ms", "≤ 1 ms", extra <= 0.001)
    database.close()


def record(database: Database, jobs: list[NewJob]) -> None:
    """Write something in a transaction, and ``jobs`` with it."""
    with database.write() as connection:
        connection.execute(text("UPDATE schema_versions SET version = version"))
        if jobs:
            enqueue_within(connection, jobs, time.time())
            database.notify(connection)
    if jobs:
        database.wake_workers()


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that ``work`` takes."""
    begun_s = time.perf_counter()
    work()
    return time.perf_counter() - begun_s


def measure_pick_up(open_database: Open, name: str, plan: Plan) -> Iterator[Row]:
    """Queue jobs for a worker that has nothing to do, and see what it needs while there are none."""
    queue = SqlJobs(open_database())
    with working(open_database, 1) as (hand,):
        wait_done(queue)
        latencies = []
        for _ in range(plan.picked):
            time.sleep(PAUSE_S)
            queued_s = time.time()
            (job_id,) = queue.enqueue(new())
            latencies.append(read_begun(hand, job_id) - queued_s)
        wait_done(queue)
        time.sleep(1)
        before_s = read_cpu_s(hand.pid)
        time.sleep(plan.idle_s)
        share = (read_cpu_s(hand.pid) - before_s) / plan.idle_s
    yield Row(f"{name}: from the call that queues a job to its first line, median", 1000 * median(latencies), "ms")
    last = 1000 * quantiles(latencies, n=100)[98]
    yield Row(f"{name}: the same, 99th percentile", last, "ms", "≤ 100 ms", last <= 100)
    yield Row(f"{name}: CPU of an idle worker", 100 * share, "% of a core", "≤ 0.3", share <= 0.003)


def read_begun(hand: Hand, job_id: int) -> float:
    """Wait for a job to be begun; return when that was, in seconds since 1970. What is told of others is passed over."""
    while True:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(hand.told, 1)
        number, moment = line.split()
        if int(number) == job_id:
            return float(moment)


def measure_throughput(open_database: Open, name: str, plan: Plan) -> Iterator[Row]:
    """Do jobs that were queued before, with one worker and with two."""
    queue = SqlJobs(open_database())
    for count in (1, 2):
        for _ in range(plan.done // 20):
            queue.enqueue(new(20))
        begun_s = time.perf_counter()
        with working(open_database, count, at_once=8):
            wait_done(queue)
            took_s = time.perf_counter() - begun_s
        yield Row(
            f"{name}: jobs that do nothing, by {count} {'worker' if count == 1 else 'workers'}", plan.done / took_s, "jobs/s"
        )


def measure_take_over(open_database: Open, name: str, plan: Plan) -> Iterator[Row]:
    """Kill a worker that has begun a job, with another one beside it."""
    queue = SqlJobs(open_database())
    times = []
    with working(open_database, 1) as (other,):
        for _ in range(plan.kills):
            told = os.pipe()
            os.kill(other.pid, signal.SIGSTOP)  # so that the one that will die has the job
            hand = start_worker(open_database, told, hangs=True)
            (job_id,) = queue.enqueue(new())
            read_begun(hand, job_id)
            os.kill(other.pid, signal.SIGCONT)
            end(hand, signal.SIGKILL)
            killed_s = time.time()
            times.append(read_begun(other, job_id) - killed_s)
            wait_done(queue)
            for descriptor in told:
                os.close(descriptor)
    goal_s = 1.5 * LEASE_S
    yield Row(f"{name}: from kill -9 of a worker to another's start of its job, longest", max(times), "s", f"≤ {goal_s:g} s",
              max(times) <= goal_s)  # fmt: skip


def measure_all(open_database: Open, name: str, plan: Plan) -> Iterator[Row]:
    """Measure everything of one database; no process has it open before it forks."""
    for measure in (measure_enqueue, measure_pick_up, measure_throughput, measure_take_over):
        say(f"{name}: {measure.__doc__}")
        yield from apart(lambda measure=measure: list(measure(open_database, name, plan)))


def apart(measure: Callable[[], list[Row]]) -> list[Row]:
    """Measure in a process of its own: connections must not be carried through a fork."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writer, json.dumps([asdict(row) for row in measure()]).encode())
            os._exit(0)
        except BenchError as error:
            say(str(error))
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    if os.waitpid(child, 0)[1]:
        raise BenchError("it could not be measured")
    return [Row(**row) for row in json.loads(content)]


def measure(folder: str, plan: Plan) -> Iterator[Row]:
    """Measure everything in SQLite, and in PostgreSQL where that can be had."""
    yield from measure_all(open_sqlite(folder), "SQLite", plan)
    try:
        with postgresql() as open_database:
            yield from measure_all(open_database, "PostgreSQL", plan)
    except BenchError as error:
        say(str(error))


if __name__ == "__main__":
    sys.exit(values.run("jobs", __doc__, Plan(), QUICK, measure))
