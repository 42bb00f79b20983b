"""``kill -9`` between every two durable steps of an activation: the site serves the release before or the one after, whole."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assetserver.releases.publish import publish_folder
from assetserver.releases.sites import add_release

from .killed import publish_and_activate
from .killed_upkeep import open_library, run_upkeep
from .test_collect_killed import PROGRAM, files_of
from .test_publish_killed import V1, V2, check_store, fetch, write


@pytest.fixture(scope="module")
def run(forked):
    return forked("killed_upkeep")


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> tuple[Path, str]:
    """A data folder with the first version live and the second kept, and the second's id."""
    root = tmp_path_factory.mktemp("crash")
    data = str(root / "data")
    publish_and_activate(data, write(root / "v1", V1))
    library = open_library(data)
    release = publish_folder(library, write(root / "v2", V2), lambda *_: None).release
    library.site("main").change(lambda state: add_release(state, release, "", ""))
    return root / "data", release


def test_killed_before_any_durable_step_the_switch_is_whole_or_not_made(kept, run, tmp_path):
    data, release = kept
    shutil.copytree(data, tmp_path / "finished")
    steps = int(run(tmp_path / "finished", release, 0).stdout)
    assert fetch(str(tmp_path / "finished")) == V2
    stay = files_of(str(tmp_path / "finished"))
    assert steps >= 3
    switched = []
    for step in range(1, steps + 1):
        copy = str(tmp_path / f"data-{step}")
        shutil.copytree(data, copy)
        assert run(copy, release, step).returncode == 137, f"step {step}"
        switched.append(open_library(copy).site("main").read().active == release)
        assert fetch(copy) == (V2 if switched[-1] else V1), f"step {step}"
        check_store(copy)
        run_upkeep(copy, release)
        assert fetch(copy) == V2, f"step {step}"
        assert {name for name in files_of(copy) if "/.new-" not in name} >= stay
    # Only the last step, the sync of the folder that holds the state, comes after the switch.
    assert switched == [False] * (steps - 1) + [True]


def test_of_two_promotions_at_once_one_is_last_and_whole(kept, tmp_path):
    data, second = kept
    for number in range(5):
        copy = tmp_path / f"data-{number}"
        shutil.copytree(data, copy)
        site = open_library(str(copy)).site("main")
        first = site.read().active
        commands = [[sys.executable, PROGRAM, str(copy), release, "0"] for release in (first, second)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
        for process in both:
            _, complaint = process.communicate(timeout=60)
            assert process.returncode == 0, complaint
        state = site.read()
        assert fetch(str(copy)) == (V2 if state.active == second else V1)
        assert state.history[0] == state.active
        assert sorted(state.history) == sorted({first, second})
