"""``kill -9`` between durable steps of a backup: it is the one before, or says that there is none; it can be continued."""

import shutil
from pathlib import Path

import pytest

from assetserver.backup import back_up
from assetserver.errors import BackupError
from assetserver.restoring import restore
from assetserver.settings import load_settings

from .killed import publish_and_activate
from .test_publish_killed import V1, V2, check_store, fetch, write

EVERY = 11
"""Steps are alike: each of so many is tried, beginning with another one in each run."""


@pytest.fixture(scope="module")
def run(forked):
    return forked("killed_backup")


def settings_of(data: Path):
    return load_settings(overrides={"data.path": str(data), "sites": [{"name": "main"}]})


def read_back(copy: Path, to: Path) -> dict[str, bytes] | None:
    """Return the site that a backup holds, None if it says that it is not complete."""
    try:
        restore(settings_of(to), str(copy))
    except BackupError as error:
        if "is not complete" in str(error) or "holds no backup" in str(error):
            return None
        raise
    check_store(str(to))
    return fetch(str(to))


def test_killed_anywhere_a_backup_is_whole_or_tells_that_it_is_not(run, tmp_path):
    data = tmp_path / "data"
    publish_and_activate(str(data), write(tmp_path / "v1", V1))
    steps = int(run(data, tmp_path / "whole", 0).stdout)
    shutil.copytree(tmp_path / "whole", tmp_path / "first")
    found = []
    for step in range(1, steps + 1, EVERY):
        copy = tmp_path / f"new-{step}"
        assert run(data, copy, step).returncode == 137
        found.append(read_back(copy, tmp_path / f"again-{step}"))
    assert found[0] is None
    assert all(one in (None, V1) for one in found)
    publish_and_activate(str(data), write(tmp_path / "v2", V2))
    steps = int(run(data, tmp_path / "whole", 0).stdout)
    assert read_back(tmp_path / "whole", tmp_path / "whole-again") == V2
    found = []
    for step in (*range(2, steps, EVERY), steps):
        copy = tmp_path / f"more-{step}"
        shutil.copytree(tmp_path / "first", copy)
        assert run(data, copy, step).returncode == 137
        found.append(read_back(copy, tmp_path / f"more-again-{step}"))
        assert found[-1] in (V1, V2), f"step {step}"
    assert found[0] == V1
    assert found[-1] == V2
    back_up(settings_of(data), str(copy), verify=True)
    assert read_back(copy, tmp_path / "last") == V2
