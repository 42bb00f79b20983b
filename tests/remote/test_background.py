"""Publishing in a child process: its progress and its outcome, and what remains of it if it is killed."""

import errno
import os
import signal
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from assetserver.data import open_empty
from assetserver.errors import BusyError
from assetserver.releases.publish import PublishOptions
from assetserver.remote.background import LIMIT_TASKS, Background, Failed, Job
from assetserver.remote.finishing import Missing, Ready
from assetserver.remote.submission import Submission, WantedFile, encode_submission
from assetserver.storage.blobs import Digest

from .conftest import wait_until

CONTENT = b"".join(b"const line%d = %d;\n" % (n, n * n) for n in range(2000))
DIGEST = Digest(sha256(CONTENT).hexdigest())


class Noted(set):
    """Children; of each that comes, ``on_child`` hears."""

    def __init__(self, on_child) -> None:
        super().__init__()
        self._on_child = on_child

    def add(self, child) -> None:
        super().add(child)
        self._on_child(child)


@pytest.fixture
def background():
    found = Background()
    yield found
    found.close()


def job_in(tmp_path: Path, content: bytes | None = None) -> Job:
    submission = encode_submission(Submission({"app.js": WantedFile(DIGEST, len(CONTENT))}))
    library = open_empty(str(tmp_path / "data"))
    return Job(library, "default", PublishOptions(), submission if content is None else content)


def test_a_child_tells_what_is_missing_and_then_makes_the_release(tmp_path, background):
    job = job_in(tmp_path)
    assert background.start(job).done.result(60) == Missing((DIGEST,))
    job.library.blobs.put(DIGEST, [CONTENT])
    task = background.start(job)
    ready = task.done.result(60)
    assert isinstance(ready, Ready)
    assert ready.compressed == 1
    assert task.work.what == "compressing"
    assert [one.id for one in job.library.site("default").read().releases] == [ready.id]


@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b'{"files": {}}', 422)])
def test_what_is_refused_comes_with_its_status(tmp_path, background, content, status):
    outcome = background.start(job_in(tmp_path, content)).done.result(60)
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.retryable) == (status, False)


def test_an_error_of_the_disk_comes_without_paths(tmp_path, background):
    (tmp_path / "data").write_bytes(b"a file is in the way")
    outcome = background.start(job_in(tmp_path)).done.result(60)
    assert (outcome.status, str(tmp_path) in outcome.detail) == (500, False)


def test_the_same_job_is_done_once_at_a_time(tmp_path, background, monkeypatch):
    job, gate, watch = job_in(tmp_path), threading.Event(), Background._watch
    monkeypatch.setattr(Background, "_watch", lambda *of: gate.wait(60) and watch(*of))
    assert background.start(job) is background.start(job_in(tmp_path))
    first = background.start(job)
    gate.set()
    first.done.result(60)
    wait_until(lambda: background.start(job) is not first)


def test_a_child_that_is_killed_can_be_tried_again(tmp_path, background):
    background._children = Noted(lambda child: os.kill(child.pid, signal.SIGKILL))
    outcome = background.start(job_in(tmp_path)).done.result(60)
    assert (outcome.status, outcome.retryable) == (503, True)
    assert "was killed" in outcome.detail
    background._children = set()
    assert isinstance(background.start(job_in(tmp_path)).done.result(60), Missing)


def test_beyond_a_few_publishes_others_are_asked_to_come_again(tmp_path, background, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(Background, "_watch", lambda *_: gate.wait(60) and Missing(()))
    tasks = [background.start(job_in(tmp_path, b"%d" % count)) for count in range(LIMIT_TASKS)]
    with pytest.raises(BusyError):
        background.start(job_in(tmp_path, b"one more"))
    assert background.start(job_in(tmp_path, b"0")) is tasks[0]
    gate.set()
    for task in tasks:
        assert task.done.result(60) == Missing(())
    wait_until(lambda: not background._tasks)
    assert background.start(job_in(tmp_path, b"one more")).done.result(60) == Missing(())


def test_a_child_that_cannot_be_started_can_be_tried_again(tmp_path, background, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(Background, "_watch", refuse)
    outcome = background.start(job_in(tmp_path)).done.result(60)
    assert (outcome.status, outcome.retryable) == (503, True)


def test_closing_kills_what_goes_on_and_lets_nobody_wait(tmp_path):
    background, children = Background(), []
    background._children = Noted(lambda child: children.append(child.pid))
    tasks = [background.start(job_in(tmp_path, b'{"files": {%s}}' % (b" " * count))) for count in range(4)]
    wait_until(lambda: children)
    background.close()
    for task in tasks:
        assert task.done.done() or task.done.cancelled()
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
