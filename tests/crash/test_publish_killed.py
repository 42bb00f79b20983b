"""``kill -9`` between every two durable steps: the site stays whole, and publishing again goes on from there."""

import os
import shutil
from hashlib import sha256
from pathlib import Path

import anyio
import httpx
import pytest

from assetserver.delivery.releasefiles import ReleaseFiles
from assetserver.releases.library import Library
from assetserver.releases.serving import ActiveIndex
from assetserver.storage.codecs import decode_against
from assetserver.storage.files import FileBlobs

from .killed import publish_and_activate

SHARED = b"the same in both"
RULES = b"".join(b".c%d { order: %d }\n" % (number, number * number) for number in range(60))
CSS = {version: b"body { color: %s }\n" % version.encode() + RULES for version in ("one", "two")}
V1 = {"index.html": b"<p>one", "app.css": CSS["one"], "shared.txt": SHARED}
V2 = {"index.html": b"<p>two", "app.css": CSS["two"], "shared.txt": SHARED}


@pytest.fixture(scope="module")
def run(forked):
    return forked("killed")


def write(folder: Path, files: dict[str, bytes]) -> str:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


def fetch(data: str) -> dict[str, bytes]:
    """Return what a server started now answers, by path; it must be complete."""
    library = Library(data, FileBlobs(os.path.join(data, "blobs")))
    app = ReleaseFiles(ActiveIndex(library, library.site("main")), library.blobs.path_of)

    async def ask() -> dict[str, bytes]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            answers = {name: await client.get(f"/{name}", headers={"Accept-Encoding": "gzip"}) for name in V1}
        assert {answer.status_code for answer in answers.values()} <= {200}
        return {name: answer.content for name, answer in answers.items()}

    return anyio.run(ask)


def check_store(data: str) -> None:
    """Every blob, compressed form, delta and manifest that has its name is whole."""
    library = Library(data, FileBlobs(os.path.join(data, "blobs")))
    for blob in library.blobs.list_blobs():
        assert sha256(b"".join(library.blobs.read(blob.digest))).hexdigest() == blob.digest
    for release in library.manifests():
        for record in library.load_manifest(release).files.values():
            assert library.blobs.size_of(record.digest) == record.size
            for form in library.codings_of(record.digest) or ():
                assert library.blobs.size_of(form.digest) == form.size
            for delta in library.deltas_of(record.digest):
                content, old = (b"".join(library.blobs.read(one)) for one in (delta.digest, delta.dictionary))
                assert content[8:40].hex() == delta.dictionary
                assert sha256(b"".join(decode_against(old, content))).hexdigest() == record.digest


def deltas_of(data: str) -> set[bytes]:
    """Return what the style sheet that is served has deltas against, each of them there."""
    library = Library(data, FileBlobs(os.path.join(data, "blobs")))
    _, index = ActiveIndex(library, library.site("main"))()
    deltas = index.get("app.css").deltas
    assert all(library.blobs.size_of(digest.hex()) == size for _, digest, size in deltas)
    return {dictionary for dictionary, _, _ in deltas}


def litter_of(data: str) -> list[str]:
    return [name for _, _, names in os.walk(data) for name in names if name.startswith((".new-", "tmp"))]


def seen_in(data: str) -> int:
    folder = os.path.join(data, "seen")
    return len(os.listdir(folder)) if os.path.isdir(folder) else 0


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Path:
    """A data folder with the first version live, and both folders to publish."""
    root = tmp_path_factory.mktemp("crash")
    publish_and_activate(str(root / "data"), write(root / "v1", V1))
    write(root / "v2", V2)
    return root


@pytest.fixture(scope="module")
def finished(live, run) -> tuple[int, str]:
    """The number of durable steps of a publish that nobody kills, and the release that it makes."""
    data = live / "finished"
    shutil.copytree(live / "data", data)
    answer = run(data, live / "v2", 0)
    assert answer.returncode == 0, answer.stderr
    assert fetch(str(data)) == V2
    assert litter_of(str(data)) == []
    assert deltas_of(str(data)) == {sha256(CSS["one"]).digest()}
    assert seen_in(str(data)) == seen_in(str(live / "data")) + 1  # that the folder is remembered is a step, too
    state = Library(str(data), FileBlobs(str(data / "blobs"))).site("main").read()
    return int(answer.stdout), state.active


@pytest.mark.timeout(600)
def test_killed_before_any_durable_step_a_site_stays_whole_and_goes_on(live, finished, run, tmp_path):
    steps, release = finished
    assert steps > 20
    shutil.copytree(live / "data", tmp_path / "again")
    assert int(run(tmp_path / "again", live / "v2", 0).stdout) == steps
    switched = []
    for step in range(1, steps + 1):
        data = str(tmp_path / f"data-{step}")
        shutil.copytree(live / "data", data)
        assert run(data, live / "v2", step).returncode == 137, f"step {step}"
        library = Library(data, FileBlobs(os.path.join(data, "blobs")))
        switched.append(library.site("main").read().active == release)
        assert fetch(data) == (V2 if switched[-1] else V1), f"step {step}"
        check_store(data)
        assert publish_and_activate(data, str(live / "v2")) == release, f"step {step}"
        assert fetch(data) == V2, f"step {step}"
        check_store(data)
        assert deltas_of(data) == {sha256(CSS["one"]).digest()}, f"step {step}"
        library.blobs.sweep(-60)
        assert os.listdir(os.path.join(data, "blobs", "tmp")) == []
        assert library.site("main").read().generation == 4
        shutil.rmtree(data)
    # Only the last step, the sync of the folder that holds the state, comes after the switch.
    assert switched == [False] * (steps - 1) + [True]


@pytest.mark.timeout(600)
def test_killed_before_any_durable_step_of_the_first_publish_a_site_begins_anew(live, run, tmp_path):
    steps = int(run(tmp_path / "data-0", live / "v1", 0).stdout)
    for step in range(1, steps + 1, 3):
        data = str(tmp_path / f"data-{step}")
        # Threads that make the first folders together sync them once or several times: the last steps may not come.
        assert run(data, live / "v1", step).returncode == 137 or step > steps - 10, f"step {step}"
        check_store(data)
        publish_and_activate(data, str(live / "v1"))
        assert fetch(data) == V1, f"step {step}"
