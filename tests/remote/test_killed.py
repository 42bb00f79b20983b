"""``kill -9`` of the server at every durable step, and of the client at every request: the site stays whole.

The second run sends only what is missing.
"""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from itertools import count
from pathlib import Path

import httpx
import pytest

from assetserver.data import open_empty
from assetserver.errors import RemoteError
from assetserver.releases.activation import activate_release, keep_release
from assetserver.releases.library import Library
from assetserver.releases.publish import publish_folder
from assetserver.remote.client import Remote
from assetserver.remote.sending import read_build, send_build
from assetserver.storage.files import FileBlobs

from .conftest import TOKEN, Counted, submission_of, wait_until, write

PROGRAM = str(Path(__file__).with_name("killed_client.py"))
CSS = {version: b"body { color: %s }\n" % version.encode() * 40 for version in ("one", "two")}
V1 = {"index.html": b"<p>one", "app.css": CSS["one"], "shared.txt": b"the same in both"}
V2 = {"index.html": b"<p>two", "app.css": CSS["two"], "shared.txt": b"the same in both"}
NEW = sorted(sha256(V2[name]).hexdigest() for name in ("index.html", "app.css"))


def library_in(data: Path) -> Library:
    return Library(str(data), FileBlobs(str(data / "blobs")))


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Path:
    """A folder with the first version live in ``data``, and both to publish."""
    root = tmp_path_factory.mktemp("killed")
    library = library_in(root / "data")
    release = publish_folder(library, str(write(root / "v1", V1)), lambda *_: None).release
    keep_release(library, library.site("default"), release)
    activate_release(library, library.site("default"), release)
    write(root / "v2", V2)
    return root


@pytest.fixture(scope="module")
def wanted(live) -> str:
    """The id of the second release."""
    return publish_folder(open_empty(str(live / "other")), str(live / "v2"), lambda *_: None).release


def publish(url: str, live: Path) -> tuple[str, list[str]]:
    """Publish the second version and make it live; return its id, and the digests of what was sent."""
    transport = Counted()
    with Remote(url, TOKEN, transport) as remote:
        build = read_build(open_empty(str(live / "nothing")), str(live / "v2"), remote.describe_site(""), lambda *_: None)
        sent = send_build(remote, build, "", submission_of(build), lambda *_: None)
        remote.activate(sent.published.id, "")
    return sent.published.id, transport.puts


def fetch(url: str) -> dict[str, bytes]:
    """Return what the server answers, by path; it must be complete."""
    with httpx.Client(verify=False, timeout=60) as client:  # noqa: S501 - no TLS here
        answers = {name: client.get(f"{url}/{name}") for name in V1}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {name: answer.content for name, answer in answers.items()}


def check_store(library: Library) -> set[str]:
    """Check that every blob and release that has its name is whole; return the digests of the blobs."""
    found = set()
    for blob in library.blobs.list_blobs():
        assert sha256(b"".join(library.blobs.read(blob.digest))).hexdigest() == blob.digest
        found.add(blob.digest)
    for release in library.manifests():
        for record in library.load_manifest(release).files.values():
            assert library.blobs.size_of(record.digest) == record.size
    return found


@pytest.mark.timeout(900)
def test_a_server_killed_before_any_durable_step_stays_whole_and_goes_on(farm, live, wanted, tmp_path, at_once):
    survived = False
    for step in count(1):
        data = tmp_path / f"data-{step}"
        shutil.copytree(live / "data", data)
        pid, url = farm.start(data, step)
        try:
            publish(url, live)
            survived = True
        except RemoteError:
            pass
        farm.stop(pid)
        library = library_in(data)
        here = check_store(library)
        is_switched = library.site("default").read().active == wanted
        pid, url = farm.start(data)
        assert fetch(url) == (V2 if is_switched else V1), f"step {step}"
        release, sent = publish(url, live)
        assert release == wanted
        assert sent == [digest for digest in NEW if digest not in here], f"step {step}"
        wait_until(lambda url=url: fetch(url) == V2)  # a worker looks twice a second
        check_store(library)
        farm.stop(pid)
        shutil.rmtree(data)
        if survived:
            break
    assert step > 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize("when", ["before", "middle", "after"])
def test_a_client_killed_at_any_request_leaves_the_site_whole_and_goes_on(farm, live, wanted, tmp_path, when):
    for last in count(1):
        data = tmp_path / f"data-{last}"
        shutil.copytree(live / "data", data)
        pid, url = farm.start(data)
        arguments = [url, live / "v2", live / "nothing", last, when]
        answer = subprocess.run(
            [sys.executable, PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
        )
        library = library_in(data)
        if answer.returncode == 0:
            assert answer.stdout == wanted
            wait_until(lambda url=url: fetch(url) == V2)
            break
        assert answer.returncode == 137, answer.stderr
        here = check_store(library)
        expected = V2 if library.site("default").read().active == wanted else V1
        wait_until(lambda url=url, expected=expected: fetch(url) == expected)
        release, sent = publish(url, live)
        assert release == wanted
        # The server may have ended a body of the killed client after we looked: then even less is missing.
        assert sent == [digest for digest in NEW if digest in sent and digest not in here], f"request {last}"
        assert {*NEW} <= check_store(library)
        wait_until(lambda url=url: fetch(url) == V2)
        farm.stop(pid)
        assert len(os.listdir(data / "blobs" / "tmp")) <= 1
        shutil.rmtree(data)
    assert last == 7  # site, submission, two blobs, submission, activation: the seventh never comes
