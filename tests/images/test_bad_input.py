"""What people and attackers send instead of a picture: each ends with a reason that a person understands, or with a picture."""

import io
import random
import struct
import zlib

import pytest
from conftest import chunk
from PIL import Image, PngImagePlugin

from assetserver.errors import PictureRefusedError
from assetserver.images.admission import Limits
from assetserver.images.plan import Plan
from assetserver.images.studio import Studio
from assetserver.images.transform import Transform

FORMATS = {
    "jpeg": {"quality": 90},
    "progressive": {"quality": 90, "progressive": True},
    "png": {},
    "webp": {"quality": 90},
    "lossless": {"lossless": True},
    "avif": {"speed": 9},
    "gif": {},
}
PILLOW = {"progressive": "JPEG", "lossless": "WEBP"}
QUICK = Plan(widths=(64,), formats=("base",))


def encode(image: Image.Image, kind: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, PILLOW.get(kind, kind.upper()), **{**FORMATS.get(kind, {}), **options})
    return file.getvalue()


def refuse(make, source, plan=QUICK, **options) -> str:
    with pytest.raises(PictureRefusedError) as caught:
        make(source, plan, **options)
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 250
    return caught.value.reason


@pytest.fixture(scope="module")
def small() -> Image.Image:
    gradient = Image.linear_gradient("L").resize((120, 80))
    return Image.merge("RGB", (gradient, gradient.rotate(180), Image.effect_noise((120, 80), 50)))


# --- Bombs -------------------------------------------------------------------------------------------------------------------


def test_a_pixel_bomb_is_refused_by_its_header(make, make_png):
    bomb = make_png(13_000, 13_000)
    assert len(bomb) < 100_000
    assert refuse(make, bomb) == "13000 × 13000 pixels are 169.0 megapixels; the limit is 50"  # noqa: RUF001 - as people write it


def test_a_picture_at_the_limit_is_let_in(make, make_png):
    made = make(make_png(7_071, 7_071), QUICK)
    assert made.list_sizes("jpeg") == [(64, 64)]


def test_a_scan_bomb_is_refused_by_counting(make):
    """The last scan of a progressive JPEG once more, five hundred times: Pillow would work on 64 megapixels for each."""
    flat = encode(Image.new("L", (4000, 4000), 90), "progressive")
    last = flat.rindex(b"\xff\xda")
    bomb = flat[:last] + flat[last:-2] * 500 + b"\xff\xd9"
    assert refuse(make, bomb) == "the JPEG has more than 100 scans; those of cameras and editors have about 10"


def test_a_file_of_a_thousand_frames_too_many_is_refused(make):
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"
    bomb = b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + frame * 2_000 + b";"
    assert refuse(make, bomb) == "the animation has 2,000 frames; the limit is 1,000"


def test_a_frame_bomb_is_refused_by_all_its_pixels(make):
    frames = [Image.new("P", (2000, 2000), number) for number in range(30)]
    bomb = encode(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert len(bomb) < 300_000
    assert refuse(make, bomb) == "30 frames of 4.00 megapixels are more than the 50 that an animation may have"


@pytest.mark.parametrize("block", [b"\xff\xfe\0\2", b"\x21\xfe\0"], ids=["jpeg", "gif"])
def test_a_header_without_end_is_given_up(make, block):
    head = b"\xff\xd8" if block[0] == 0xFF else b"GIF89a\1\0\1\0\0\0\0"
    assert "to be a picture" in refuse(make, head + block * 1_100_000)


def test_a_png_that_unpacks_to_gigabytes_of_text_is_refused(make, make_png):
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))
    assert "MAX_TEXT_CHUNK" in refuse(make, make_png(8, 8, text))


def test_a_file_too_large_is_not_even_read(make, make_png, tmp_path):
    with Studio(Limits(source_bytes=1 << 20)) as studio:
        reason = refuse(make, make_png(8, 8) + bytes(2 << 20), by=studio)
    assert reason == "the file has 2.0 MiB; the limit for pictures is 1"


