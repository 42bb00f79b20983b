"""Requests of the IIIF Image API as transforms: rows of ``tests/vectors/iiif.toml``, and what holds for all of them."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import TransformError
from assetserver.images.geometry import Size, lay_out
from assetserver.images.iiif import QUALITY, TILE, ImageRequest, describe_service, resolve_request
from assetserver.images.transform import LIMIT_SIDE, parse_transform

ROWS = tomllib.loads((Path(__file__).parents[1] / "vectors" / "iiif.toml").read_text("utf-8"))
WHOLE = Size(1000, 800)
SIZES = st.builds(Size, st.integers(1, 300_000), st.integers(1, 300_000))


def read(text: str) -> ImageRequest:
    region, size, rotation, last = text.split("/")
    return ImageRequest(region, size, rotation, *last.split("."))


@pytest.mark.parametrize("row", ROWS["request"], ids=lambda row: row["ask"])
def test_a_request_is_a_transform(row):
    found = resolve_request(read(row["ask"]), WHOLE)
    told = {name: value for name, value in row.items() if name not in ("ask", "size")}
    expected = {"region": "", "rotate": 0, "tone": "", "format": "jpeg"} | told
    assert {name: getattr(found, name) for name in expected} == expected
    assert [found.width, found.height] == row["size"]
    assert lay_out(WHOLE, found).canvas == tuple(row["size"])
    assert (found.quality, parse_transform(found.canonical)) == (QUALITY, found)


@pytest.mark.parametrize("row", ROWS["refusal"], ids=lambda row: row["ask"])
def test_what_is_no_request_is_refused_in_words(row):
    with pytest.raises(TransformError) as caught:
        resolve_request(read(row["ask"]), WHOLE)
    assert row["words"] in str(caught.value)


def test_a_picture_may_be_as_wide_as_it_likes():
    for region in ("pct:0,0,100,50", "0,0,250000000,1", "square"):
        found = resolve_request(ImageRequest(region, "max", "0", "default", "jpg"), Size(250_000_000, 2))
        assert max(found.width, found.height) <= LIMIT_SIDE
        assert parse_transform(found.canonical) == found


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=5), SIZES)
def test_no_text_does_anything_else_than_be_resolved_or_refused(region, size, rotation, whole):
    try:
        found = resolve_request(ImageRequest(region, size, rotation, "default", "jpg"), whole)
    except TransformError:
        return
    assert lay_out(whole, found).canvas == (found.width, found.height)


SIDES = st.integers(0, 400_000)


@given(st.tuples(SIDES, SIDES, SIDES, SIDES), SIDES, SIDES, st.sampled_from(["{},", ",{}", "{},{}", "!{},{}"]), SIZES)
def test_whatever_numbers_are_asked_for_nothing_is_enlarged_or_empty(region, width, height, form, whole):
    try:
        asked = ImageRequest(",".join(map(str, region)), form.format(width, height), "90", "default", "jpg")
        found = resolve_request(asked, whole)
    except TransformError:
        return
    left, top, across, down = region
    assert 1 <= found.height <= min(across, whole.width - left, LIMIT_SIDE)
    assert 1 <= found.width <= min(down, whole.height - top, LIMIT_SIDE)


@given(SIZES)
def test_every_size_and_tile_that_is_told_can_be_had(whole):
    told = describe_service("http://a/b", whole)
    for one in told["sizes"]:
        resolve_request(read(f"full/{one['width']},{one['height']}/0/default.jpg"), whole)
    (tiles,) = told["tiles"]
    for factor in tiles["scaleFactors"]:
        side = TILE * factor
        for left, top in ((0, 0), ((whole.width - 1) // side * side, (whole.height - 1) // side * side)):
            region = Size(min(side, whole.width - left), min(side, whole.height - top))
            size = Size(*(-(-one // factor) for one in region))
            resolve_request(
                read(f"{left},{top},{region.width},{region.height}/{size.width},{size.height}/0/default.jpg"), whole
            )
    assert max(whole) <= TILE * tiles["scaleFactors"][-1] or len(tiles["scaleFactors"]) == 8
