"""Upload, and die: before the durable step with a given number, or at any moment. Run as a program, which forks.

Arguments: "steps" and a folder: a data folder for each step is made in it, and one where nobody died; or "random", a data
folder, how many are killed, and a seed. What was acknowledged is a line of JSON each in the file ``acknowledged`` there.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import event

from assetserver.database.jobs import SqlJobs
from assetserver.database.sqlite import SqliteDatabase
from assetserver.database.uploads import SqlUploads
from assetserver.errors import AssetServerError
from assetserver.jobs.job import NewJob
from assetserver.settingtables import UploadSettings
from assetserver.storage.files import FileBlobs
from assetserver.storage.staging import FileStaging
from assetserver.uploads.records import NewUpload, Upload
from assetserver.uploads.service import UploadService

STEPS = ("pwritev", "fdatasync", "fsync", "link", "unlink", "ftruncate", "chmod", "mkdir")
CONTENT = bytes(range(256)) * 1200
KILLED = 128 + signal.SIGKILL
LIMIT_S = 20.0


class Store:
    """A service of uploads in ``folder``."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.database = SqliteDatabase(os.path.join(folder, "records.sqlite3"))
        self.blobs = FileBlobs(os.path.join(folder, "media", "blobs"))
        self.staging = FileStaging(os.path.join(folder, "media", "staging"), self.blobs)
        settings = UploadSettings(reserve_bytes=0)
        self.service = UploadService(self.staging, self.blobs, self.records, settings, follow_up=follow_up)

    def records(self) -> SqlUploads:
        self.database.open()
        return SqlUploads(self.database)


def follow_up(upload: Upload) -> list[NewJob]:
    """Every complete upload causes a job."""
    return [NewJob(kind="crash", payload=upload.id)]