# --- Sizes that lie ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(65_535, 65_535), (0xFFFFFFFF, 1), (0, 5), (1 << 31, 1 << 31)])
def test_absurd_dimensions_of_an_avif_are_refused(make, small, width, height):
    picture = encode(small, "avif")
    at = picture.index(b"ispe") + 8
    reason = refuse(make, picture[:at] + struct.pack(">II", width, height) + picture[at + 8 :])
    assert "megapixels" in reason or "does not tell its size" in reason


def test_an_avif_is_no_larger_than_it_says(make, small):
    picture = encode(small, "avif")
    at = picture.index(b"ispe") + 8
    made = make(picture[:at] + struct.pack(">II", 12, 8) + picture[at + 8 :], QUICK)
    assert (made.picture.width, made.picture.height) == (12, 8)


def test_a_gif_whose_frame_is_larger_than_its_screen_is_counted_by_the_frame(make):
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + b"\0\x02\x02\x44\x01\0"
    assert "megapixels" in refuse(make, b"GIF89a" + struct.pack("<HH", 1, 1) + b"\x80\0\0" + bytes(6) + frame + b";")


def test_a_jpeg_that_says_another_size_later_is_taken_at_its_first(make, small):
    picture = encode(small, "jpeg")
    at = picture.index(b"\xff\xc0") + 5
    assert "megapixels" in refuse(make, picture[:at] + struct.pack(">HH", 65_000, 65_000) + picture[at + 4 :])


# --- Damage ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_refused(make, small, kind):
    picture = encode(small, kind)
    for share in (0.1, 0.5, 0.9):
        reason = refuse(make, picture[: int(len(picture) * share)])
        assert reason.startswith(("the picture is damaged", "the picture has no"))


@pytest.mark.parametrize("kind", FORMATS)
def test_flipped_bits_end_in_a_picture_or_a_reason(make, small, kind):
    picture = encode(small, kind)
    pick = random.Random(kind)  # noqa: S311 - the same every time
    for _ in range(25):
        damaged = bytearray(picture)
        for _ in range(pick.choice([1, 1, 3, 10])):
            damaged[pick.randrange(len(damaged))] ^= 1 << pick.randrange(8)
        try:
            made = make(bytes(damaged), QUICK)
        except PictureRefusedError as error:
            assert error.reason.isprintable()  # noqa: PT017 - either is right
        else:
            assert made.picture.variants


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"\0\0\0 ftypavif"]
)
def test_a_file_that_is_only_a_beginning_is_refused(make, content):
    reason = refuse(make, content)
    assert reason.startswith(("the picture is damaged", "the file is empty", "this is no picture"))


# --- What it is not ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG needs no other sizes: it is kept and served as it is"),
        (
            b"<?xml version='1.0'?>\n<!-- a -->\n<!DOCTYPE svg><svg/>",
            "an SVG needs no other sizes: it is kept and served as it is",
        ),
        (b"%PDF-1.7\n", "this is a PDF; pictures are made of JPEG, PNG, WebP, AVIF and GIF"),
        (b"II*\0", "this is a TIFF; pictures are made of JPEG, PNG, WebP, AVIF and GIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "this is a HEIC; pictures are made of JPEG, PNG, WebP, AVIF and GIF"),
        (b"<!doctype html>", "this is no picture that is known here; pictures are made of JPEG, PNG, WebP, AVIF and GIF"),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(make, content, reason):
    assert refuse(make, content) == reason


def test_an_extension_says_nothing(make, small, tmp_path):
    path = tmp_path / "photo.gif"
    path.write_bytes(encode(small, "jpeg"))
    assert make(path, QUICK).picture.format == "jpeg"


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "avif"])
def test_nothing_of_a_polyglot_gets_through(make, small, kind):
    polyglot = encode(small, kind) + b"<script>alert(1)</script>PK\3\4"
    made = make(polyglot)
    for path in made.folder.iterdir():
        assert b"<script>" not in path.read_bytes()


def test_a_polyglot_that_begins_as_something_else_is_that(make, small):
    assert refuse(make, b"%PDF-1.4\n" + encode(small, "jpeg")).startswith("this is a PDF")


# --- Unusual, but pictures ---------------------------------------------------------------------------------------------------


