"""``kill -9`` between every two durable steps of a collection: what is live stays whole, and the next one removes the rest."""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.releases.library import Delta
from assetserver.releases.sites import previous_release
from assetserver.releases.verify import verify

from .killed import publish_and_activate
from .killed_upkeep import open_library, run_upkeep
from .test_publish_killed import RULES, check_store, deltas_of, fetch, write

PROGRAM = str(Path(__file__).with_name("killed_upkeep.py"))


def name_of(content: bytes) -> str:
    return f"chunk.{sha256(content).hexdigest()[:12]}.js"


def version(number: int) -> dict[str, bytes]:
    text = b"%d" % number
    return {
        "index.html": b"<p>" + text,
        "app.css": b"body { order: %d }\n" % number + RULES,
        "shared.txt": b"the same",
        name_of(text): text,
    }


@pytest.fixture(scope="module")
def run(forked):
    return forked("killed_upkeep")


def deltas_kept(data: str) -> tuple[Delta, ...]:
    return open_library(data).deltas_of(sha256(version(3)["app.css"]).hexdigest())


def files_of(data: str) -> set[str]:
    return {os.path.relpath(os.path.join(at, name), data) for at, _, names in os.walk(data) for name in names}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three releases that were active one after the other, and what a killed publish left."""
    root = tmp_path_factory.mktemp("crash")
    for number in (1, 2, 3):
        publish_and_activate(str(root / "data"), write(root / f"v{number}", version(number)))
    library = open_library(str(root / "data"))
    for content in (b"stored, and never named", b"another"):
        library.blobs.put(sha256(content).hexdigest(), [content])
    (root / "data" / "blobs" / "tmp" / "half").write_bytes(b"half")
    return root / "data"


@pytest.fixture(scope="module")
def finished(data, run) -> tuple[int, set[str]]:
    """The number of durable steps of a collection that nobody kills, and the files that stay."""
    copy = data.with_name("finished")
    shutil.copytree(data, copy)
    answer = run(copy, "collect", 0)
    assert answer.returncode == 0, answer.stderr
    stay = files_of(str(copy))
    assert len(files_of(str(data)) - stay) > 8
    assert len(deltas_of(str(data))) == 2
    assert [one.dictionary for one in deltas_kept(str(copy))] == [sha256(version(2)["app.css"]).hexdigest()]
    return int(answer.stdout), stay


def check(data: str) -> None:
    """What is live answers whole, and so does what rolling back leads to."""
    served = fetch(data)
    assert served == {name: content for name, content in version(3).items() if name in served}
    library = open_library(data)
    check_store(data)
    before = library.load_manifest(previous_release(library.site("main").read()))
    for record in before.files.values():
        assert sha256(b"".join(library.blobs.read(record.digest))).hexdigest() == record.digest
        for form in library.codings_of(record.digest) or ():
            assert library.blobs.size_of(form.digest) == form.size


@pytest.mark.timeout(600)
def test_killed_before_any_durable_step_what_is_live_stays_and_the_next_removes_the_rest(data, finished, run, tmp_path):
    steps, stay = finished
    assert steps > 12
    dropped = []
    for step in range(1, steps + 1):
        copy = str(tmp_path / f"data-{step}")
        shutil.copytree(data, copy)
        assert run(copy, "collect", step).returncode == 137, f"step {step}"
        dropped.append(len(open_library(copy).site("main").read().releases) == 2)
        if not dropped[-1]:  # before the state is replaced, nothing that it names has gone
            assert len(list(open_library(copy).manifests())) == 3, f"step {step}"
        check(copy)
        run_upkeep(copy, "collect")
        left = {name for name in files_of(copy) if os.path.basename(name).startswith(".new-")}
        assert files_of(copy) - left == stay, f"step {step}"
        for name in left:  # in a site's folder they may be in flight for an hour
            assert name.startswith("sites"), f"step {step}"
            os.utime(os.path.join(copy, name), (1, 1))
        run_upkeep(copy, "collect")
        assert files_of(copy) == stay, f"step {step}"
        check(copy)
        assert verify(open_library(copy), lambda *_: None).faults == []
        shutil.rmtree(copy)
    assert dropped == sorted(dropped)
    assert True in dropped
    assert False in dropped


@pytest.mark.timeout(600)
def test_publishing_goes_on_after_a_killed_collection(data, finished, run, tmp_path):
    steps, _ = finished
    for step in range(2, steps + 1, 4):
        copy = str(tmp_path / f"data-{step}")
        shutil.copytree(data, copy)
        assert run(copy, "collect", step).returncode == 137, f"step {step}"
        publish_and_activate(copy, str(data.with_name("v1")))  # what was about to go is wanted again
        assert fetch(copy)["index.html"] == b"<p>1", f"step {step}"
        check_store(copy)
        assert verify(open_library(copy), lambda *_: None).faults == []
        shutil.rmtree(copy)


def test_two_collections_at_once_are_as_one(data, finished, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    command = [sys.executable, PROGRAM, str(copy), "collect", "0"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, complaint = process.communicate(timeout=60)
        assert process.returncode == 0, complaint
    assert files_of(str(copy)) == finished[1]
    check(str(copy))
