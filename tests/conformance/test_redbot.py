"""REDbot, the linter of running HTTP resources, finds nothing bad.

It asks for the resource, asks again for gzip, for a range and with each validator, and compares what comes.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHECK_LIMIT_S = 30

ACCEPTED = {
    "STORE_PUBLIC_UNNECESSARY": "public changes nothing here, and tells people that nothing in the answer is personal",
}
"""Warnings that are let pass, and why."""

PATHS = ("/style.css", "/", "/picture.png", "/module.wasm", "/empty.txt", "/big.bin", "/missing.css", "/missing-page")


def check(url):
    """Return REDbot's notes on a URL, with those below others."""
    done = subprocess.run(
        [sys.executable, "-m", "redbot.cli", "-o", "har", url], capture_output=True, check=True, timeout=CHECK_LIMIT_S
    )
    log = json.loads(done.stdout)["log"]
    assert "_red_error" not in log, log["_red_error"]
    [entry] = log["entries"]
    notes = entry["_red_messages"]
    return [note for top in notes for note in (top, *top.get("subnotes", ()))]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("server", ["compressing", "plain"])
def test_redbot_finds_nothing_bad(server, path, request):
    notes = check(request.getfixturevalue(server) + path)
    bad = [
        "{level} {note_id} on {subject}: {summary}".format_map(note)
        for note in notes
        if note["level"] in ("BAD", "WARN") and note["note_id"] not in ACCEPTED
    ]
    assert not bad


def test_redbot_sees_compression_ranges_and_validation(compressing):
    seen = {note["note_id"] for note in check(compressing + "/style.css")}
    assert seen >= {"CONNEG_GZIP_GOOD", "RANGE_CORRECT", "INM_304", "IMS_304"}
