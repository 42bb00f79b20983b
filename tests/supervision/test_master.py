"""Several workers behind one socket: who starts, who dies, who ends, and that nobody is left."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from .conftest import is_alive, pids, wait_for, wait_pids

LIMIT_S = 60.0
PIDFD_GETFD = 438

REDIRECT = "import os, sys; os.dup2(int(sys.argv[1]), 1); os.execv(sys.argv[2], sys.argv[2:])"


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if is_alive(int(one))]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_signal_ends_the_workers_and_then_the_master(master, number, code):
    program = master(count=3)
    workers = wait_pids(program, 3)
    assert sorted(children(program.process.pid)) == sorted(workers)
    program.process.send_signal(number)
    assert program.process.wait(LIMIT_S) == code
    assert not any(map(is_alive, workers))


def test_ctrl_c_in_a_terminal_comes_to_all_and_still_lets_the_master_decide(master):
    program = master("""
def serve(channel):
    signal.signal(signal.SIGTERM, lambda *_: (say("asked"), sys.exit(0)))
    channel.send(READY)
    say("worker %d" % os.getpid())
    while True:
        time.sleep(1)
""")
    wait_pids(program, 2)
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.process.wait(LIMIT_S) == 0
    assert program.read_log().count("asked") == 2
    assert program.read_log().endswith("stopped\n")
    assert "Traceback" not in program.read_log()


def test_who_does_jobs_comes_when_somebody_serves_with_what_was_loaded_then(master):
    program = master(
        """
loaded = []
def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    say("served with %d" % len(loaded))
    until_master_is_gone(channel)
def work(channel):
    channel.send(READY)
    say("worked with %d" % len(loaded))
    until_master_is_gone(channel)
""",
        count=3,
        more="jobs=1, work=work, load_later=lambda: (say('loading'), loaded.append(1))",
    )
    first = wait_pids(program, 3)[0]
    wait_for(lambda: "worked with 1" in program.read_log(), "the start of all")
    program.wait_log("served with 0", times=3)
    assert program.read_log().count("loading") == 1
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "served with 1" in program.read_log(), "a worker in its place")


def test_who_is_told_to_end_while_it_ends_does_not_go_on_as_a_master(master, tmp_path):
    program = master(
        f"once = {str(tmp_path / 'once')!r}"
        """
class Late:
    def flush(self):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    if not os.path.exists(once):
        open(once, "w").close()
        sys.stdout = Late()
        sys.exit(7)
    until_master_is_gone(channel)
"""
    )
    workers = wait_pids(program, 3)
    program.wait_log("ended with exit code")
    assert "Traceback" not in program.read_log()
    assert is_alive(program.process.pid)
    wait_for(lambda: sum(map(is_alive, workers)) == 2, "a worker in the place of the one that ended")


def test_what_cannot_be_loaded_later_ends_nobody(master):
    program = master(count=2, more="load_later=lambda: 1 / 0")
    workers = wait_pids(program, 2)
    program.wait_log("cannot load what later requests need: division by zero")
    assert all(map(is_alive, workers))


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(master):
    program = master()
    first, second = wait_pids(program, 2)
    os.kill(first, signal.SIGKILL)
    third = wait_pids(program, 3)[2]
    assert sorted(children(program.process.pid)) == sorted([second, third])
    assert re.search(rf"worker {first} was ended by SIGKILL; another one starts", program.read_log())


def test_who_dies_again_and_again_is_replaced_ever_more_slowly(master):
    program = master(
        """
crew.LONGEST_PAUSE_S = 0.4
def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    sys.exit(7)
""",
        count=1,
    )
    wait_pids(program, 6)
    pauses = re.findall(r"ended with exit code 7; another one starts in ([0-9.]+) s", program.read_log())
    assert [float(one) for one in pauses[:5]] == [0.1, 0.2, 0.4, 0.4, 0.4]
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0


DIES = """
def work(channel):
    say("job worker %d" % os.getpid())
    sys.exit(3)
"""


def test_a_job_worker_that_cannot_start_is_tried_again_and_serving_goes_on(master_with_jobs):
    program = master_with_jobs(DIES)
    wait_pids(program, 1)
    program.wait_log(r"job worker \d+ ended with exit code 3; another one starts", times=3)
    assert program.process.poll() is None
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0
    assert program.read_log().count("\nworker ") + program.read_log().startswith("worker ") == 1


def test_a_job_worker_that_dies_before_anybody_serves_ends_nothing(master_with_jobs):
    slow = """
def serve(channel):
    time.sleep(0.5)
    channel.send(READY)
    say("serves")
    until_master_is_gone(channel)
"""
    program = master_with_jobs(DIES + slow)
    program.wait_log("serves")
    program.wait_log(r"job worker \d+ ended with exit code 3")
    assert program.process.poll() is None


def test_a_server_that_cannot_serve_ends_though_jobs_could_be_done(master_with_jobs):
    program = master_with_jobs("""
