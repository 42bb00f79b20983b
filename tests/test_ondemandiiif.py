"""The IIIF Image API of a real server: the validator's list for level 2, with a picture of coloured squares as it has one.

Source: https://github.com/IIIF/image-validator; what sizes and regions mean has rows in ``tests/vectors/iiif.toml``.
"""

from __future__ import annotations

import itertools
import json
import random
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageStat

from assetserver.app import create_app
from assetserver.errors import SettingsError
from assetserver.settings import load_settings

from .picturesites import Got, Site, call, encode, make_token, start_site, wait_for

SIDE, STEP, NEAR = 1000, 100, 6
"""The picture's side, that of a square, and how far a colour may be off, of 255: those of the validator."""

pick = random.Random(3)  # noqa: S311 - the same every time
COLOURS = {place: tuple(pick.randrange(256) for _ in range(3)) for place in itertools.product(range(10), range(10))}


@pytest.fixture(scope="module")
def site(start_shared_program, tmp_path_factory):
    squares = Image.new("RGB", (SIDE, SIDE))
    for (across, down), colour in COLOURS.items():
        squares.paste(colour, (across * STEP, down * STEP, (across + 1) * STEP, (down + 1) * STEP))
    env = {
        "ASSETSERVER_IMAGES__IIIF": "true",
        "ASSETSERVER_COLLECTIONS": json.dumps([{"name": "closed", "access": "signed"}]),
    }
    found = start_site(start_shared_program, tmp_path_factory.mktemp("iiif"), encode(squares, "PNG"), env)
    folder = found.folder / "site" / "squares"
    folder.mkdir()
    (folder / "a b.png").write_bytes(encode(squares, "PNG"))
    call(found.folder, "publish", found.folder / "site", "--prod")
    wait_for(lambda: found.get("/squares/a%20b.png").status == 200, "the release")
    return found


def ask(site: Site, what: str, fields: dict[str, str] | None = None, name: str = "squares%2Fa%20b.png") -> Got:
    return site.get(f"/iiif/3/{name}/{what}", fields)


def is_near(image: Image.Image, box: tuple[int, int, int, int], square: tuple[int, int]) -> bool:
    """Tell whether the middle of ``box`` has the colour of a square."""
    width, height = box[2] - box[0], box[3] - box[1]
    middle = (box[0] + width // 5, box[1] + height // 5, box[2] - width // 5, box[3] - height // 5)
    means = ImageStat.Stat(image.convert("RGB").crop(middle)).mean
    return all(abs(one - other) <= NEAR for one, other in zip(means, COLOURS[square], strict=True))


@pytest.mark.parametrize(
    ("what", "kind", "size", "corners"),
    [
        ("full/max/0/default.jpg", "JPEG", (1000, 1000), ((0, 0), (9, 9))),
        ("full/max/0/color.png", "PNG", (1000, 1000), ((0, 0), (9, 9))),
        ("full/max/0/default.webp", "WEBP", (1000, 1000), ((0, 0), (9, 9))),
        ("full/500,/0/default.jpg", "JPEG", (500, 500), ((0, 0), (9, 9))),
        ("full/,400/0/default.jpg", "JPEG", (400, 400), ((0, 0), (9, 9))),
        ("full/350,700/0/default.jpg", "JPEG", (350, 700), ((0, 0), (9, 9))),
        ("full/!500,700/0/default.jpg", "JPEG", (500, 500), ((0, 0), (9, 9))),
        ("full/pct:70/0/default.jpg", "JPEG", (700, 700), ((0, 0), (9, 9))),
        ("300,400,200,100/max/0/default.jpg", "JPEG", (200, 100), ((3, 4), (4, 4))),
        ("pct:30,40,20,10/max/0/default.jpg", "JPEG", (200, 100), ((3, 4), (4, 4))),
        ("300,400,200,100/100,/0/default.jpg", "JPEG", (100, 50), ((3, 4), (4, 4))),
        ("square/max/0/default.jpg", "JPEG", (1000, 1000), ((0, 0), (9, 9))),
        ("full/max/90/default.jpg", "JPEG", (1000, 1000), ((0, 9), (9, 0))),
        ("full/max/180/default.jpg", "JPEG", (1000, 1000), ((9, 9), (0, 0))),
        ("full/max/270/default.jpg", "JPEG", (1000, 1000), ((9, 0), (0, 9))),
        ("300,400,200,100/max/90/default.jpg", "JPEG", (100, 200), ((3, 4), (4, 4))),
    ],
)
def test_regions_sizes_rotations_and_formats_are_those_that_are_asked_for(site, what, kind, size, corners):
    got = ask(site, what)
    image = got.open()
    assert (got.status, image.format, image.size) == (200, kind, size)
    assert (got["access-control-allow-origin"], got["vary"]) == ("*", "")
    region = what.split("/", 1)[0]
    across, down = (2, 1) if region[0] in "3p" else (10, 10)
    if "/90/" in what or "/270/" in what:
        across, down = down, across
    width, height = size[0] // across, size[1] // down
    assert is_near(image, (0, 0, width, height), corners[0])
    assert is_near(image, (size[0] - width, size[1] - height, *size), corners[1])


def test_qualities_take_colours(site):
    grey = ask(site, "full/max/0/gray.png").open().convert("RGB")
    assert all(colour[0] == colour[1] == colour[2] for _, colour in grey.getcolors())
    bitonal = ask(site, "full/max/0/bitonal.png").open().convert("RGB")
    assert {colour for _, colour in bitonal.getcolors()} <= {(0, 0, 0), (255, 255, 255)}


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("whatever/max/0/default.jpg", 400),
        ("full/whatever/0/default.jpg", 400),
        ("full/max/whatever/default.jpg", 400),
        ("full/max/0/whatever.jpg", 400),
        ("full/max/0/default.what", 400),
        ("full/max/0/default", 400),
        ("full/1100,/0/default.jpg", 400),
        ("full/!2000,3000/0/default.jpg", 400),
        ("1000,0,10,10/max/0/default.jpg", 400),
        ("full/max/0", 404),
        ("full/max/0/0/default.jpg", 404),
    ],
)
def test_what_is_no_request_is_told_so(site, what, status):
    for _ in range(2):
        got = ask(site, what)
        assert (got.status, got["access-control-allow-origin"]) == (status, "*")
        assert got.problem()["detail"]


