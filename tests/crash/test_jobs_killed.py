"""``kill -9`` of workers and of who queues jobs, at any moment: every cause has its jobs, and every job ends exactly once."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(__file__).with_name("killed_jobs.py"))


def check(url: str, folder: Path, kills: int) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
    command = [sys.executable, PROGRAM, url, str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580, check=False)
    assert done.returncode == 0, f"CRASH_SEED={seed}\n{done.stdout}{done.stderr}"
    told = json.loads((folder / "report").read_text())
    jobs = told["jobs"]
    assert {(job["cause"], job["kind"]) for job in jobs} == {(c, kind) for c in told["causes"] for kind in ("plain", "joined")}
    assert len(jobs) == 2 * len(told["causes"])
    for job in jobs:
        effects = (1, False) if job["kind"] == "joined" else (0, True)
        assert (job["state"], job["ends"], (job["effects"], job["file"])) == ("done", 1, effects), f"CRASH_SEED={seed}: {job}"
    assert len(jobs) >= kills // 2, "each kill waits for some progress"
    assert max(job["attempts"] for job in jobs) > 1


@pytest.mark.timeout(600)
def test_of_more_than_a_hundred_random_kills_none_loses_or_repeats_a_job(tmp_path):
    check(f"sqlite:///{tmp_path}/records.sqlite3", tmp_path, 120)


@pytest.mark.timeout(600)
def test_nor_does_one_with_postgresql(tmp_path, postgres):
    check(postgres.create_database(), tmp_path, 40)
