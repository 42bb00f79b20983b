"""The benchmarks run: what they measure is for people to read, and is asserted nowhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ROWS = ("1k-15", "16k-coded-15", "1k-differing", "range-middle")
LIMIT_S = 200
BLOCKS = ("bench", "publish", "uploads", "jobs", "images", "deltas")

pytestmark = pytest.mark.timeout(2 * LIMIT_S)
EX_UNAVAILABLE = 69
WRONG_STATUS = """
import os
import sys

sys.path.insert(0, sys.argv[1])
import load
from machine import InvalidMeasurementError
from peers import Site, launched, nginx
from rows import Row

load.READY_LIMIT_S = 5.0
with launched(nginx(), Site(sys.argv[2], ""), os.sched_getaffinity(0), sys.argv[2]) as server:
    try:
        load.prepare(server, Row("missing", "", 1.0), sys.argv[2])
    except InvalidMeasurementError as error:
        print(error)
"""


def test_bench_static_compares_with_stock(start_program, missing, tmp_path):
    if not shutil.which("wrk"):
        missing("wrk (Debian package wrk)")
    command = [sys.executable, BENCHMARKS / "bench_static.py", "--quick", "--rows", "1k-2", "--results", tmp_path]
    bench = start_program("bench", command)
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    (row,) = json.loads((tmp_path / "origin.json").read_text())["static"]["rows"]
    assert (row["servers"], len(row["rounds"])) == (["stock StaticFiles", "AssetFiles, Uvicorn"], 1)


def test_bench_publish_measures_against_every_goal(start_program, tmp_path):
    numbers = tmp_path / "publish.json"
    bench = start_program("bench", [sys.executable, BENCHMARKS / "bench_publish.py", "--quick", "--json", numbers])
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads(numbers.read_text())["rows"]
    assert len([row for row in rows if row["goal"]]) >= 8
    assert all(isinstance(row["value"], float | int) for row in rows)


def test_bench_deltas_makes_a_delta_of_a_real_package(start_program, missing, tmp_path):
    numbers = tmp_path / "deltas.json"
    bench = start_program("bench", [sys.executable, BENCHMARKS / "bench_deltas.py", "--quick", "--json", numbers])
    if bench.process.wait(LIMIT_S) == EX_UNAVAILABLE:
        missing(f"an npm package ({bench.show_tail()})")
    assert bench.process.returncode == 0, bench.show_tail()
    (row,) = json.loads(numbers.read_text())["files"]
    assert row["bytes"]["dcz-19"] < row["bytes"]["br-11"] / 20


def test_bench_uploads_measures_against_every_goal(start_program, missing, tmp_path):
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        missing("nginx (Debian package nginx-light)")
    numbers = tmp_path / "uploads.json"
    command = [sys.executable, BENCHMARKS / "bench_uploads.py", "--quick", "--json", numbers, "--folder", tmp_path]
    bench = start_program("bench", command)
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads(numbers.read_text())["rows"]
    assert len([row for row in rows if row["goal"]]) >= 5


def test_bench_jobs_measures_against_every_goal(start_program, tmp_path):
    numbers = tmp_path / "jobs.json"
    command = [sys.executable, BENCHMARKS / "bench_jobs.py", "--quick", "--json", numbers, "--folder", tmp_path]
    bench = start_program("bench", command)
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads(numbers.read_text())["rows"]
    assert len([row for row in rows if row["goal"]]) >= 4


def test_bench_images_measures_against_every_goal(start_program, tmp_path):
    numbers = tmp_path / "images.json"
    bench = start_program("bench", [sys.executable, BENCHMARKS / "bench_images.py", "--quick", "--json", numbers])
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads(numbers.read_text())["rows"]
    assert len([row for row in rows if row["goal"]]) >= 3  # more, where there is something to compare with


def test_bench_requests_compares_with_nginx_and_the_readme_shows_it(start_program, missing, tmp_path):
    for program, package in (("wrk", "wrk"), ("nginx", "nginx-light")):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            missing(f"{program} (Debian package {package})")
    command = [sys.executable, BENCHMARKS / "bench_requests.py", "--quick", "--rows", ",".join(ROWS), "--results", tmp_path]
    bench = start_program("bench", command)
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads((tmp_path / "origin.json").read_text())["requests"]["rows"]
    assert [(row["key"], len(row["rounds"])) for row in rows] == [(key, 1) for key in ROWS]
    assert [row["content_bytes"][1] for row in rows][::3] == [1024, 1 << 20]
    readme = tmp_path / "README.md"
    readme.write_text(
        "".join(
            f"<!-- {name}:{end} -->\n"
            for name in ("bench", "publish", "uploads", "jobs", "images", "deltas")
            for end in ("start", "end")
        )
        + "rest\n"
    )
    report = start_program("report", [sys.executable, BENCHMARKS / "report.py", "--results", tmp_path, "--readme", readme])
    assert report.process.wait(LIMIT_S) == 0, report.show_tail()
    assert (tmp_path / "origin.svg").read_text().count("<rect") == len(ROWS)
    told = readme.read_text()
    assert told.count("**missed** |\n") + told.count("| met |\n") == len(ROWS)
    assert told.endswith("rest\n")


def test_bench_requests_refuses_the_cost_of_another_answer(start_program, missing, tmp_path):
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        missing("nginx (Debian package nginx-light)")
    bench = start_program("bench", [sys.executable, "-c", WRONG_STATUS, BENCHMARKS, tmp_path])
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    assert "is not the answer in question" in bench.read_log()


def test_bench_static_without_wrk_says_how_to_get_it(start_program, tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_static.py", "--results", tmp_path]
    bench = start_program("bench", command, env={"PATH": str(tmp_path)})
    assert bench.process.wait(LIMIT_S) == 69
    assert bench.read_log() == "wrk is missing: run benchmarks/install.py\n"
