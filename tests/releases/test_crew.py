"""Work on all cores: every result comes, and a process that is killed is told as such."""

import math
import signal

import pytest

from assetserver.errors import PublishError
from assetserver.releases.crew import run_all


@pytest.mark.parametrize("is_little", [True, False])
def test_each_task_gives_its_result(is_little):
    assert sorted(run_all(math.isqrt, range(20), is_little=is_little)) == sorted(map(math.isqrt, range(20)))
    assert list(run_all(math.isqrt, [], is_little=is_little)) == []


@pytest.mark.parametrize("is_little", [True, False])
def test_an_error_of_the_work_comes_through(is_little):
    with pytest.raises(ValueError, match="nonnegative"):
        list(run_all(math.isqrt, [1, -1], is_little=is_little))


def test_a_killed_process_is_told():
    with pytest.raises(PublishError, match="killed"):
        list(run_all(signal.raise_signal, [signal.SIGKILL], is_little=False))
