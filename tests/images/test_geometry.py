import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.images.darkroom import plan_steps
from assetserver.images.geometry import Size, choose_widths, choose_window, fit_inside, frame, lay_out, place
from assetserver.images.plan import LADDER, Plan
from assetserver.images.transform import Transform

SIDES = st.integers(1, 70_000)


@pytest.mark.parametrize(
    ("width", "widths"),
    [
        (1, (1,)),
        (320, (320,)),
        (321, (320, 321)),
        (1000, (320, 640, 960, 1000)),
        (1920, LADDER),
        (1921, LADDER),
        (6000, LADDER),
    ],
)
def test_a_ladder_never_enlarges(width, widths):
    assert choose_widths(width, LADDER) == widths


@pytest.mark.parametrize(
    ("size", "box", "result"),
    [
        ((6000, 4000), (320, 0), (320, 213)),
        ((4000, 3000), (1920, 0), (1920, 1440)),
        ((3000, 4000), (0, 400), (300, 400)),
        ((20000, 10), (1920, 0), (1920, 1)),
        ((10, 20000), (0, 0), (8, 16383)),
        ((100, 50), (320, 320), (100, 50)),
        ((3, 2), (2, 2), (2, 1)),
    ],
)
def test_sizes_are_exact(size, box, result):
    assert fit_inside(Size(*size), *box) == result


@given(SIDES, SIDES, st.integers(0, 4096), st.integers(0, 4096), st.sampled_from(["scale-down", "cover", "pad", "squeeze"]))
def test_nothing_is_enlarged_or_empty(width, height, across, down, fit):
    if fit != "scale-down":
        across, down = max(1, across), max(1, down)
    layout = lay_out(Size(width, height), Transform(width=across, height=down, fit=fit))
    assert 1 <= layout.scaled.width <= min(width, across or width)
    assert 1 <= layout.scaled.height <= min(height, down or height)
    assert layout.shape.width <= width
    assert layout.shape.height <= height
    assert layout.scaled.width <= layout.canvas.width


@given(SIDES, SIDES, st.floats(0, 1), st.floats(0, 1), st.data())
def test_a_crop_is_inside_the_picture(width, height, across, down, data):
    shape = Size(data.draw(st.integers(1, width)), data.draw(st.integers(1, height)))
    left, top, right, bottom = place(Size(width, height), shape, (across, down))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (right - left, bottom - top) == shape


def test_a_crop_is_around_the_focal_point():
    assert place(Size(1000, 500), Size(500, 500), (0.0, 0.5)) == (0, 0, 500, 500)
    assert place(Size(1000, 500), Size(500, 500), (0.5, 0.5)) == (250, 0, 750, 500)
    assert place(Size(1000, 500), Size(500, 500), (0.9, 0.5)) == (500, 0, 1000, 500)


def test_the_window_is_where_most_is_and_else_in_the_middle():
    assert choose_window([0, 0, 5, 5, 0], 2) == 2
    assert choose_window([1.0] * 9, 3) == 3
    assert choose_window([1.0], 1) == 0


def test_a_ladder_of_crops_keeps_the_proportions():
    plan = Plan(transform=Transform(width=16, height=9, fit="cover"))
    sizes = [step.layout.canvas for step in plan_steps(Size(3000, 3000), plan)]
    assert sizes == [(1920, 1080), (1280, 720), (960, 540), (640, 360), (320, 180)]


def test_no_size_is_made_twice():
    sizes = [step.layout.canvas for step in plan_steps(Size(1000, 60_000), Plan())]
    assert sizes == [(273, 16383)]


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ("", (0, 0, 100, 50)),
        ("10x20x30x40", (10, 20, 40, 50)),
        ("99x49x1x1", (99, 49, 100, 50)),
        ("0x0x99999x99999", (0, 0, 100, 50)),
    ],
)
def test_a_region_counts_as_far_as_it_is_inside(region, box):
    assert frame(Size(100, 50), Transform(region=region)) == box


@pytest.mark.parametrize("region", ["100x0x1x1", "0x50x1x1"])
def test_a_region_outside_is_none(region):
    with pytest.raises(ValueError, match=r"lies outside of a picture of 100 . 50 pixels"):
        lay_out(Size(100, 50), Transform(region=region))


@pytest.mark.parametrize(
    ("transform", "scaled"),
    [
        (Transform(rotate=90), (50, 100)),
        (Transform(rotate=180, width=50), (50, 25)),
        (Transform(rotate=270, width=25), (25, 50)),
        (Transform(region="0x0x40x20", width=20), (20, 10)),
        (Transform(region="0x0x40x20", rotate=90, width=10), (10, 20)),
        (Transform(width=30, height=40, fit="squeeze"), (30, 40)),
        (Transform(width=300, height=40, fit="squeeze"), (100, 40)),
        (Transform(region="0x0x40x20", rotate=90, width=10, height=10, fit="cover"), (10, 10)),
    ],
)
def test_a_region_is_cut_and_turned_before_it_is_scaled(transform, scaled):
    assert lay_out(Size(100, 50), transform).scaled == scaled