def work(channel):
    channel.send(READY)
    say("job worker %d" % os.getpid())
    until_master_is_gone(channel)

def serve(channel):
    time.sleep(0.3)
    sys.exit(5)
""")
    assert program.process.wait(LIMIT_S) == 5
    assert "before it could serve, and no other one does" in program.read_log()


def test_a_long_life_forgives_short_ones(master):
    program = master(
        """
master.STEADY_S = 0.0
def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    sys.exit(7)
""",
        count=1,
    )
    wait_pids(program, 8)
    assert "starts in" not in program.read_log()


@pytest.mark.parametrize(
    ("end", "told", "code"),
    [("sys.exit(3)", "ended with exit code 3", 3), ("sys.exit('no')", "ended with exit code 1", 1),
     ("raise RuntimeError('no')", "ended with exit code 1", 1), ("os.kill(os.getpid(), 9)", "was ended by SIGKILL", 1)],
)  # fmt: skip
def test_a_server_none_of_whose_workers_can_start_ends(master, end, told, code):
    program = master(f"def serve(channel):\n    {end}\n")
    assert program.process.wait(LIMIT_S) == code
    assert re.search(rf"error: worker \d+ {told} before it could serve, and no other one does", program.read_log())
    assert ("RuntimeError: no" in program.read_log()) == ("RuntimeError" in end)


def test_a_successor_that_cannot_start_does_not_end_those_that_serve(master, tmp_path):
    program = master(f"""
crew.LONGEST_PAUSE_S = 0.2
def serve(channel):
    if os.path.exists({str(tmp_path / "broken")!r}):
        sys.exit(78)
    channel.send(READY)
    say("worker %d" % os.getpid())
    until_master_is_gone(channel)
""")
    first, second = wait_pids(program, 2)
    (tmp_path / "broken").touch()
    os.kill(first, signal.SIGKILL)
    program.wait_log("ended with exit code 78; another one starts in 0.2 s", times=3)
    assert is_alive(second)
    (tmp_path / "broken").unlink()
    wait_pids(program, 3)


STUBBORN = """
def serve(channel):
    signal.signal(signal.SIGTERM, lambda *_: say("asked"))
    channel.send(READY)
    say("worker %d" % os.getpid())
    while True:
        time.sleep(1)
"""


def test_who_does_not_end_in_time_is_killed(master):
    program = master(STUBBORN + "crew.MARGIN_S = 0.2\n", grace_s=0.1)
    stubborn = wait_pids(program, 2)
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0
    assert "does not end; it is killed" in program.read_log()
    assert not any(map(is_alive, stubborn))


def test_a_second_signal_kills_at_once(master):
    program = master(STUBBORN, grace_s=1000)
    stubborn = wait_pids(program, 2)
    program.process.send_signal(signal.SIGINT)
    program.wait_log("asked", times=2)
    assert all(map(is_alive, stubborn))
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(LIMIT_S) == 0
    assert not any(map(is_alive, stubborn))


def test_a_signal_that_comes_while_a_worker_is_forked_is_not_lost(master):
    for _ in range(5):
        program = master(count=8)
        wait_pids(program, 1)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(LIMIT_S) == 0
        assert not any(map(is_alive, pids(program)))


def test_workers_end_with_their_master(master):
    program = master()
    workers = wait_pids(program, 2)
    program.process.kill()
    program.process.wait(LIMIT_S)
    wait_for(lambda: not any(map(is_alive, workers)), "the end of the workers")


def test_a_worker_has_nothing_of_the_master_open(master):
    program = master(
        """
def serve(channel):
    channel.send(READY)
    say("worker %d" % os.getpid())
    say("open %d" % (len(os.listdir("/proc/self/fd")) - 1))
    until_master_is_gone(channel)
