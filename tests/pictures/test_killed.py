"""Server, worker, fork server and children killed at any moment: every upload that was answered ends once, ready or failed."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from .galleries import Gallery, draw, write

ROUNDS = 6


@pytest.fixture
def killed(tmp_path):
    """A gallery that is started anew whenever its server was killed."""
    gallery = Gallery(tmp_path, {"ASSETSERVER_JOBS__LEASE_S": "2"})
    gallery.start()
    yield gallery
    gallery.kill()


def kill_one(gallery: Gallery, chance: random.Random) -> str:
    """Kill one process of the server's, whichever; start the server anew if that was its master. Return what it was."""
    pid = chance.choice(gallery.list_processes())
    with suppress(OSError):
        what = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[-60:]
        os.kill(pid, signal.SIGKILL)
        if gallery.process is not None and pid == gallery.process.pid:
            gallery.process.wait(60)
            gallery.kill()
            gallery.start()
        return what
    return ""


def test_whatever_is_killed_every_upload_ends_once(killed):
    chance = random.Random(20261127)  # noqa: S311 - the same moments, as far as the machine allows
    good: list[str] = []
    bad: list[str] = []
    for number in range(ROUNDS):
        content = write(draw(500, 400, number))
        for content_of, ids in ((content, good), (content[:3000], bad)):
            with suppress(OSError):  # whoever was answered has an upload; nobody else is promised one
                ids.append(killed.upload(content_of)["id"])
        killed.wait(lambda: chance.random() < 0.2)
        kill_one(killed, chance)
        killed.wait(lambda: can_answer(killed))
    assert good
    assert bad
    for upload_id in good:
        image = killed.settled(upload_id)["image"]
        assert image["state"] == "ready", image
        assert {one["format"] for one in image["variants"]} == {"jpeg", "webp", "avif"}
        assert all(killed.ask("GET", one["url"])[0] == 200 for one in image["variants"])
    assert [killed.settled(upload_id)["image"]["state"] for upload_id in bad] == ["failed"] * len(bad)
    check_jobs(killed)
    assert killed.stop() == 0
    studio = Path(killed.folder, "data/media/studio")
    assert [path for path in studio.rglob("*") if path.is_file()] == []


def can_answer(gallery: Gallery) -> bool:
    with suppress(OSError):
        return gallery.ask("GET", "/-/healthy")[0] == 200
    return False


def check_jobs(gallery: Gallery) -> None:
    """Each picture had one job of each phase that ended: no work was done twice with effect, and none waits."""
    with closing(sqlite3.connect(gallery.folder / "data/records.sqlite3")) as records:
        jobs = records.execute("SELECT key, state FROM jobs").fetchall()
    assert {state for _, state in jobs} <= {"done", "dead"}
    keys = [key for key, state in jobs if state == "done"]
    assert len(keys) == len(set(keys))


def test_a_picture_that_was_cancelled_has_failed_until_it_is_retried(killed):
    killed.kill()
    killed.env["ASSETSERVER_JOBS__WORKERS"] = "0"
    killed.start()
    upload = killed.upload(write(draw(400, 300, 99)))
    assert killed.look(upload["id"])["image"]["state"] == "queued"
    (job,) = json.loads(killed.run("jobs", "list", "--json"))["jobs"]
    killed.run("jobs", "cancel", str(job["id"]))
    assert killed.look(upload["id"])["image"]["state"] == "failed"
    assert killed.look(upload["id"])["image"]["reason"] == "cancelled by hand"
    killed.run("jobs", "retry", str(job["id"]))
    assert killed.look(upload["id"])["image"]["state"] == "queued"
    killed.kill()
    killed.env["ASSETSERVER_JOBS__WORKERS"] = "1"
    killed.start()
    assert killed.settled(upload["id"])["image"]["state"] == "ready"
