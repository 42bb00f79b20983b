"""The sample site keeps its own rule: the name of an asset begins the digest of its content."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest

STATIC = Path(__file__).parent.parent / "static"
VERSIONS = ["v1", "v2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_fingerprint_of_the_sample_is_true(version: str) -> None:
    assets = list((STATIC / version / "assets").iterdir())
    assert assets
    for asset in assets:
        fingerprint = asset.name.split(".")[1]
        assert sha256(asset.read_bytes()).hexdigest().startswith(fingerprint), asset.name


@pytest.mark.parametrize("version", VERSIONS)
def test_every_asset_that_the_sample_names_is_there(version: str) -> None:
    folder = STATIC / version
    named = set()
    for file in folder.rglob("*.*"):
        if file.suffix in {".html", ".css", ".js", ".webmanifest"}:
            named |= set(re.findall(r"[a-z]+\.[0-9a-f]{12}\.[a-z0-9]+", file.read_text()))
    assert named == {asset.name for asset in (folder / "assets").iterdir()}
