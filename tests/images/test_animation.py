import io

import pytest
from PIL import Image, ImageSequence

from assetserver.images.plan import Plan
from assetserver.images.transform import parse_transform

COLOURS = ("red", "green", "blue", "white")
SHOWN_MS = [100, 200, 300, 400]


def animate(kind: str, **options) -> bytes:
    frames = [Image.new("RGB", (400, 300), colour) for colour in COLOURS]
    file = io.BytesIO()
    frames[0].save(file, kind.upper(), save_all=True, append_images=frames[1:], duration=SHOWN_MS, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "avif"])
def test_what_moves_becomes_webp_that_moves_and_a_still(make, kind):
    made = make(animate(kind, loop=0), Plan(widths=(200,)))
    assert made.picture.frames == 4
    assert {(one.format, one.frames) for one in made.picture.variants} <= {("webp", 4), ("png", 1), ("jpeg", 1)}
    movie = made.open("webp")
    shown = [(frame.convert("RGB").getpixel((100, 75)), frame.info["duration"]) for frame in ImageSequence.Iterator(movie)]
    assert movie.size == (200, 150)
    assert [duration for _, duration in shown] == SHOWN_MS
    for colour, wanted in zip(
        (colour for colour, _ in shown), ((255, 0, 0), (0, 128, 0), (0, 0, 255), (255,) * 3), strict=True
    ):
        assert colour == pytest.approx(wanted, abs=6)
    assert movie.info["loop"] == 0


def test_how_often_a_gif_is_shown_is_kept(make):
    plan = Plan(widths=(100,), formats=("webp",))
    assert make(animate("gif"), plan).open("webp").info["loop"] == 1
    assert make(animate("gif", loop=3), plan).open("webp").info["loop"] == 4


def test_anim_false_is_the_first_frame_in_every_format(make):
    made = make(animate("gif"), Plan(widths=(100,), transform=parse_transform("anim=false")))
    assert [(one.format, one.frames) for one in made.picture.variants] == [("png", 1), ("webp", 1), ("avif", 1)]


def test_every_width_of_a_ladder_moves(make):
    made = make(animate("webp"), Plan(widths=(50, 100, 200)))
    assert [(one.width, one.frames) for one in made.picture.variants if one.format == "webp"] == [(200, 4), (100, 4), (50, 4)]


def test_hasty_frames_last_as_long_as_browsers_show_them(make):
    frames = [Image.new("RGB", (40, 30), colour) for colour in COLOURS]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=10)
    movie = make(file.getvalue(), Plan(widths=(40,), formats=("webp",))).open("webp")
    assert [frame.convert("RGB").info["duration"] for frame in ImageSequence.Iterator(movie)] == [100] * 4
