"""A data folder, and a function that publishes files given as a dict."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from assetserver.releases.library import Library
from assetserver.releases.publish import PublishReport, publish_folder
from assetserver.storage.files import FileBlobs


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(str(tmp_path / "data"), FileBlobs(str(tmp_path / "data" / "blobs")))


@pytest.fixture
def publish(tmp_path: Path, library: Library) -> Callable[..., PublishReport]:
    """``publish({"a.js": b"…"})`` writes the files to a new folder, publishes it, and returns the report."""
    count = 0

    def publish_files(files: Mapping[str, bytes], **options: bool) -> PublishReport:
        nonlocal count
        count += 1
        root = tmp_path / f"build-{count}"
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return publish_folder(library, str(root), lambda *_: None, **options)

    return publish_files
