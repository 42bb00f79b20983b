"""The units as they come, run by a real systemd."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import LIMIT_S, PROGRAM, Machine

UNITS = Path(__file__).parents[2] / "systemd"
CONFIG = "/etc/assetserver/assetserver.toml"
SETTINGS = """
[server]
workers = 2
graceful_shutdown_s = 10
stuck_s = 3
access_log = "off"
[[sites]]
[[mounts]]
prefix = "/live"
directory = "/srv/site"
"""
SERVICES = ("assetserver", "assetserver-worker", "assetserver-purge", "assetserver-gc")
MANY = 20_000


@pytest.fixture(scope="session")
def installed(machine: Machine) -> Machine:
    """The machine, with the units installed as the command does it, a site published, and nothing started but sockets."""
    machine.write("/srv/site/file.txt", "hello world")
    machine.run(PROGRAM, "systemd", "install", "--prefix", "/opt/assetserver")
    machine.run("systemd-sysusers")
    machine.run("systemd-tmpfiles", "--create", "assetserver.conf")
    machine.write(CONFIG, SETTINGS)
    machine.write("/etc/assetserver/credentials/access.keys", f"first:{'s' * 40}\n", "600")
    machine.as_user("publish", "/srv/site", "--prod", "--config", CONFIG)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "assetserver.socket", "assetserver-uds.socket", "assetserver-admin.socket")
    return machine


def workers_of(machine: Machine) -> list[int]:
    """Return the worker processes of the service."""
    pid = machine.show("assetserver", "MainPID")
    return [int(one) for one in machine.run("cat", f"/proc/{pid}/task/{pid}/children").split()]


def settle(machine: Machine) -> list[int]:
    """Return its two workers, when those that drain have ended."""
    deadline_s = time.monotonic() + LIMIT_S
    while len(found := workers_of(machine)) != 2:
        assert time.monotonic() < deadline_s, f"there are {len(found)} workers\n{machine.read_journal('assetserver')}"
        time.sleep(0.05)
    return found


def test_the_first_request_starts_the_service_and_its_state_is_told(installed):
    assert installed.show("assetserver", "ActiveState") == "inactive"
    answer = installed.ask("/file.txt")
    assert (answer["status"], answer["text"]) == (200, "hello world")
    assert installed.show("assetserver", "ActiveState") == "active"
    assert installed.show("assetserver", "StatusText") == "2 workers serve"
    assert len(workers_of(installed)) == 2
    for unit in SERVICES[1:3]:  # they come with it
        assert installed.show(unit, "Result") == "success"


@pytest.mark.parametrize(
    ("path", "url", "status"),
    [
        ("/run/assetserver/http.sock", "/file.txt", 200),
        ("/run/assetserver/http.sock", "/-/healthy", 404),
        ("/run/assetserver/admin.sock", "/-/healthy", 200),
        ("/run/assetserver/admin.sock", "/file.txt", 404),
    ],
)
def test_it_answers_at_its_unix_sockets(installed, path, url, status):
    assert installed.ask(url, "--unix-socket", path)["status"] == status


def test_answers_over_the_passed_socket_do_not_wait_for_acknowledgements(installed):
    pid = workers_of(installed)[0]
    shown = installed.run("ss", "--tcp", "--listening", "--numeric", "--processes")
    assert f"pid={pid}," in shown
    assert installed.run("systemctl", "show", "assetserver.socket", "--property", "NoDelay", "--value").strip() == "yes"


def test_a_reload_reads_new_settings_in_the_same_process(installed):
    pid = installed.show("assetserver", "MainPID")
    old = workers_of(installed)
    installed.write(CONFIG, SETTINGS.replace("workers = 2", "workers = 3").replace("/live", "/moved"))
    installed.run("systemctl", "reload", "assetserver")
    assert installed.ask("/moved/file.txt")["text"] == "hello world"
    assert installed.show("assetserver", "StatusText") == "reloaded: 3 workers serve"
    assert installed.show("assetserver", "MainPID") == pid
    assert len(set(workers_of(installed)) - set(old)) == 3
    installed.write(CONFIG, SETTINGS)
    installed.run("systemctl", "reload", "assetserver")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("workers = 2", "workers = two"), "not TOML"),
        (("workers = 2", "wrokers = 2"), "did you mean"),
        (("/srv", "/gone"), "no folder"),
    ],
)
def test_a_reload_with_a_bad_configuration_fails_and_what_ran_goes_on(installed, change, told):
    old = settle(installed)
    installed.write(CONFIG, SETTINGS.replace(*change))
    code, _, _ = installed.try_to("systemctl", "reload", "assetserver")
    assert code != 0
    assert told in installed.read_journal("assetserver")
    assert installed.ask("/file.txt")["status"] == 200
    assert workers_of(installed) == old
    assert installed.show("assetserver", "ActiveState") == "active"
    installed.write(CONFIG, SETTINGS)


def test_a_signal_with_a_bad_configuration_is_told_in_the_status(installed):
    installed.write(CONFIG, "nonsense")
    installed.run("systemctl", "kill", "--kill-who=main", "--signal=SIGHUP", "assetserver")
    installed.wait_for(
        "sh", "-c", "systemctl show -P StatusText assetserver | grep 'what ran before goes on: .*not TOML'", what="a status"
    )
    assert installed.ask("/file.txt")["status"] == 200
    installed.write(CONFIG, SETTINGS)


class Load:
    """Clients inside the machine, as ``load.py`` has them."""

    def __init__(self, machine: Machine) -> None:
        self._process = machine.start(
            "/opt/assetserver/bin/python", "/opt/assetserver/tests/load.py", 8000, 12, stdin=subprocess.PIPE, bufsize=1
        )

    def count(self) -> int:
        """Return how many requests were answered so far."""
        self._process.stdin.write("?\n")
        return int(self._process.stdout.readline())

    def wait_count(self, count: int) -> None:
        """Wait until so many were."""
        deadline_s = time.monotonic() + LIMIT_S
        while self.count() < count:
            assert time.monotonic() < deadline_s, "too few answers"
            time.sleep(0.05)

    def end(self) -> dict[str, object]:
        """Return what came of it."""
        out, err = self._process.communicate(timeout=LIMIT_S)
        assert err == ""
        return json.loads(out)

    def close(self) -> None:
        """End it, if that is still to be done."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def load(installed: Machine) -> Iterator[Load]:
    made = Load(installed)
    yield made
    made.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("deed", ["restart", "reload"])
