"""What becomes of workers when their master runs the program anew."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading

import pytest

from assetserver.errors import ControlError
from assetserver.supervision.control import RELOAD, ask_master, find_masters, open_control

from .conftest import LIMIT_S, is_alive, pids, wait_for, wait_pids

DRAINS = """
def serve(channel):
    say("worker %d" % os.getpid())
    channel.send(READY)
    while word := channel.recv(1):
        if word == DRAIN:
            say("drains %d" % os.getpid())
            sys.exit(0)
"""


def waiting(path) -> str:
    """Workers that do not become ready while there is a file at ``path``."""
    return f"""
def serve(channel):
    while os.path.exists({str(path)!r}):
        time.sleep(0.01)
{DRAINS.split("serve(channel):")[1]}
"""


def test_new_workers_come_before_the_old_ones_drain_and_the_process_stays(master):
    program = master(DRAINS)
    old = wait_pids(program, 2)
    program.process.send_signal(signal.SIGHUP)
    new = wait_pids(program, 4)[2:]
    program.wait_log("reloaded: 2 workers serve")
    program.wait_log(r"drains \d+", times=2)
    lines = program.read_log()
    assert lines.index(f"worker {new[-1]}") < lines.index("drains")
    assert sorted(map(int, re.findall(r"drains (\d+)", lines))) == sorted(old)
    wait_for(lambda: not any(map(is_alive, old)), "the end of the old workers")
    assert all(map(is_alive, new))
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0
    assert not any(map(is_alive, new))


def test_old_workers_serve_until_the_last_new_one_is_ready(master, tmp_path):
    program = master(waiting(tmp_path / "wait"))
    old = wait_pids(program, 2)
    (tmp_path / "wait").touch()
    program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(children(program)) == 4, "the start of new workers")
    assert all(map(is_alive, old))
    assert "drains" not in program.read_log()
    (tmp_path / "wait").unlink()
    program.wait_log(r"drains \d+", times=2)


BREAKS = """
def serve(channel):
    if os.path.exists({path!r}):
        sys.exit(78)
""" + DRAINS.split("serve(channel):")[1]


def test_a_new_worker_that_cannot_start_leaves_the_old_ones_in_place(master, tmp_path):
    broken = tmp_path / "broken"
    program = master(BREAKS.format(path=str(broken)))
    old = wait_pids(program, 2)
    broken.touch()
    program.process.send_signal(signal.SIGHUP)
    program.wait_log(r"error: not reloaded, what ran before goes on: worker \d+ ended with exit code 78 before it could serve")
    assert all(map(is_alive, old))
    assert "drains" not in program.read_log()
    broken.unlink()
    os.kill(old[0], signal.SIGKILL)  # who falls is still replaced
    third = wait_pids(program, 3)[2]
    program.process.send_signal(signal.SIGHUP)
    program.wait_log("reloaded: 2 workers serve")
    wait_for(lambda: not is_alive(old[1]) and not is_alive(third), "the end of the old workers")


def test_settings_that_are_refused_change_nothing(master, tmp_path):
    check = [
        sys.executable,
        "-c",
        f"import os, sys; sys.exit(os.path.exists({str(tmp_path / 'bad')!r}) and 'error: a.toml:3: no')",
    ]
    program = master(DRAINS, more=f"check={check!r}")
    old = wait_pids(program, 2)
    (tmp_path / "bad").touch()
    program.process.send_signal(signal.SIGHUP)
    program.wait_log("error: not reloaded, what ran before goes on: a.toml:3: no\n")
    assert sorted(children(program)) == sorted(old)
    (tmp_path / "bad").unlink()
    program.process.send_signal(signal.SIGHUP)
    program.wait_log("reloaded: 2 workers serve")


def test_a_check_that_cannot_be_run_is_told(master):
    program = master(DRAINS, more="check=['/nowhere/python']")
    wait_pids(program, 2)
    program.process.send_signal(signal.SIGHUP)
    program.wait_log("goes on: the settings cannot be checked: no such file or directory")


def test_signals_during_a_reload_are_remembered(master, tmp_path):
    program = master(waiting(tmp_path / "wait"))
    wait_pids(program, 2)
    (tmp_path / "wait").touch()
    program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(children(program)) > 2, "the start of new workers")
    program.process.send_signal(signal.SIGHUP)
    (tmp_path / "wait").unlink()
    program.wait_log("reloaded: 2 workers serve", times=2)


def test_a_stop_during_a_reload_ends_old_and_new(master, tmp_path):
    program = master(waiting(tmp_path / "wait"))
    wait_pids(program, 2)
    (tmp_path / "wait").touch()
    program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(children(program)) == 4, "the start of new workers")
    all_of_them = children(program)
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0
    assert not any(map(is_alive, all_of_them))


def test_who_does_not_drain_in_time_is_killed_though_its_master_was_another_one(master):
    program = master(
        "crew.MARGIN_S = 0.2\n" + DRAINS.replace("sys.exit(0)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"), grace_s=0.1
    )
    old = wait_pids(program, 2)
    program.process.send_signal(signal.SIGHUP)
    program.wait_log(r"worker \d+ does not end; it is killed", times=2)
    wait_for(lambda: not any(map(is_alive, old)), "the end of the old workers")
    assert len(children(program)) == 2


def test_a_worker_whose_loop_stands_still_is_replaced_and_tells_where_it_stood(master, tmp_path):
    program = master(
        """
