"""Jobs end to end: an upload to a real server, a webhook at a real receiver, and workers beside it and apart that die."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from PIL import Image

from assetserver.cli import main

from .webhooks.receiver import Receiver, receiving

LIMIT_S = 60.0
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - it is published


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {LIMIT_S} s"
        time.sleep(0.02)


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run("jobs", "list")`` runs a command in the folder where the server runs; returns stdout, stderr and the code."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ASSETSERVER_")]:
        monkeypatch.delenv(name)

    def run(*words: object) -> tuple[str, str, int]:
        result = CliRunner().invoke(main, list(map(str, words)))
        return result.stdout, result.stderr, result.exit_code

    return run


ALONE = {"ASSETSERVER_IMAGES__ENABLED": "false"}
"""Webhooks are the only jobs: what pictures cause is tested in ``tests/pictures``."""


def hooks(receiver: Receiver, **more: str) -> dict[str, str]:
    return {**ALONE, "ASSETSERVER_WEBHOOKS__URL": receiver.url, "ASSETSERVER_WEBHOOKS__SECRETS": SECRET, **more}


def upload(url: str, token: str, content: bytes = b"hello", **fields: str) -> dict[str, object]:
    connection = http.client.HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=LIMIT_S)
    connection.request("POST", "/uploads?name=a.txt", content, {"Authorization": f"Bearer {token}", **fields})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 201, text
    return json.loads(text)["uploads"][0]


def job_workers_of(master: int) -> list[int]:
    """The children that do jobs: those that have a bell, whose name tells their process."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    bells = os.listdir("data/records.sqlite3-workers")
    return [int(one) for one in children if any(f"-{one}-" in bell for bell in bells)]


@pytest.fixture
def master(start_program, tmp_path):
    """``master(env)`` starts a server with workers beside it; returns the program and its URL."""

    def start(env: dict[str, str], *arguments: object):
        command = [sys.executable, "-m", "assetserver", "serve", "--port", 0, *arguments]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
        program = start_program("assetserver", command, env={**kept, "PYTHONUNBUFFERED": "1", **env}, cwd=tmp_path)
        return program, program.wait_log(r"on (http://127\.0\.0\.1:[1-9]\d*)")[1]

    return start


def make_token(run) -> str:
    return run("token", "create", "--scope", "upload")[0].strip()


def test_a_complete_upload_is_told_of_in_the_words_of_its_answer(master, receiver, run):
    program, url = master(hooks(receiver))
    told = upload(url, make_token(run))
    wait_for(lambda: receiver.got, "a webhook")
    event = json.loads(receiver.got[0][2])
    assert event["type"] == "upload.completed"
    assert event["data"].pop("url").endswith(told.pop("url"))
    assert event["data"] == told
    wait_for(lambda: run("jobs", "list")[0].startswith("1  done  webhook"), "the end of the job")
    assert "jobs (webhook) done by 1 worker beside" in program.read_log()
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT_S) == 0
    assert "Traceback" not in program.read_log()