def test_no_request_is_lost(installed, load, deed):
    for part in (1, 2, 3):
        load.wait_count(part * MANY // 4)
        installed.run("systemctl", deed, "assetserver")
    load.wait_count(MANY)
    told = load.end()
    assert (told["lost"], told["alive"]) == ([], 0)
    assert told["answered"] >= MANY


def test_a_worker_that_is_stuck_is_replaced_alone_and_tells_where(installed):
    pid = installed.show("assetserver", "MainPID")
    stuck, other = settle(installed)
    installed.run("kill", "-STOP", stuck)
    installed.wait_for("sh", "-c", f"! test -e /proc/{stuck}", what="its end")
    assert other in workers_of(installed)
    assert installed.show("assetserver", "MainPID") == pid
    assert f"worker {stuck} is stuck" in installed.read_journal("assetserver")
    assert installed.ask("/file.txt")["status"] == 200


def test_a_master_that_is_stuck_is_killed_and_all_starts_anew(installed):
    installed.write("/run/systemd/system/assetserver.service.d/hasty.conf", "[Service]\nWatchdogSec=5\nTimeoutAbortSec=1\n")
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "restart", "assetserver")
    pid = installed.show("assetserver", "MainPID")
    installed.run("kill", "-STOP", pid)
    installed.wait_for("sh", "-c", f"! test -e /proc/{pid}", what="its end")
    assert installed.ask("/file.txt")["status"] == 200
    assert installed.show("assetserver", "MainPID") not in ("0", pid)
    assert int(installed.show("assetserver", "NRestarts")) >= 1
    assert "Watchdog timeout" in installed.read_journal("assetserver")
    installed.run("rm", "-r", "/run/systemd/system/assetserver.service.d")
    installed.run("systemctl", "daemon-reload")


def test_settings_that_are_wrong_at_the_start_are_not_tried_again(installed):
    installed.write(CONFIG, "[servr]\n")
    code, _, _ = installed.try_to("systemctl", "restart", "assetserver")
    assert code != 0
    assert installed.show("assetserver", "ExecMainStatus") == "78"
    assert installed.show("assetserver", "NRestarts") == "0"
    assert 'did you mean "server"?' in installed.read_journal("assetserver")
    installed.write(CONFIG, SETTINGS)
    installed.run("systemctl", "reset-failed", "assetserver")
    installed.run("systemctl", "restart", "assetserver")


# Secrets, and what the units may not


def test_secrets_come_as_credentials_and_are_shown_nowhere(installed):
    """A URL that is signed with the key in the credential opens; and a wrong key is refused without being told."""
    installed.write("/etc/assetserver/credentials/access.keys", "too-short-to-be-a-key\n", "600")
    code, _, _ = installed.try_to("systemctl", "restart", "assetserver")
    assert code != 0
    journal = installed.read_journal("assetserver")
    assert "credential access.keys: access.keys[0] is …; it must be" in journal
    assert "too-short" not in journal
    installed.write("/etc/assetserver/credentials/access.keys", f"first:{'s' * 40}\n", "600")
    installed.run("systemctl", "reset-failed", "assetserver")
    installed.run("systemctl", "restart", "assetserver")
    pid = installed.show("assetserver", "MainPID")
    assert "ssss" not in installed.run("cat", f"/proc/{pid}/cmdline", f"/proc/{pid}/environ")
    code, _, err = installed.try_to("runuser", "-u", "assetserver", "--", "cat", "/etc/assetserver/credentials/access.keys")
    assert (code != 0, "Permission denied" in err) == (True, True)


