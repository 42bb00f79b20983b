"""Galleries: one for many tests of a module, and new ones."""

from collections.abc import Callable, Iterator

import pytest

from .galleries import Gallery


def _end(gallery: Gallery) -> None:
    try:
        assert "Traceback" not in gallery.read_log(), gallery.read_log()[-4000:]
    finally:
        gallery.kill()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    """One that runs for all tests of the module: each uploads pictures of its own."""
    one = Gallery(tmp_path_factory.mktemp("gallery"))
    one.start()
    yield one
    _end(one)


@pytest.fixture
def open_gallery(tmp_path) -> Iterator[Callable[..., Gallery]]:
    """``open_gallery(NAME=value, …)`` starts one with settings."""
    galleries = []

    def start(**env: str) -> Gallery:
        folder = tmp_path / f"gallery-{len(galleries)}"
        folder.mkdir()
        galleries.append(Gallery(folder, {f"ASSETSERVER_{name}": value for name, value in env.items()}))
        galleries[-1].start()
        return galleries[-1]

    yield start
    for one in galleries:
        _end(one)
