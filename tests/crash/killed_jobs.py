"""Queue jobs and do them, with processes that are killed at any moment, or stopped for longer than their leases. A program.

Arguments: URL of the database, a folder, how many processes are killed, and a seed. What came of it is a line of JSON: per
job how often it ended (a trigger in the database counts), what it left, and what caused it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from sqlalchemy import text

from assetserver.database.connections import Database
from assetserver.database.jobs import SqlJobs, complete_within, enqueue_within
from assetserver.database.postgres import PostgresDatabase
from assetserver.database.sqlite import SqliteDatabase
from assetserver.errors import AssetServerError, LeaseLostError
from assetserver.jobs.attempt import Attempt, Kind, Outcome
from assetserver.jobs.job import NewJob
from assetserver.jobs.retry import RetryPolicy
from assetserver.jobs.worker import Worker

WORKERS = 3
LEASE_S = 1.0
STOPPED_S = 1.5
BACKLOG = 40
MANY = 100_000
LIMIT_S = 240.0
SOON = RetryPolicy(attempts=MANY, first_s=0.0)

TABLES = (
    "CREATE TABLE causes (id INTEGER PRIMARY KEY)",
    "CREATE TABLE effects (job BIGINT NOT NULL)",
    "CREATE TABLE ends (job BIGINT NOT NULL)",
)
TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER note_end AFTER UPDATE OF state ON jobs WHEN NEW.state IN ('done', 'dead')
        BEGIN INSERT INTO ends VALUES (NEW.id); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO ends VALUES (NEW.id); RETURN NEW; END $$""",
        """CREATE TRIGGER note_end AFTER UPDATE OF state ON jobs FOR EACH ROW WHEN (NEW.state IN ('done', 'dead'))
        EXECUTE FUNCTION note_end()""",
    ),
}


def open_database(url: str) -> Database:
    database = PostgresDatabase(url) if url.startswith("postgresql") else SqliteDatabase(url.removeprefix("sqlite:///"))
    database.open()
    return database


def prepare(url: str, _: str) -> None:
    """Make the tables that tell what happened."""
    with open_database(url).write() as connection:
        for statement in (*TABLES, *TRIGGERS[url.partition(":")[0]]):
            connection.execute(text(statement))


def produce(url: str, folder: str) -> None:
    """Record causes, each in one transaction with its jobs, until there are enough."""
    database = open_database(url)
    queue = SqlJobs(database)
    while not Path(folder, "enough").exists():
        try:
            if queue.count().get("queued", 0) >= BACKLOG:
                time.sleep(0.01)
                continue
            with database.write() as connection:
                cause = connection.execute(text("SELECT COALESCE(MAX(id), 0) + 1 FROM causes")).scalar_one()
                connection.execute(text("INSERT INTO causes VALUES (:id)"), {"id": cause})
                new = [NewJob(kind=kind, payload=str(cause), max_attempts=MANY) for kind in ("plain", "joined")]
                enqueue_within(connection, new, database.now(connection))
                database.notify(connection)
            database.wake_workers()
        except AssetServerError as error:
            if not error.retryable:
                raise


def work(url: str, folder: str) -> None:
    """Do jobs until asked to end."""
    database = open_database(url)
    chance = random.Random()  # noqa: S311 - it is to differ

    def do_plain(attempt: Attempt) -> Outcome:
        Path(folder, f"begun-{attempt.job.id}").touch()
        time.sleep(chance.uniform(0, 0.02))
        Path(folder, f"done-{attempt.job.id}").write_text(attempt.job.payload)
        return Outcome.DONE

    def do_joined(attempt: Attempt) -> Outcome:
        time.sleep(chance.uniform(0, 0.02))
        while True:
            try:
                with database.write() as connection:
                    connection.execute(text("INSERT INTO effects VALUES (:job)"), {"job": attempt.job.id})
                    if not complete_within(connection, attempt.lease, database.now(connection)):
                        raise LeaseLostError("too late")
            except AssetServerError as error:
                if not error.retryable:
                    raise
            else:
                return Outcome.RECORDED

    kinds = {"plain": Kind(do_plain, SOON, at_once=2), "joined": Kind(do_joined, SOON, at_once=2)}
    worker = Worker(SqlJobs(database, after_death=SOON), kinds, lease_s=LEASE_S)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    if not worker.run():
        raise SystemExit(1)


