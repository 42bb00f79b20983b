"""``kill -9`` between an activation and its purges: whoever works next orders them, and none is owed that was not activated."""

import shutil
from contextlib import closing

import msgspec
import pytest

from assetserver.data import open_records
from assetserver.purging.orders import PurgeOrder
from assetserver.releases.publish import publish_folder
from assetserver.releases.sites import add_release

from .killed import publish_and_activate
from .killed_purge import settings_of, settle
from .killed_upkeep import open_library
from .test_publish_killed import V1, V2, write

CHANGED = {"http://a.example/", "http://a.example/index.html", "http://a.example/app.css"}


@pytest.fixture(scope="module")
def run(forked):
    return forked("killed_purge")


def ordered(data: str) -> list[set[str]]:
    records = open_records(settings_of(data))
    if not records.are_there():
        return []
    with closing(records):
        jobs = records.jobs().list_jobs().jobs
    return [set(msgspec.json.decode(job.payload, type=PurgeOrder).urls) for job in jobs]


def test_killed_before_any_durable_step_what_was_activated_is_purged(run, tmp_path):
    data = str(tmp_path / "data")
    publish_and_activate(data, write(tmp_path / "v1", V1))
    library = open_library(data)
    release = publish_folder(library, write(tmp_path / "v2", V2), lambda *_: None).release
    library.site("main").change(lambda state: add_release(state, release, "", ""))
    shutil.copytree(data, tmp_path / "finished")
    finished = run(tmp_path / "finished", release, 0)
    assert finished.returncode == 0, finished.stderr
    assert ordered(str(tmp_path / "finished")) == [CHANGED]
    assert settle(settings_of(str(tmp_path / "finished"))) == 0
    owed = []
    for step in range(1, int(finished.stdout) + 1):
        copy = str(tmp_path / f"data-{step}")
        shutil.copytree(data, copy)
        assert run(copy, release, step).returncode == 137, f"step {step}"
        state = open_library(copy).site("main").read()
        assert state.active == release or not state.unpurged
        was_owed = bool(state.unpurged)
        settle(settings_of(copy))
        assert ordered(copy) == ([CHANGED] if state.active == release else []), f"step {step}"
        assert open_library(copy).site("main").read().unpurged == ()
        owed.append(was_owed)
    assert any(owed)
    assert not all(owed)
