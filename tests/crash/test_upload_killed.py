"""``kill -9`` between every two durable steps of an upload, and at any moment: nothing acknowledged is lost."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from assetserver.uploads.sweep import sweep_leftovers

from .killed_upload import Store, check_everything

PROGRAM = str(Path(__file__).with_name("killed_upload.py"))
KILLS = 102


def run(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_swept(data: str) -> None:
    """After a sweep long after, only what records name is left."""
    store = Store(data)
    records = store.records()
    sweep_leftovers(records, store.staging, store.blobs, time.time() + 1e9, 0)
    uploads, _ = records.list_uploads(None, "", 10_000)
    assert {str(one.digest) for one in store.blobs.list_blobs()} == {one.sha256 for one in uploads} - {""}
    assert list(store.staging.list_staged()) == []
    store.database.close()


@pytest.mark.timeout(600)
def test_killed_before_any_durable_step_nothing_acknowledged_is_lost(tmp_path):
    run("steps", tmp_path)
    folders = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert len(folders) > 80
    acknowledged = []
    for folder in folders:
        acknowledged.append(anyio.run(check_everything, str(folder))["acknowledged"])
        check_swept(str(folder))
    assert acknowledged[1:] == sorted(acknowledged[1:])
    assert acknowledged[0] == acknowledged[-1]


@pytest.mark.timeout(600)
def test_of_more_than_a_hundred_random_kills_none_loses_anything(tmp_path):
    seed = int(os.environ.get("CRASH_SEED") or random.SystemRandom().randrange(1 << 32))
    rounds = 6
    for number in range(rounds):
        run("random", tmp_path, KILLS // rounds, seed + number)
        found = anyio.run(check_everything, str(tmp_path))
    assert found["acknowledged"] > KILLS // 4, f"CRASH_SEED={seed}"
    check_swept(str(tmp_path))