def start(run, *arguments: str) -> int:
    if (child := os.fork()) == 0:
        code = 1
        try:
            run(*arguments)
            code = 0
        except SystemExit as error:
            code = int(str(error.code))
        finally:
            os._exit(code)
    return child


def end(child: int, number: int) -> int:
    os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_progress(folder: str, seen: int) -> int:
    """Wait until more than ``seen`` files tell of jobs, however busy the machine is; return how many do."""
    deadline_s = time.monotonic() + LIMIT_S
    while (files := len(os.listdir(folder))) <= seen:
        if time.monotonic() > deadline_s:
            sys.exit("no job is begun any more")
        time.sleep(0.005)
    return files


def disturb(url: str, folder: str, kills: int, chance: random.Random) -> list[int]:
    """Kill and stop at random; return the workers that live in the end."""
    places = [work] * WORKERS + [produce]
    children = [start(run, url, folder) for run in places]
    seen = 0
    for _ in range(kills):
        seen = wait_progress(folder, seen)
        time.sleep(chance.uniform(0.01, 0.15))
        place = chance.randrange(len(places))
        if chance.random() < 0.05:
            os.kill(children[place], signal.SIGSTOP)
            time.sleep(STOPPED_S)
            os.kill(children[place], signal.SIGCONT)
        else:
            status = end(children[place], signal.SIGKILL)
            if status != -signal.SIGKILL:
                sys.exit(f"{places[place].__name__} ended by itself, with {status}")
            children[place] = start(places[place], url, folder)
    Path(folder, "enough").touch()
    status = os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1])
    if status:
        sys.exit(f"produce ended with {status}")
    return children


def report(url: str, folder: str) -> None:
    """Wait until no job is on its way, and write down what came of them."""
    database = open_database(url)
    queue = SqlJobs(database)
    deadline_s = time.monotonic() + LIMIT_S
    while {"queued", "running"} & set(queue.count()):
        if time.monotonic() > deadline_s:
            sys.exit(f"jobs do not end: {queue.count()}")
        time.sleep(0.05)
    with database.read() as connection:
        jobs = connection.execute(text("SELECT id, kind, state, payload, attempts FROM jobs")).all()
        ends = Counter(connection.execute(text("SELECT job FROM ends")).scalars())
        effects = Counter(connection.execute(text("SELECT job FROM effects")).scalars())
        causes = connection.execute(text("SELECT id FROM causes")).scalars().all()
    told = [
        {"id": job.id, "kind": job.kind, "state": job.state, "cause": int(job.payload), "attempts": job.attempts}
        | {"ends": ends[job.id], "effects": effects[job.id], "file": Path(folder, f"done-{job.id}").exists()}
        for job in jobs
    ]
    Path(folder, "report").write_text(json.dumps({"jobs": told, "causes": causes}))


def main() -> None:
    """Run as told by the arguments."""
    url, folder, kills, seed = sys.argv[1:]
    if end_of := os.waitstatus_to_exitcode(os.waitpid(start(prepare, url, folder), 0)[1]):
        sys.exit(f"prepare ended with {end_of}")
    workers = disturb(url, folder, int(kills), random.Random(int(seed)))  # noqa: S311 - a seed repeats it
    if end_of := os.waitstatus_to_exitcode(os.waitpid(start(report, url, folder), 0)[1]):
        sys.exit(f"report ended with {end_of}")
    codes = [end(worker, signal.SIGTERM) for worker in workers]
    if set(codes) - {0, -signal.SIGTERM}:  # one that was started a moment ago may not listen yet
        sys.exit(f"workers ended with {codes}")


if __name__ == "__main__":
    main()
