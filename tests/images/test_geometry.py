import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.images.darkroom import plan_steps
from assetserver.images.geometry import Size, choose_widths, choose_window, fit_inside, lay_out, place
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


@given(SIDES, SIDES, st.integers(0, 4096), st.integers(0, 4096), st.sampled_from(["scale-down", "cover", "pad"]))
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