@pytest.mark.parametrize(
    "name", ["missing", "a/b", "%5Bfrob%5D", "[frob]", "..%2F..%2Fetc%2Fpasswd", "%00", "a%5Cb", "squares"]
)
def test_an_identifier_that_names_nothing_is_missing(site, name):
    assert ask(site, "full/max/0/default.jpg", name=name).status in (400, 404)
    assert ask(site, "info.json", name=name).status in (400, 404)


PARTS = st.text("0123456789,:.!^%pctfulmaxsqre-/é\x00", max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.tuples(PARTS, PARTS, PARTS, PARTS), st.sampled_from(["squares%2Fa%20b.png", "text.jpg", "none"]))
def test_whatever_is_asked_for_the_answer_is_none_of_a_broken_server(site, parts, name):
    what = "/".join(quote(part, safe="%,:.!^/") for part in parts)
    got = ask(site, what, name=name)
    assert got.status in (200, 303, 308, 400, 404, 422), (what, got.content)
    assert "Traceback" not in site.program.read_log()


def test_identifiers_may_be_encoded_more_than_they_need(site):
    assert ask(site, "full/50,/0/default.jpg", name="squ%61res%2fa%20b%2Epng").open().size == (50, 50)


def test_what_is_known_of_a_picture_is_told(site):
    got = ask(site, "info.json", {"Host": "pictures.example"})
    info = json.loads(got.content)
    assert info["id"] == "http://pictures.example/iiif/3/squares%2Fa%20b.png"
    assert (info["width"], info["height"], info["profile"], info["type"]) == (SIDE, SIDE, "level2", "ImageService3")
    assert (got["content-type"], got["access-control-allow-origin"], got["vary"]) == ("application/json", "*", "Accept")
    assert got["link"] == '<http://iiif.io/api/image/3/level2.json>;rel="profile"'
    linked = ask(site, "info.json", {"Accept": "application/ld+json"})
    assert linked["content-type"] == 'application/ld+json;profile="http://iiif.io/api/image/3/context.json"'
    base = site.get("/iiif/3/squares%2Fa%20b.png")
    assert (base.status, base["location"]) == (303, "/iiif/3/squares%2Fa%20b.png/info.json")


def test_sizes_are_of_the_picture_as_it_is_seen(site):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = site.upload(make_token(site.folder), "turned.jpg", encode(Image.new("RGB", (400, 300)), "JPEG", exif=exif))
    name = path.removeprefix("/").replace("/", "%2F")
    info = json.loads(ask(site, "info.json", name=name).content)
    assert (info["width"], info["height"]) == (300, 400)
    assert ask(site, "0,300,300,100/max/0/default.jpg", name=name).open().size == (300, 100)


def test_who_may_not_read_a_picture_gets_nothing_of_it(site, tmp_path):
    path = site.upload(make_token(site.folder), "secret.png", encode(Image.new("RGB", (50, 40)), "PNG"), "closed")
    for what in ("info.json", "full/max/0/default.jpg"):
        assert ask(site, what, name=path.removeprefix("/").replace("/", "%2F")).status == 403


def test_nothing_is_served_to_everybody_where_all_wants_a_signature(tmp_path):
    env = dict.fromkeys(("ASSETSERVER_IMAGES__ON_DEMAND", "ASSETSERVER_IMAGES__IIIF", "ASSETSERVER_IMAGES__SIGNED"), "true")
    with pytest.raises(SettingsError, match=r"images\.iiif serves everybody"):
        create_app(load_settings(None, {**env, "ASSETSERVER_DATA": str(tmp_path)}))