PROBE = """
import os, socket
def attempt(what, do):
    try:
        do()
    except OSError as error:
        print(what, error.errno)
    else:
        print(what, "done")
for path in ("/etc/assetserver/x", "/usr/x", "/srv/site/x", "/opt/assetserver/x", "/var/lib/x"):
    attempt(path, lambda: open(path, "w"))
attempt("state", lambda: open(os.environ["STATE_DIRECTORY"] + "/probe", "w"))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", 8000), 2))
attempt("home", lambda: os.listdir("/root"))
"""


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_writes_to_its_own_folders_alone_and_only_one_opens_connections(installed, unit):
    """The unit's own sandbox, around a program that tries to leave it."""
    text = (UNITS / f"{unit}.service").read_text()
    left_out = "ExecStart|ExecReload|Restart|Requires|Wants|Sockets|PartOf|After|ReloadPropagatedFrom|WatchdogSec"
    text = re.sub(rf"(?m)^({left_out}|RuntimeDirectory)=.*\n", "", text)
    text = text.replace("Type=notify", "Type=oneshot")
    text = text.replace("[Service]\n", "[Service]\nExecStart=/opt/assetserver/bin/python /tmp/probe.py\n")
    installed.write("/run/probe.py", PROBE)
    text = text.replace("/tmp/probe.py", "/run/probe.py")
    installed.write(f"/run/systemd/system/probe-{unit}.service", text)
    installed.run("systemctl", "daemon-reload")
    installed.run("systemctl", "start", f"probe-{unit}.service")
    told = dict(
        line.split() for line in installed.read_journal(f"probe-{unit}").splitlines() if re.match(r"\S+ (\d+|done)$", line)
    )
    assert told.pop("state") == "done"
    connects = told.pop("connect")
    assert (connects == "done") == (unit == "assetserver-purge")
    assert len(told) == 6
    assert "done" not in told.values()


def test_threads_that_store_uploads_go_behind_the_one_that_serves(installed):
    """The filter for system calls lets them."""
    token = installed.as_user("token", "create", "--scope", "upload", "--config", CONFIG).split()[0]
    answer = installed.ask("/uploads?name=a.txt", "-H", f"Authorization: Bearer {token}", "-d", "content")
    assert answer["status"] == 201, answer
    threads = [installed.run("ps", "-L", "-o", "cls=,ni=", "-p", str(pid)).split("\n") for pid in workers_of(installed)]
    assert all(first.split() == ["TS", "0"] for first, *_ in threads)
    assert any(other.split() == ["B", "5"] for _, *others in threads for other in others)


# The other units


def test_the_worker_makes_a_picture_smaller(installed):
    token = installed.as_user("token", "create", "--scope", "upload", "--config", CONFIG).split()[0]
    make = "from PIL import Image; Image.new('RGB', (1200, 800), 'teal').save('/run/picture.jpg')"
    installed.run("env", "PYTHONPATH=/opt/assetserver/site-packages", "/opt/assetserver/bin/python", "-c", make)
    answer = installed.ask("/uploads", "-H", f"Authorization: Bearer {token}", "-F", "file=@/run/picture.jpg")
    assert answer["status"] == 201, answer
    upload = json.loads(str(answer["text"]))["uploads"][0]
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        told = json.loads(str(installed.ask(f"/uploads/{upload['id']}", "-H", f"Authorization: Bearer {token}")["text"]))
        if told["image"]["state"] == "ready":
            break
        assert time.monotonic() < deadline_s, f"{told}\n{installed.read_journal('assetserver-worker')}"
        time.sleep(0.1)
    assert {one["width"] for one in told["image"]["variants"]} >= {320, 640}


def test_the_worker_reloads_with_the_server_unless_its_settings_are_wrong(installed):
    pid = installed.show("assetserver-worker", "MainPID")
    installed.write(CONFIG, SETTINGS + "[images]\nconcurrent = 0\n")
    installed.run("systemctl", "reload", "assetserver-worker")
    wrong = "sh", "-c", "systemctl show -P StatusText assetserver-worker | grep 'goes on: .*images.concurrent is 0'"
    installed.wait_for(*wrong, what="a status")
    installed.write(CONFIG, SETTINGS + "[images]\non_demand = true\n")
    installed.run("systemctl", "reload", "assetserver")
    installed.wait_value("assetserver-worker", "StatusText", "doing jobs (image, picture, ladder)")
    assert installed.show("assetserver-worker", "MainPID") == pid
    assert installed.show("assetserver-worker", "NRestarts") == "0"


def test_the_timer_has_old_releases_removed(installed):
    installed.run("systemctl", "start", "assetserver-gc.timer")
    assert installed.show("assetserver-gc.timer", "ActiveState") == "active"
    installed.run("systemctl", "start", "assetserver-gc.service")
    assert installed.show("assetserver-gc.service", "Result") == "success"
    assert installed.show("assetserver-gc.service", "ExecMainStatus") == "0"


def test_a_stop_ends_all_of_it_and_the_sockets_stay(installed):
    installed.run("systemctl", "stop", "assetserver", "assetserver-worker", "assetserver-purge")
    for unit in SERVICES:
        assert installed.show(unit, "Result") == "success"
        assert installed.show(unit, "MainPID") == "0"
    assert installed.ask("/file.txt")["status"] == 200
