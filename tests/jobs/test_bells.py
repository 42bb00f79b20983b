"""Bells: heard within one wait, by every worker, and silent once their worker is gone however it ended."""

import os
import signal
import stat
import threading

import pytest

from assetserver.jobs.bells import Bells

NEVER_S = 600.0
"""Longer than a test may take: one that nobody wakes fails."""


@pytest.fixture
def bells(tmp_path):
    return Bells(str(tmp_path / "workers"))


def test_everybody_hears_a_ring_and_the_one_before_the_wait(bells):
    hung = [bells.hang(name) for name in ("a", "b")]
    bells.ring_all()
    for bell in hung:
        bell.wait(NEVER_S)
    threading.Timer(0.05, bells.ring_all).start()
    for bell in hung:
        bell.wait(NEVER_S)
        bell.close()


def test_many_rings_are_one_and_block_nobody(bells):
    bell = bells.hang("a")
    for _ in range(100_000 // 16):
        for _ in range(16):
            bell.ring()
    bells.ring_all()
    bell.wait(NEVER_S)
    bell.close()


def test_bells_are_of_one_user_alone(bells, tmp_path):
    bell = bells.hang("a")
    folder = tmp_path / "workers"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o600
    bell.close()


def test_a_closed_bell_is_heard_by_nobody_and_rings_no_more(bells, tmp_path):
    bell = bells.hang("a")
    assert bells.is_heard("a")
    bell.close()
    bell.close()
    bell.ring()
    assert not bells.is_heard("a")
    assert os.listdir(tmp_path / "workers") == []


def test_who_was_killed_hears_nothing(bells, tmp_path):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        bells.hang("child")
        os.write(writer, b"!")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    assert bells.is_heard("child")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not bells.is_heard("child")
    assert os.listdir(tmp_path / "workers") == []
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_without_workers_nobody_is_rung(bells):
    bells.ring_all()
    assert not bells.is_heard("nobody")