def test_cmyk_becomes_rgb_with_a_note(make, small):
    made = make(encode(small.convert("CMYK"), "jpeg"), QUICK)
    assert made.open("jpeg").mode == "RGB"
    assert made.picture.notes == ("its colours are approximate: it is CMYK without a profile",)


@pytest.mark.parametrize(("value", "seen"), [(0, 0), (0x8000, 128), (0xFFFF, 255)])
def test_sixteen_bits_keep_their_brightness(make, value, seen):
    made = make(encode(Image.new("I;16", (50, 40), value)), QUICK)
    assert made.open("jpeg").getpixel((25, 20)) == pytest.approx((seen,) * 3, abs=1)


def test_a_palette_with_transparency_stays_transparent(make):
    image = Image.new("P", (100, 100), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 50, 100))
    made = make(encode(image, transparency=0), Plan(widths=(50,)))
    assert made.picture.has_alpha
    for kind in ("png", "webp", "avif"):
        found = made.open(kind).convert("RGBA")
        assert found.getpixel((5, 25))[3] < 10
        assert found.getpixel((45, 25)) == pytest.approx((0, 0, 255, 255), abs=8)


def test_transparent_colours_do_not_bleed(make):
    """Red that nobody sees beside white that everybody does: premultiplied, the edge has no red in it."""
    image = Image.new("RGBA", (400, 400), (255, 0, 0, 0))
    image.paste((255, 255, 255, 255), (200, 0, 400, 400))
    made = make(encode(image), Plan(widths=(30,), formats=("png",)))
    seen = [made.open("png").getpixel((across, 15)) for across in range(30)]
    assert all(green > 240 for _, green, _, alpha in seen if alpha > 25)


@pytest.mark.parametrize("kind", FORMATS)
def test_one_pixel_is_a_picture(make, kind):
    made = make(encode(Image.new("RGB", (1, 1), "teal"), kind))
    assert {(one.width, one.height) for one in made.picture.variants} == {(1, 1)}


def test_a_line_of_twenty_thousand_pixels_is_a_picture(make):
    made = make(encode(Image.new("RGB", (20_000, 10), "teal"), "png"))
    assert made.list_sizes("jpeg") == [(1920, 1), (1280, 1), (960, 1), (640, 1), (320, 1)]
    tall = make(encode(Image.new("RGB", (10, 20_000), "teal"), "png"))
    assert tall.list_sizes("webp") == [(8, 16383)]


@pytest.mark.parametrize("profile", [b"x", bytes(128), b"acsp" * 100, random.Random(1).randbytes(3000)])  # noqa: S311 - so
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif"])
def test_a_broken_colour_profile_is_left_out(make, small, kind, profile):
    made = make(encode(small, kind, icc_profile=profile), QUICK)
    assert made.picture.notes == ("its colour profile is broken, and was left out",)
    assert made.open("jpeg").info.get("icc_profile") is None


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1" * 40]
)
@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_broken_exif_does_no_harm(make, small, kind, exif):
    made = make(encode(small, kind, exif=exif), QUICK)
    assert made.list_sizes("jpeg")


def test_an_orientation_that_does_not_exist_is_none(make, small):
    exif = Image.Exif()
    exif[0x0112] = 99
    assert make(encode(small, "jpeg", exif=exif), QUICK).list_sizes("jpeg") == [(64, 43)]


def test_too_little_memory_is_told_and_kills_nobody(make, make_png):
    with Studio(Limits(memory_bytes=64 << 20, large_memory_bytes=64 << 20)) as studio, pytest.raises(Exception, match="memory"):
        make(make_png(7000, 7000), by=studio)


def test_endless_processor_time_is_cut(make, make_png):
    noise = Image.effect_noise((3000, 3000), 90)
    with Studio(Limits(cpu_s=1)) as studio, pytest.raises(Exception, match="1 s of processor time"):
        make(encode(noise, "png"), Plan(transform=Transform(quality=100)), by=studio)


def test_text_of_a_png_is_no_part_of_a_reason(make, small):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "secret")
    picture = encode(small, "png", pnginfo=info)
    assert "secret" not in refuse(make, picture[:-200])
