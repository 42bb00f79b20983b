"""A child that crashes, hangs, grows, lies or looks around costs one job, and nothing stays behind of it."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import hostile
import pytest
from PIL import Image

from assetserver.errors import ChildFailedError, PictureRefusedError
from assetserver.images.admission import Limits, PixelGate
from assetserver.images.plan import Plan
from assetserver.images.studio import Studio
from assetserver.images.transform import Transform

MIB = 1 << 20
PTRACE_SEIZE, PTRACE_DETACH, PTRACE_O_TRACEEXIT, WAIT_FOR_ALL = 0x4206, 17, 0x40, 0x40000000
PATIENT = Limits(cpu_s=1, wall_s=100, memory_bytes=200 * MIB, file_bytes=4 * MIB)
HASTY = Limits(wall_s=3)
PARENT = """
import sys
from assetserver.images.plan import Plan
from assetserver.images.studio import Studio
from assetserver.images.transform import Transform

sys.path.insert(0, sys.argv[1])
studio = Studio(work="hostile:misbehave")
print("ready", flush=True)
studio.make(sys.argv[2], Plan(transform=Transform(quality=int(sys.argv[3]))), sys.argv[4])
"""


def plan_for(deed) -> Plan:
    return Plan(transform=Transform(quality=hostile.DEEDS.index(deed)))


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.new("RGB", (64, 48), "teal").save(path)
    return path


@pytest.fixture(scope="module")
def hostile_studio():
    with Studio(PATIENT, work="hostile:misbehave") as one:
        yield one


@pytest.fixture(scope="module")
def hasty_studio():
    with Studio(HASTY, work="hostile:misbehave") as one:
        yield one


def list_children(pid: int) -> set[int]:
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.add(int(entry))
    return found


def wait_until(is_so, limit_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not come to that"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("deed", "reason", "number"),
    [
        (hostile.crash, "was ended by SIGSEGV", signal.SIGSEGV),
        (hostile.die, "was ended by SIGKILL", signal.SIGKILL),
        (hostile.spin, "took more than 1 s of processor time", signal.SIGXCPU),
        (hostile.allocate, "ended with 1 and no answer", 0),
        (hostile.write, "ended with 1 and no answer", 0),
        (hostile.lie, "told 9-9.jpg other than it is", 0),
        (hostile.escape, "and no answer", 0),
        (hostile.hide, "left other files than it told", 0),
    ],
)
def test_one_job_fails_with_its_reason_and_the_next_runs(hostile_studio, make, picture, deed, reason, number):
    with pytest.raises(ChildFailedError, match=reason) as caught:
        make(picture, plan_for(deed), by=hostile_studio)
    assert (caught.value.signal, caught.value.retryable) == (number, True)
    with pytest.raises(PictureRefusedError):
        make(picture, plan_for(hostile.explore), by=hostile_studio)


@pytest.mark.parametrize(("deed", "number"), [(hostile.hang, signal.SIGKILL), (hostile.talk, signal.SIGALRM)])
def test_a_child_that_hangs_or_never_stops_talking_runs_out_of_time(hasty_studio, make, picture, deed, number):
    with pytest.raises(ChildFailedError, match="took more than 3 s") as caught:
        make(picture, plan_for(deed), by=hasty_studio)
    assert caught.value.signal == number
    with pytest.raises(PictureRefusedError):
        make(picture, plan_for(hostile.explore), by=hasty_studio)


def test_a_child_can_reach_nothing(hostile_studio, make, picture, missing):
    with pytest.raises(PictureRefusedError) as caught:
        make(picture, plan_for(hostile.explore), by=hostile_studio)
    if not hostile_studio.children.protections.landlock:
        missing("Landlock (Linux 5.13)")
    assert caught.value.reason == "nothing"
    assert not Path("/tmp/assetserver-escaped").exists()


def test_the_children_of_a_killed_process_end(picture, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    deed = hostile.DEEDS.index(hostile.hang)
    command = [sys.executable, "-c", PARENT, Path(__file__).parent, picture, str(deed), folder]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        parent.stdout.readline()
        wait_until(lambda: any(map(list_children, list_children(parent.pid))))
        (server,) = list_children(parent.pid)
        family = {server, *list_children(server)}
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_until(lambda: not any(is_running(one) for one in family))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_killed_fork_server_costs_what_ran_and_is_replaced(make, picture):
    with Studio(PATIENT, work="hostile:misbehave") as studio:
        failed = []

        def hang() -> None:
            try:
                make(picture, plan_for(hostile.hang), by=studio)
            except ChildFailedError as error:
                failed.append(error.reason)

        thread = threading.Thread(target=hang)
        before = list_children(os.getpid())
        thread.start()
        wait_until(lambda: any(map(list_children, list_children(os.getpid()) - before)))
        server = next(one for one in list_children(os.getpid()) - before if list_children(one))
        children = list_children(server)
        os.kill(server, signal.SIGKILL)
        thread.join(60)
        assert failed == ["the process that starts children ended meanwhile, or could not take the job"]
        wait_until(lambda: not any(map(is_running, children)))
        with pytest.raises(PictureRefusedError):
            make(picture, plan_for(hostile.explore), by=studio)
    assert server not in list_children(os.getpid())
    assert list_children(os.getpid()) <= before | {server}


def list_kept(pid: int) -> list[str]:
    """Return the descriptors of a process once they stay the same: those of a child go a moment after its end is told."""
    seen: list[list[str]] = []
    for _ in range(100):
        seen.append(os.listdir(f"/proc/{pid}/fd"))
        if seen[-4:] == [seen[-1]] * 4:
            return seen[-1]
        time.sleep(0.1)
    raise AssertionError(f"process {pid} is not at rest: {seen}")


def test_children_have_a_session_without_a_terminal_and_it_comes_after_others(make, studio, picture):
    make(picture, by=studio)
    server = studio.children._server.pid
    assert os.getsid(server) == server
    shared = Path(f"/proc/{server}/autogroup")
    if shared.exists():  # where the kernel shares cores between sessions
        assert shared.read_text().endswith(" nice 19\n")


def test_where_no_process_can_be_started_an_attempt_fails_and_the_fork_server_stays(make, picture):
    with Studio(PATIENT, work="crowded:refuse") as studio:
        with pytest.raises(PictureRefusedError):
            make(picture, by=studio)
        server = studio.children._server
        files = list_kept(server.pid)
        server.send_signal(signal.SIGUSR1)
        for _ in range(3):
            with pytest.raises(ChildFailedError, match="no child process can be started: Resource temporarily unavailable"):
                make(picture, by=studio)
        assert list_kept(server.pid) == files
        server.send_signal(signal.SIGUSR2)
        with pytest.raises(PictureRefusedError):
            make(picture, by=studio)
        assert studio.children._server is server


def test_where_no_file_can_be_opened_an_attempt_fails_and_the_fork_server_stays(make, picture):
    with Studio(PATIENT, work="hostile:misbehave") as studio:
        with pytest.raises(PictureRefusedError):
            make(picture, plan_for(hostile.explore), by=studio)
        server = studio.children._server
        most = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        files = list_kept(server.pid)
        reasons = []
        for free in range(4):  # for what comes with a job, and for the process
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (len(files) + free, most[1]))
            with pytest.raises(ChildFailedError) as caught:
                make(picture, plan_for(hostile.explore), by=studio)
            reasons.append(caught.value.reason)
        assert reasons[0] == "the process that starts children ended meanwhile, or could not take the job"
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, most)
        with pytest.raises(PictureRefusedError):
            make(picture, plan_for(hostile.explore), by=studio)
        assert (studio.children._server, list_kept(server.pid)) == (server, files)


def test_a_killed_child_that_takes_its_time_keeps_the_fork_server_from_nothing(make, picture, missing):
    """A debugger holds it in its exit, as a disk that hangs would."""
    with Studio(PATIENT, work="hostile:misbehave") as studio:
        is_wanted = True
        failed: list[str] = []

        def hang() -> None:
            try:
                studio.make(str(picture), plan_for(hostile.hang), str(folder), is_wanted=lambda: is_wanted)
            except ChildFailedError as error:
                failed.append(error.reason)

        folder = picture.parent / "held"
        folder.mkdir()
        thread = threading.Thread(target=hang)
        thread.start()
        wait_until((folder / "half.jpg").exists)
        server = studio.children._server.pid
        (child,) = list_children(server)
        if not (debugger := Debugger(child)).is_there:
            is_wanted = False
            thread.join(60)
            missing("ptrace(2) of one's own children")
        is_wanted = False
        debugger.wait_exit()
        thread.join(60)
        assert failed == ["nobody waits for it any more"]
        with pytest.raises(PictureRefusedError):
            make(picture, plan_for(hostile.explore), by=studio)
        wait_until(lambda: read_state(server) == "S")
        states = [read_state(server) for _ in range(30) if not time.sleep(0.01)]
        assert states == ["S"] * 30, "it is told again and again, and does nothing else"
        assert list_children(server) == {child}
        debugger.let_go()
        wait_until(lambda: not list_children(server))


class Debugger:
    """Holds a process in its exit (``PTRACE_O_TRACEEXIT``), unless that is not allowed: then it is not there."""

    def __init__(self, pid: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._pid = pid
        self.is_there = self._call(PTRACE_SEIZE, PTRACE_O_TRACEEXIT) == 0

    def wait_exit(self) -> None:
        _, status = os.waitpid(self._pid, WAIT_FOR_ALL)
        assert os.WIFSTOPPED(status), status

    def let_go(self) -> None:
        assert self._call(PTRACE_DETACH, 0) == 0

    def _call(self, request: int, data: int) -> int:
        return int(self._libc.ptrace(request, self._pid, ctypes.c_void_p(0), ctypes.c_void_p(data)))


def read_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_what_nobody_wants_any_more_is_killed(hostile_studio, make, picture, tmp_path):
    folder = tmp_path / "unwanted"
    folder.mkdir()
    with pytest.raises(ChildFailedError, match="nobody waits"):
        hostile_studio.make(str(picture), plan_for(hostile.hang), str(folder), is_wanted=lambda: False)
    assert list(folder.iterdir()) == []
    wait_until(lambda: not list_children(hostile_studio.children._server.pid))


def test_a_studio_inherits_nothing_of_its_process_and_imports_no_pillow(picture, tmp_path):
    code = (
        "import os, sys\n"
        "from assetserver.images.plan import Plan\n"
        "from assetserver.images.studio import Studio\n"
        "leak = os.open('/etc/passwd', os.O_RDONLY)\n"
        "os.set_inheritable(leak, True)\n"
        "studio = Studio()\n"
        "made = studio.make(sys.argv[1], Plan(), sys.argv[2])\n"
        "assert made.picture.variants\n"
        "assert 'PIL' not in sys.modules, 'Pillow was imported'\n"
        "server = studio.children._server.pid\n"
        "files = [os.readlink(f'/proc/{server}/fd/{one}') for one in os.listdir(f'/proc/{server}/fd')]\n"
        "assert '/etc/passwd' not in files, files\n"
        "studio.close()\n"
    )
    folder = tmp_path / "made"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", code, picture, folder], check=True, timeout=60, env={**os.environ, "SECRET": "1"})


def test_many_at_once_share_one_fork_server(make, studio, picture, tmp_path):
    results = []
    threads = [threading.Thread(target=lambda: results.append(make(picture))) for _ in range(8)]
    for number, thread in enumerate(threads):
        (tmp_path / f"{number}").mkdir()
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 8
    assert len({made.picture for made in results}) == 1


def test_pixels_in_flight_are_bounded_and_a_large_picture_goes_alone():
    gate = PixelGate(100)
    order: list[str] = []
    with gate.holding(60):
        with gate.holding(40):
            order.append("both")
        late = threading.Thread(target=lambda: hold(gate, 500, order))
        late.start()
        wait_until(lambda: gate._waiting)
        assert order == ["both"]
    late.join(60)
    assert order == ["both", "500"]


def test_small_pictures_do_not_overtake_a_large_one_that_waits():
    gate = PixelGate(100)
    order: list[str] = []
    with gate.holding(60):
        threads = [threading.Thread(target=hold, args=(gate, pixels, order)) for pixels in (90, 10)]
        for thread in threads:
            count = len(gate._waiting)
            thread.start()
            wait_until(lambda count=count: len(gate._waiting) > count)
        assert order == []
    for thread in threads:
        thread.join(60)
    assert order == ["90", "10"]


def test_who_is_not_wanted_any_more_waits_no_longer_and_holds_up_nobody():
    gate = PixelGate(100)
    with gate.holding(100), pytest.raises(ChildFailedError, match="nobody waits"), gate.holding(1, lambda: False):
        pass
    with gate.holding(100):
        pass


def hold(gate: PixelGate, pixels: int, order: list[str]) -> None:
    with gate.holding(pixels):
        order.append(str(pixels))
