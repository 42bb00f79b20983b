"""The benchmarks run: what they measure is for people to read, and is asserted nowhere."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SERVERS = ("stock", "AssetFiles", "assetserver serve", "assetserver serve, access log")
LIMIT_S = 100


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
    assert len([row for row in rows if row["goal"]]) >= 9
    assert all(row["value"] >= 0 for row in rows)


def test_bench_static_without_wrk_says_how_to_get_it(start_program, tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_static.py", "--json", tmp_path / "static.json"]
    bench = start_program("bench", command, env={"PATH": str(tmp_path)})
    assert bench.process.wait(LIMIT_S) == 69
    assert bench.read_log() == "wrk is missing: apt-get install wrk\n"
