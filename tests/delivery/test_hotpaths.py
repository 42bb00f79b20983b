"""The short way forgets what it may not hold, and repeats nothing that is no longer known."""

from collections.abc import Callable

import pytest

from assetserver.delivery.hotpaths import HotPaths
from assetserver.delivery.livefolder import Entry
from assetserver.delivery.memory import MemoryCache
from assetserver.delivery.probe import MISSING
from assetserver.semantics.representation import Asset
from assetserver.semantics.respond import AssetResponses

RESPONSES = AssetResponses(Asset(()))


@pytest.fixture
def hot(clock) -> HotPaths:
    class Nothing:
        clock_s = clock

        def get(self, path: str) -> None:
            return None

    return HotPaths(Nothing(), MemoryCache(), ())


@pytest.fixture
def remember(hot, make_scope) -> Callable[[str], None]:
    return lambda path: hot.remember(make_scope(path), Entry("index.html", MISSING, 1000.0), RESPONSES, 1001.0)


def test_their_number_is_bounded(hot, remember):
    for number in range(10_000):
        remember(f"/{number}")
    assert len(hot) == 3072


@pytest.mark.parametrize(
    ("path", "remembered"), [("/" + "x" * 511, 1), ("/" + "x" * 512, 0), ("/" + "%C3%A9" * 255, 1), ("/" + "%C3%A9" * 256, 0)]
)
def test_a_long_one_is_not_remembered(hot, remember, path, remembered):
    remember(path)
    assert len(hot) == remembered


def test_one_with_a_long_raw_path_or_mount_is_not_remembered(hot, make_scope):
    """Middleware may have rewritten one part and not the others."""
    entry = Entry("index.html", MISSING, 1000.0)
    hot.remember(make_scope("/a") | {"raw_path": b"/" + b"x" * 10_000}, entry, RESPONSES, 1001.0)
    hot.remember(make_scope("/a", root_path="/" + "x" * 1000), entry, RESPONSES, 1001.0)
    assert len(hot) == 0


def test_an_entry_that_was_replaced_is_not_repeated(make_site):
    site = make_site({"image.png": b"old"})
    assert [site.get("/image.png").body for _ in range(2)] == [b"old"] * 2
    site.write("image.png", b"new")
    site.app.folder.distrust("image.png")
    assert site.app.folder.load("image.png").probe.signature.size == 3
    assert site.get("/image.png").body == b"new"
