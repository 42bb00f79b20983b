"""Which kind of picture each ``Accept`` gets."""

import pytest

from assetserver.semantics.picturetypes import select_picture_class

CHROMIUM = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
FIREFOX = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"
SAFARI_14 = "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (CHROMIUM, "avif"),
        (FIREFOX, "avif"),
        (SAFARI_14, "webp"),
        (None, "base"),
        ("", "base"),
        ("*/*", "base"),
        ("image/*", "base"),
        ("image/jpeg", "base"),
        ("IMAGE/AVIF", "avif"),
        ("image/avif;q=0, image/webp", "webp"),
        ("image/avif;q=0.001", "avif"),
        ("image/avif;q=2", "base"),
        ("image/avif; Q=0", "base"),
        ("image/avif;v=1;q=0.5", "avif"),
        ("image/webp;q=1, image/avif;q=0.1", "avif"),
        ('"image/avif"', "base"),
        ("image/avif" * 2000, "base"),
    ],
)
def test_accept_gets_the_best_that_it_names(accept, kind):
    assert select_picture_class(accept) == kind