def stand_still():
    time.sleep(1000)

def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    if is_first():
        stand_still()
    while True:
        beat(channel)
        time.sleep(0.1)

def is_first():
    try:
        os.mkdir(PATH)
    except FileExistsError:
        return False
    return True
""".replace("PATH", repr(str(tmp_path / "first"))),
        more="stuck_s=2",
    )
    workers = wait_pids(program, 2)
    program.wait_log(r"worker \d+ is stuck: nothing was heard of it for 2 s; it is ended")
    third = wait_pids(program, 3)[2]
    stuck = int(re.search(r"worker (\d+) was ended by SIGABRT; another one starts", program.read_log())[1])
    assert stuck in workers
    assert "in stand_still" in program.read_log()
    assert sorted(children(program)) == sorted({*workers, third} - {stuck})


# Commands


def test_a_command_hears_what_came_of_it(master, tmp_path):
    folder = tmp_path / ("x" * 120) / "run"  # longer than an address of a socket may be
    code = f"""
from assetserver.supervision.control import open_control
before = take_handover(os.environ)
take_handover = lambda _: before
control = before.control if before else open_control({str(folder)!r})
"""
    program = master(code + DRAINS, more="control=control")
    wait_pids(program, 2)
    pid = program.process.pid
    assert find_masters(str(folder)) == [pid]
    assert (folder.stat().st_mode & 0o777, next(folder.iterdir()).stat().st_mode & 0o777) == (0o700, 0o600)
    for _ in range(2):
        outcome = ask_master(str(folder), pid, RELOAD, LIMIT_S)
        assert (outcome.ok, outcome.message) == (True, "reloaded: 2 workers serve")
    outcome = ask_master(str(folder), pid, "dance", LIMIT_S)
    assert (outcome.ok, outcome.message) == (False, "this version knows no such command")
    assert len(pids(program)) == 6
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0
    assert list(folder.iterdir()) == []


def test_what_a_dead_master_left_is_removed_and_a_living_one_is_not(tmp_path):
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as dead:
        for number, one in ((1, living), (2, dead)):
            one.bind(str(tmp_path / f"master-{number}.sock"))
        living.listen()
        control = open_control(str(tmp_path))
        assert find_masters(str(tmp_path)) == [1, os.getpid()]
        assert not (tmp_path / "master-2.sock").exists()
        control.close()
        assert find_masters(str(tmp_path)) == [1]


@pytest.mark.parametrize(
    ("said", "message"),
    [(b"", "ended before it said"), (b"nonsense\n", "ended before it said"), (None, "did not say within 0.2 s")],
)
def test_a_master_that_says_nothing_sensible_is_told_of(tmp_path, said, message):
    control = open_control(str(tmp_path))

    def answer() -> None:
        client, _ = control.socket.accept()
        with client:
            assert json.loads(client.recv(100)) == {"command": "reload"}
            if said is None:
                client.recv(100)
            else:
                client.sendall(said)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with pytest.raises(ControlError, match=message):
            ask_master(str(tmp_path), os.getpid(), RELOAD, 0.2 if said is None else LIMIT_S)
    finally:
        thread.join(LIMIT_S)
        control.close()


def test_a_master_that_is_gone_is_told_of(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "master-7.sock"))
    with pytest.raises(ControlError, match="process 7 cannot be asked: connection refused"):
        ask_master(str(tmp_path), 7, RELOAD, LIMIT_S)
    with pytest.raises(ControlError, match="process 7 cannot be asked: no such file"):
        ask_master(str(tmp_path / "nowhere"), 7, RELOAD, LIMIT_S)


def children(program) -> list[int]:
    with open(f"/proc/{program.process.pid}/task/{program.process.pid}/children") as file:
        return [int(one) for one in file.read().split() if is_alive(int(one))]