def test_what_a_request_causes_belongs_to_its_trace(master, receiver, run):
    """The webhook of the upload, the picture that it has made, and the webhook of that; another request has none."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    _, url = master({**hooks(receiver), "ASSETSERVER_IMAGES__ENABLED": "true", "ASSETSERVER_IMAGES__FORMATS": "webp"})
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    token = make_token(run)
    upload(url, token, file.getvalue(), traceparent=trace)
    wait_for(lambda: len(receiver.got) == 2, "two webhooks")
    assert sorted(json.loads(body)["type"] for _, _, body in receiver.got) == ["image.ready", "upload.completed"]
    assert [fields["traceparent"] for _, fields, _ in receiver.got] == [trace] * 2
    upload(url, token, b"text", traceparent=trace.upper())
    wait_for(lambda: len(receiver.got) == 3, "the third webhook")
    assert "traceparent" not in receiver.got[2][1]


def test_a_worker_that_is_killed_is_replaced_and_its_job_is_done_once(master, receiver, run):
    receiver.pause_s = 0.2
    program, url = master(hooks(receiver))
    upload(url, make_token(run))
    wait_for(lambda: receiver.got, "a webhook")
    (worker,) = job_workers_of(program.process.pid)
    os.kill(worker, signal.SIGKILL)
    receiver.pause_s = 0.0
    wait_for(lambda: "done" in run("jobs", "list")[0], "the end of the job")
    assert job_workers_of(program.process.pid) != [worker]
    assert len({fields["webhook-id"] for _, fields, _ in receiver.got}) == 1
    program.wait_log(rf"job worker {worker} was ended by SIGKILL; another one starts")
    assert json.loads(run("jobs", "list", "--json")[0])["jobs"][0]["attempts"] == 2


def test_workers_end_with_a_master_that_is_killed(master, receiver, run):
    program, url = master(hooks(receiver))
    upload(url, make_token(run))
    wait_for(lambda: receiver.got, "a webhook")
    (worker,) = job_workers_of(program.process.pid)
    program.process.kill()
    wait_for(lambda: not Path(f"/proc/{worker}").exists() or " Z " in Path(f"/proc/{worker}/stat").read_text(), "its end")


def test_workers_may_be_apart_and_take_what_waits(master, receiver, run, start_program, tmp_path):
    env = hooks(receiver, ASSETSERVER_JOBS__WORKERS="0")
    program, url = master(env)
    program.wait_log(r"jobs \(webhook\) left to: assetserver worker")
    token = make_token(run)
    for _ in range(3):
        upload(url, token)
    assert json.loads(run("jobs", "list", "--json")[0])["count"] == {"queued": 3}
    workers = [
        start_program("worker", [sys.executable, "-m", "assetserver", "worker"], env={**os.environ, **env}, cwd=tmp_path)
        for _ in range(2)
    ]
    wait_for(lambda: len(list(Path("data").glob("records.sqlite3-workers/*"))) == 2, "two workers")  # one could do all three
    wait_for(lambda: json.loads(run("jobs", "list", "--json")[0])["count"] == {"done": 3}, "the end of three jobs")
    for worker, number in zip(workers, (signal.SIGTERM, signal.SIGINT), strict=True):
        worker.process.send_signal(number)
        assert worker.process.wait(LIMIT_S) == 0
        assert worker.read_log() == "doing jobs (webhook) of data (stop with Ctrl+C)\nstopped\n"
    assert os.listdir(tmp_path / "data" / "records.sqlite3-workers") == []


def test_what_a_worker_apart_does_is_told_by_its_server_and_a_signal_for_logs_does_not_end_it(
    master, receiver, run, start_program, tmp_path, free_port
):
    admin = f"127.0.0.1:{free_port()}"
    env = hooks(receiver, ASSETSERVER_JOBS__WORKERS="0", ASSETSERVER_ADMIN__LISTEN=admin)
    _, url = master(env)
    token = make_token(run)
    command = [sys.executable, "-m", "assetserver", "worker"]
    worker = start_program("worker", command, env={**os.environ, **env}, cwd=tmp_path)
    upload(url, token)

    def read() -> str:
        connection = http.client.HTTPConnection(admin, timeout=LIMIT_S)
        connection.request("GET", "/-/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    one, two = (f'assetserver_job_attempts_total{{kind="webhook",result="done"}} {count}' for count in (1, 2))
    wait_for(lambda: one in read(), "the first webhook in the metrics")
    assert re.search(r'process_start_time_seconds\{process="\d+",role="jobs"\}', read())
    worker.process.send_signal(signal.SIGUSR1)
    upload(url, token)
    wait_for(lambda: two in read(), "the second webhook, by the same worker")
    shown = run("top", "--once", "--url", f"http://{admin}")[0]
    assert "1 at jobs" in shown
    assert "2 done" in shown
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait(LIMIT_S)
    assert two in read(), "what it did stays told"


def test_a_worker_waits_for_records_that_are_not_there_yet(receiver, run, start_program, tmp_path, master):
    env = hooks(receiver, ASSETSERVER_JOBS__WORKERS="0")
    worker = start_program("worker", [sys.executable, "-m", "assetserver", "worker"], env={**os.environ, **env}, cwd=tmp_path)
    worker.wait_log("doing jobs")
    _, url = master(env)
    upload(url, make_token(run))
    wait_for(lambda: receiver.got, "a webhook")


def test_what_causes_no_jobs_has_no_worker(master, run):
    program, _ = master(ALONE)
    assert "jobs" not in program.read_log()
    assert Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text() == ""


def test_serving_does_not_wait_for_records_that_are_locked(master, receiver, run, tmp_path, fetch):
    program, url = master(hooks(receiver))
    token = make_token(run)
    upload(url, token)
    wait_for(lambda: receiver.got, "a webhook")
    lock = sqlite3.connect(tmp_path / "data" / "records.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    assert fetch(url + "/-/healthy").status == 200
    lock.execute("ROLLBACK")
    lock.close()
    upload(url, token)
    wait_for(lambda: len(receiver.got) == 2, "another webhook")
    assert program.process.poll() is None


def test_postgresql_keeps_all_records_and_wakes_workers(master, receiver, run, postgres, start_program, tmp_path, monkeypatch):
    database = postgres.create_database()
    env = hooks(receiver, ASSETSERVER_DATABASE__URL=database)
    monkeypatch.setenv("ASSETSERVER_DATABASE__URL", database)
    _, url = master(env)
    told = upload(url, make_token(run))
    wait_for(lambda: receiver.got, "a webhook")
    wait_for(lambda: "done" in run("jobs", "list")[0], "the end of the job")
    assert json.loads(receiver.got[0][2])["data"]["id"] == told["id"]
    assert not (tmp_path / "data" / "records.sqlite3").exists()


# Commands


def test_jobs_are_listed_cancelled_and_retried_by_hand(master, receiver, run):
    receiver.status = 500
    _, url = master(hooks(receiver))
    upload(url, make_token(run))
    wait_for(lambda: "answered 500" in run("jobs", "list")[0], "a failure")
    out, err, code = run("jobs", "list")
    line = r"1  (queued|running)  webhook  \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  attempt \d of 16;.* the receiver answered 500\n"
    assert re.fullmatch(line, out)
    assert re.fullmatch(r"1 (queued|running)\n", err)
    assert run("jobs", "cancel", 1)[::2] == ("cancelled: 1 (webhook)\n", 0)
    out, err, code = run("jobs", "cancel", 1, 7)
    assert (out, code) == ("", 1)
    assert err.startswith("error: job 1 is cancelled already; there is no job 7")
    receiver.status = 200
    told = json.loads(run("jobs", "retry", 1, "--json")[0])["jobs"]
    assert [(job["id"], job["state"], job["attempts"]) for job in told] == [(1, "queued", 0)]
    wait_for(lambda: "done" in run("jobs", "list", "--state", "done")[0], "the end")
    assert run("jobs", "list", "--state", "dead") == ("", "1 done\n", 0)
    assert run("jobs", "retry", "--dead") == ("", "no job is dead\n", 0)
    assert run("jobs", "retry", 1)[1] == "error: job 1 is done; only what is dead or cancelled can be retried\n"


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (("jobs", "list"), "there are no jobs: there are no records in data. If it is elsewhere, use --data", 1),
        (("jobs", "retry"), "say which: IDs", 2),
        (("jobs", "retry", "1", "--dead"), "say which: IDs", 2),
        (("jobs", "cancel"), "say which: IDs", 2),
        (("jobs", "cancel", "x"), "'x' is not a valid integer", 2),
        (("jobs", "list", "--state", "lost"), "'lost' is not one of", 2),
        (("jobs", "rerun"), "did you mean retry?", 2),
        (
            ("worker",),
            "there is nothing to do: these settings cause no jobs; set images.enabled, images.on_demand, webhooks.url or",
            78,
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(run, words, says, code, tmp_path, monkeypatch):
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    _, err, ended = run(*words)
    assert says in err
    assert ended == code
    assert os.listdir(tmp_path) == []


def test_webhooks_without_a_secret_are_refused_at_the_start(run, monkeypatch):
    monkeypatch.setenv("ASSETSERVER_WEBHOOKS__URL", "https://example.com/")
    assert "nothing signs what is sent there" in run("check")[1]
