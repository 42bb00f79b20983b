"""The benchmarks run: what they measure is for people to read, and is asserted nowhere."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SERVERS = ("stock", "AssetFiles", "assetserver serve", "assetserver serve, access log")
ORIGIN_ROWS = ("1k-15", "1k-differing", "16k-coded", "range")
LIMIT_S = 100
WRONG_STATUS = """
import os
import sys

sys.path.insert(0, sys.argv[1])
import load
from bench_static import InvalidMeasurementError
from origin_rows import Row, Site
from peers import launched, nginx

load.READY_LIMIT_S = 0.5
with launched(nginx(), Site(sys.argv[2], ""), os.sched_getaffinity(0), sys.argv[2]) as server:
    try:
        load.prepare(server, Row("missing", "", 1.0), sys.argv[2])
    except InvalidMeasurementError as error:
        print(error)
"""


def test_bench_static_measures_every_server(start_program, missing, tmp_path):
    if not shutil.which("wrk"):
        missing("wrk (Debian package wrk)")
    numbers = tmp_path / "results" / "static.json"
    bench = start_program("bench", [sys.executable, BENCHMARKS / "bench_static.py", "--quick", "--json", numbers])
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = [line.split(" | ")[1] for line in bench.read_log().splitlines() if line.startswith("| 1 KiB")]
    assert rows == list(SERVERS)
    costs = json.loads(numbers.read_text())["costs"]
    assert [(cost["server"], len(cost["rounds"])) for cost in costs] == [(name, 1) for name in SERVERS[1:]]


def test_bench_publish_measures_against_every_goal(start_program, tmp_path):
    numbers = tmp_path / "publish.json"
    bench = start_program("bench", [sys.executable, BENCHMARKS / "bench_publish.py", "--quick", "--json", numbers])
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads(numbers.read_text())["rows"]
    assert len([row for row in rows if row["goal"]]) >= 8
    assert all(isinstance(row["value"], float | int) for row in rows)


def test_bench_uploads_measures_against_every_goal(start_program, missing, tmp_path):
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        missing("nginx (Debian package nginx-light)")
    numbers = tmp_path / "uploads.json"
    command = [sys.executable, BENCHMARKS / "bench_uploads.py", "--quick", "--json", numbers, "--folder", tmp_path]
    bench = start_program("bench", command)
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    rows = json.loads(numbers.read_text())["rows"]
    assert len([row for row in rows if row["goal"]]) >= 5


def test_bench_origin_compares_with_nginx(start_program, missing, tmp_path):
    for program, package in (("wrk", "wrk"), ("nginx", "nginx-light")):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            missing(f"{program} (Debian package {package})")
    command = [sys.executable, BENCHMARKS / "bench_origin.py", "--quick", "--results", tmp_path]
    bench = start_program("bench", command)
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    told = json.loads((tmp_path / "origin.json").read_text())
    assert [(row["key"], len(row["rounds"])) for row in told["rows"]] == [(key, 1) for key in ORIGIN_ROWS]
    assert [row["content_bytes"][1] for row in told["rows"]][::3] == [1024, 1 << 20]
    assert (tmp_path / "origin.svg").read_text().count("<rect") == len(ORIGIN_ROWS)
    assert bench.read_log().count("missed") + bench.read_log().count("| met |") == len(ORIGIN_ROWS)


def test_bench_origin_refuses_the_cost_of_another_answer(start_program, missing, tmp_path):
    if not shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        missing("nginx (Debian package nginx-light)")
    bench = start_program("bench", [sys.executable, "-c", WRONG_STATUS, BENCHMARKS, tmp_path])
    assert bench.process.wait(LIMIT_S) == 0, bench.show_tail()
    assert "is not the answer in question" in bench.read_log()


def test_bench_static_without_wrk_says_how_to_get_it(start_program, tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_static.py", "--json", tmp_path / "static.json"]
    bench = start_program("bench", command, env={"PATH": str(tmp_path)})
    assert bench.process.wait(LIMIT_S) == 69
    assert bench.read_log() == "wrk is missing: apt-get install wrk\n"