""",
        count=4,
    )
    wait_pids(program, 4)
    program.wait_log("open", times=4)
    assert set(re.findall(r"open (\d+)", program.read_log())) == {"4"}  # three streams and the channel


# The real server


@pytest.fixture
def site(tmp_path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "file.txt").write_text("hello world")
    (folder / "big.bin").write_bytes(bytes(20 << 20))
    return folder


@pytest.fixture
def server(start_program, site):
    """``server(*arguments)`` starts it and returns the program, its port and its workers."""

    def start(*arguments: str, count: int = 2):
        command = [sys.executable, "-m", "assetserver", "serve", site, "--port", "0", "--workers", count, *arguments]
        program = start_program("assetserver", command, cwd=site.parent)
        port = int(program.wait_log(r"http://127\.0\.0\.1:(\d+)")[1])
        seen: set[bytes] = set()

        def all_answer() -> bool:
            seen.add(re.search(rb"x-request-id: (\w+)-", ask(port))[1])
            return len(seen) == count

        wait_for(all_answer, "an answer of each worker")
        return program, port, children(program.process.pid)

    return start


def ask(port: int, target: str = "/file.txt", fields: str = "") -> bytes:
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as made:
        made.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n".encode())
        received = b""
        while piece := made.recv(1 << 16):
            received += piece
    return received


def test_a_download_is_finished_before_its_worker_ends(server):
    program, port, workers = server("--access-log", "off")
    with socket.create_connection(("127.0.0.1", port), LIMIT_S) as made:
        made.sendall(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        received = len(made.recv(1000))
        program.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            wait_for(lambda: len([one for one in workers if is_alive(one)]) == 1, "the end of the idle worker")
        assert program.process.poll() is None
        while piece := made.recv(1 << 20):
            received += len(piece)
    assert received > 20 << 20
    assert program.process.wait(LIMIT_S) == 0
    assert not any(map(is_alive, workers))


def test_requests_survive_a_worker_that_is_killed_but_for_its_own(server):
    program, port, workers = server("--access-log", "off")
    os.kill(workers[0], signal.SIGKILL)
    for _ in range(20):
        assert ask(port).endswith(b"hello world")
    wait_for(lambda: len(children(program.process.pid)) == 2, "the successor")
    assert workers[1] in children(program.process.pid)


def test_no_worker_outlives_a_killed_master(server):
    program, port, workers = server("--access-log", "off")
    program.process.kill()
    program.process.wait(LIMIT_S)
    wait_for(lambda: not any(map(is_alive, workers)), "the end of the workers")
    wait_for(lambda: is_refused(port), "the end of the last thread that holds the socket")


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), LIMIT_S).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the queue of a socket that is being closed
        return False
    return False


def test_folder_that_is_gone_when_a_worker_starts_is_told(server, site):
    program, _, workers = server("--access-log", "off")
    site.rename(site.with_name("moved"))
    for one in workers:
        os.kill(one, signal.SIGKILL)
    assert program.process.wait(LIMIT_S) == 78
    assert "there is no folder" in program.read_log()
    assert "no other one does; nothing is served" in program.read_log()


def test_identifiers_of_requests_are_unique_among_workers(server):
    _, port, _ = server("--access-log", "off")
    seen: list[bytes] = []

    def both_answered() -> bool:
        seen.extend(re.search(rb"x-request-id: (\S+)", ask(port))[1] for _ in range(60))
        return len({one.partition(b"-")[0] for one in seen}) == 2

    wait_for(both_answered, "an answer of each worker")
    assert len(set(seen)) == len(seen)


def test_accepted_connections_have_no_nagle(server):
    """Else a keep-alive answer in two pieces waits 44 ms for a delayed acknowledgement."""
    _, port, workers = server("--access-log", "off")
    made = [socket.create_connection(("127.0.0.1", port), LIMIT_S) for _ in range(10)]
    names = {one.getsockname() for one in made}
    for one in made:
        one.sendall(b"GET /file.txt HTTP/1.1\r\nHost: a\r\n\r\n")
        one.recv(1000)
    theirs = [one for worker in workers for one in sockets_of(worker)]
    no_delay = [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in theirs if peer(one) in names]
    for one in made + theirs:
        one.close()
    assert no_delay == [1] * 10


def sockets_of(pid: int) -> list[socket.socket]:
    """Return duplicates of a process's sockets."""
    found = []
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    process = os.pidfd_open(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:"):
                descriptor = syscall(PIDFD_GETFD, process, int(name), 0)
                if descriptor < 0:
                    pytest.skip(f"the kernel gives no descriptor of another process: {os.strerror(ctypes.get_errno())}")
                found.append(socket.socket(fileno=descriptor))
    os.close(process)
    return found


def peer(one: socket.socket) -> object:
    try:
        return one.getpeername()
    except OSError:
        return None


def test_log_lines_of_several_workers_do_not_run_into_each_other(start_program, site, tmp_path):
    """Also where a line is longer than a pipe takes at once, and its reader is slow."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "assetserver", "serve", str(site), "--port", "0", "--workers", "2", "--access-log", "json"]
    program = start_program("assetserver", [sys.executable, "-c", REDIRECT, writer, *command], pass_fds=(writer,))
    os.close(writer)
    port = int(program.wait_log(r"http://127\.0\.0\.1:(\d+)")[1])
    asked, workers = itertools.count(), set()

    def each_has_answered_some() -> bool:
        for number in itertools.islice(asked, 200):
            answer = ask(port, f"/file.txt?{number}", f"User-Agent: {'x' * 9000}\r\n")
            workers.add(re.search(rb"x-request-id: (\w+)-", answer)[1].decode())
        return len(workers) == 2

    wait_for(each_has_answered_some, "an answer of each worker")
    os.killpg(program.process.pid, signal.SIGTERM)
    written = bytearray()
    while piece := os.read(reader, 1000):
        written += piece
    os.close(reader)
    rows = [json.loads(line) for line in written.decode().splitlines()]
    assert sorted(int(row["query"]) for row in rows) == list(range(next(asked)))
    assert {row["request_id"].partition("-")[0] for row in rows} == workers
