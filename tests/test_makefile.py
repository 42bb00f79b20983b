"""``make serve``: what it says works as it stands, and it never switches back what is live."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLE = "--config static/assetserver.toml"


@pytest.fixture
def serve(tmp_path, require):
    """``serve(listed, *words)`` runs the recipe with a program that lists ``listed``; returns stdout and what was called."""
    make, calls = require("make"), tmp_path / "calls"

    def run(listed, *words):
        program = tmp_path / "assetserver"
        program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1" = releases ] && printf "{listed}"\nexit 0\n')
        program.chmod(0o755)
        command = [make, "-s", "-o", ".venv/.serve", "serve", f"BIN={tmp_path}", *words]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
        return done.stdout, calls.read_text().splitlines()

    return run


def test_the_sample_is_published_where_nothing_is_live_and_then_served(serve):
    _, calls = serve("")
    assert [call.split()[0] for call in calls] == ["releases", "publish", "serve"]
    assert calls[-1] == f"serve {SAMPLE}"


def test_a_site_that_runs_is_not_switched_back(serve):
    _, calls = serve("* abc  second\\n  def  first\\n")
    assert [call.split()[0] for call in calls] == ["releases", "serve"]


@pytest.mark.parametrize(("words", "beginning"), [((), ""), (("PORT=9000",), "ASSETSERVER_SERVER__PORT=9000 ")])
def test_what_it_says_to_try_leads_to_the_same_server(serve, tmp_path, words, beginning):
    told, _ = serve("", *words)
    assert f"  {beginning}{tmp_path}/assetserver rollback {SAMPLE}\n" in told
    assert f"  {beginning}{tmp_path}/assetserver publish static/v2" in told