class Journal:
    """What was acknowledged, as a client remembers it: ``kill -9`` takes nothing from it."""

    def __init__(self, folder: str) -> None:
        self._descriptor = os.open(os.path.join(folder, "acknowledged"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(self, what: str, upload: Upload, **more: object) -> None:
        facts = {"what": what, "id": upload.id, "offset": upload.offset, "sha256": upload.sha256, "kind": upload.kind}
        os.write(self._descriptor, json.dumps(facts | {"by_name": upload.by_name} | more).encode() + b"\n")


async def body(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 50_000):
        yield content[at : at + 50_000]


def new(content: bytes | None, **values: object) -> NewUpload:
    known = {} if content is None else {"length": len(content)}
    return NewUpload(**{"name": "a", "owner": "me", **known, **values})


async def upload_everything(store: Store) -> None:
    """Every way to a durable answer, once, one after the other."""
    service, journal = store.service, Journal(store.folder)
    raw = await service.receive(new(b"raw"), body(b"raw"))
    journal.note("complete", raw)
    journal.note("complete", await service.store(new(b"all here"), b"all here"))
    tus = await service.create(new(CONTENT, kind="tus"))
    journal.note("offset", tus)
    journal.note("offset", await service.append(tus.id, 0, body(CONTENT[:200_000]), content_length=None))
    journal.note("complete", await service.append(tus.id, 200_000, body(CONTENT[200_000:]), content_length=None))
    for version in (b"first", b"second"):
        journal.note("complete", await service.receive(new(version, by_name="page"), body(version)))
    parts = []
    for content in (b"one", b"two"):
        part = await service.create(new(content, kind="tus-partial"))
        parts.append(await service.append(part.id, 0, body(content), content_length=None))
        journal.note("complete", parts[-1])
    whole = await service.concatenate(new(None, kind="tus-final", parts=tuple(part.id for part in parts)))
    journal.note("complete", whole)
    journal.note("removing", raw)
    await service.remove(raw.id)
    journal.note("removed", raw)
    await service.sweep()
    await service.close()


def count_steps(last: int, store: Store) -> Callable[[], int]:
    """Have this process die before step ``last``; commits are steps, too."""
    taken, lock = 0, threading.Lock()

    def take(*_: object) -> None:
        nonlocal taken
        with lock:
            taken += 1
            if taken == last:
                os._exit(KILLED)

    def watch(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **keywords: object) -> object:
            take()
            return real(*args, **keywords)

        return step

    for name in STEPS:
        setattr(os, name, watch(getattr(os, name)))
    event.listen(store.database._engine, "commit", take)
    return lambda: taken


def run_steps(folder: str) -> None:
    """Live once, and die once before every step."""
    last, steps = 0, 1
    while last <= steps:
        data = os.path.join(folder, str(last))
        os.mkdir(data)
        if (child := os.fork()) == 0:
            store = Store(data)
            taken = count_steps(last, store)
            anyio.run(upload_everything, store)
            Path(data, "steps").write_text(str(taken()))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != (KILLED if last else 0):
            sys.exit(f"step {last}: {status}")
        if last == 0:
            steps = int(Path(data, "steps").read_text())
        last += 1


async def upload_for_ever(store: Store, chance: random.Random) -> None:
    """Many clients that upload, go on with what others left, and remove."""
    journal = Journal(store.folder)
    async with anyio.create_task_group() as tasks:
        for client in (send_small, send_named, send_in_parts, resume_what_is_left, remove_some):
            for _ in range(2):
                tasks.start_soon(repeat, client, store, journal, random.Random(chance.random()))  # noqa: S311


async def repeat(client: Callable[..., object], store: Store, journal: Journal, chance: random.Random) -> None:
    while True:
        with suppress(AssetServerError):  # another client was quicker
            await client(store, journal, chance)
        await anyio.sleep(0.001)


async def send_small(store: Store, journal: Journal, chance: random.Random) -> None:
    content = chance.randbytes(chance.randrange(3000))
    is_here = chance.random() < 0.5
    upload = await (
        store.service.store(new(content), content) if is_here else store.service.receive(new(content), body(content))
    )
    journal.note("complete", upload)


async def send_named(store: Store, journal: Journal, chance: random.Random) -> None:
    content = chance.randbytes(20)
    journal.note("complete", await store.service.receive(new(content, by_name="page"), body(content)))


async def send_in_parts(store: Store, journal: Journal, chance: random.Random) -> None:
    upload = await store.service.create(new(CONTENT, kind="tus"))
    journal.note("offset", upload)
    await go_on(store, journal, upload, chance)


async def resume_what_is_left(store: Store, journal: Journal, chance: random.Random) -> None:
    uploads, _ = await store.service.list(owner=None, cursor="", limit=100)
    if left := [one for one in uploads if one.state == "uploading"]:
        await go_on(store, journal, await store.service.settle(chance.choice(left).id), chance)


async def go_on(store: Store, journal: Journal, upload: Upload, chance: random.Random) -> None:
    for _ in range(3):
        end = min(len(CONTENT), upload.offset + chance.randrange(1, 200_000))
        upload = await store.service.append(upload.id, upload.offset, body(CONTENT[upload.offset : end]), content_length=None)
        journal.note(upload.state if upload.state == "complete" else "offset", upload)
        if upload.state == "complete":
            return


async def remove_some(store: Store, journal: Journal, chance: random.Random) -> None:
    uploads, _ = await store.service.list(owner=None, cursor="", limit=50)
    done = [one for one in uploads if one.state == "complete" and not one.by_name]
    if len(done) > 5:
        chosen = chance.choice(done)
        journal.note("removing", chosen)
        await store.service.remove(chosen.id)
        journal.note("removed", chosen)
    await store.service.sweep()


def run_random(data: str, kills: int, seed: int) -> None:
    """Kill ``kills`` processes, each at a moment of its own, that one after the other upload to the same folder."""
    chance = random.Random(seed)  # noqa: S311
    for number in range(kills):
        known = measure_journal(data)
        if (child := os.fork()) == 0:
            anyio.run(upload_for_ever, Store(data), chance)
            os._exit(1)
        deadline_s = time.monotonic() + LIMIT_S
        while number % 2 and measure_journal(data) == known and time.monotonic() < deadline_s:
            time.sleep(0.001)  # every other one has acknowledged something, however slow the machine is
        time.sleep(chance.uniform(0.03, 0.2))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != -signal.SIGKILL:
            sys.exit(f"died of {status}")
        chance = random.Random(chance.random())  # noqa: S311


async def check_everything(data: str) -> dict[str, int]:
    """Raise ``AssertionError`` for what was acknowledged and is lost, or is seen and not whole; return how much there was."""
    store, lines = Store(data), read_journal(data)
    for digest in (str(one.digest) for one in store.blobs.list_blobs()):
        assert sha256(b"".join(store.blobs.read(digest))).hexdigest() == digest
    seen = {one.id: one for one in await list_all(store)}
    for upload in seen.values():
        if upload.state == "complete":
            assert store.blobs.size_of(upload.sha256) == upload.size, upload
        else:
            assert (await store.service.settle(upload.id)).offset >= upload.offset
    going = {line["id"] for line in lines if line["what"] in ("removing", "removed")}
    for line in lines:
        check_line(line, going, seen)
    check_jobs(store, {one.id for one in await list_all(store) if one.state == "complete"}, going)
    if named := [line["id"] for line in lines if line["by_name"]]:
        newest = await store.service.find_by_name("page")
        assert newest.id not in named[:-3], "two clients may be acknowledged in another order than they were recorded"
    await finish_what_is_left(store)
    await store.service.close()
    store.database.close()
    return {"acknowledged": len(lines), "seen": len(seen)}


def measure_journal(data: str) -> int:
    path = Path(data, "acknowledged")
    return path.stat().st_size if path.exists() else 0


def check_jobs(store: Store, complete: set[str], going: set[str]) -> None:
    """Every complete upload has caused its job, and no other one has."""
    caused = [job.payload for job in SqlJobs(store.database).list_jobs(limit=100_000).jobs]
    assert len(set(caused)) == len(caused)
    assert complete <= set(caused)
    assert set(caused) - complete <= going


def read_journal(data: str) -> list[dict[str, Any]]:
    path = Path(data, "acknowledged")
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def list_all(store: Store) -> list[Upload]:
    found, cursor = await store.service.list(owner=None, cursor="", limit=500)
    while cursor:
        page, cursor = await store.service.list(owner=None, cursor=cursor, limit=500)
        found += page
    return found


def check_line(line: dict[str, Any], going: set[str], seen: dict[str, Upload]) -> None:
    """What was acknowledged is there; of what was being removed nobody can know."""
    upload = seen.get(line["id"])
    if line["what"] == "removed":
        assert upload is None, line
    elif line["id"] not in going:
        assert upload is not None, line
        assert upload.offset >= line["offset"], line
        assert line["what"] == "offset" or (upload.state, upload.sha256) == ("complete", line["sha256"]), line


async def finish_what_is_left(store: Store) -> None:
    """Whatever is unfinished can be finished, and is then whole; nothing stays that nobody needs."""
    uploads, _ = await store.service.list(owner=None, cursor="", limit=500)
    for upload in uploads:
        if upload.state == "uploading" and upload.kind == "tus":
            now = await store.service.settle(upload.id)
            if now.state == "uploading":
                now = await store.service.append(now.id, now.offset, body(CONTENT[now.offset :]), content_length=None)
            assert now.sha256 == sha256(CONTENT).hexdigest()


def main() -> None:
    """Run as told by the arguments."""
    if sys.argv[1] == "steps":
        run_steps(sys.argv[2])
    else:
        run_random(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))


if __name__ == "__main__":
    main()
