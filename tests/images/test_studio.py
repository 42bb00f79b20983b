"""What comes out: sizes, formats, colours, the right way up, and nothing that was said in the file."""

import base64
import io
import struct

import pytest
from PIL import Image, ImageChops, ImageCms, ImageFilter, ImageStat, PngImagePlugin

from assetserver.errors import PictureRefusedError
from assetserver.images.admission import estimate_bytes
from assetserver.images.headers import Facts
from assetserver.images.plan import Plan, Qualities
from assetserver.images.transform import parse_transform

ORIENTATION, ARTIST, COPYRIGHT, GPS = 0x0112, 0x013B, 0x8298, 0x8825
BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What turns an upright picture into one that is stored with an orientation."""
LOSSLESS = Plan(widths=(300,), formats=("png",))


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind.upper(), **options)
    return file.getvalue()


def differ(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures of one size, in levels of 255."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return sum(means) / 3


def crop_plan(text: str, kind: str = "png") -> Plan:
    return Plan(transform=parse_transform(text), widths=(), formats=(kind,))


# --- Sizes and formats -------------------------------------------------------------------------------------------------------


def test_a_photograph_becomes_a_ladder_in_three_formats(make, photo):
    made = make(encode(photo.resize((2400, 1600)), "jpeg"))
    steps = [(1920, 1280), (1280, 853), (960, 640), (640, 427), (320, 213)]
    for kind in ("jpeg", "webp", "avif"):
        assert made.list_sizes(kind) == steps
        for width, _ in steps:
            assert differ(made.open(kind, width), photo.resize(made.open(kind, width).size)) < 4
    assert len(made.picture.variants) == 15
    assert (made.picture.width, made.picture.height, made.picture.has_alpha) == (2400, 1600, False)
    assert made.open("jpeg", 640).info["progressive"]


def test_nothing_is_enlarged(make, photo):
    assert make(encode(photo, "jpeg")).list_sizes("webp") == [(900, 600), (640, 427), (320, 213)]


def test_transparency_is_png_for_old_clients_and_a_background_fills_it(make, photo):
    photo.putalpha(Image.radial_gradient("L").resize(photo.size))
    made = make(encode(photo, "png"), Plan(widths=(320,)))
    assert [variant.format for variant in made.picture.variants] == ["png", "webp", "avif"]
    assert made.picture.has_alpha
    filled = make(encode(photo, "png"), Plan(widths=(320,), transform=parse_transform("background=fff")))
    assert [variant.format for variant in filled.picture.variants] == ["jpeg", "webp", "avif"]


def test_transparency_that_hides_nothing_is_none(make, photo):
    made = make(encode(photo.convert("RGBA"), "webp", lossless=True), Plan(widths=(320,)))
    assert not made.picture.has_alpha
    assert made.list_sizes("jpeg") == [(320, 213)]


def test_a_drawing_with_a_palette_stays_one(make, photo):
    made = make(encode(photo.quantize(16), "png"), Plan(widths=(320,)))
    assert made.open("png").mode == "P"


def test_quality_is_that_of_the_transform_or_of_the_plan(make, photo):
    source = encode(photo, "jpeg")
    best, worst = (
        make(source, Plan(widths=(320,), formats=("webp",), transform=parse_transform(f"quality={one}"))) for one in (95, 5)
    )
    usual = make(source, Plan(widths=(320,), formats=("webp",), qualities=Qualities(webp=95)))
    sizes = [made.picture.variants[0].size for made in (best, worst, usual)]
    assert sizes[0] == sizes[2] > 2 * sizes[1]


def test_the_same_plan_gives_the_same_bytes(make, photo):
    source = encode(photo, "jpeg")
    one, other = make(source), make(source)
    assert one.picture == other.picture
    assert [(one.folder / name.name).read_bytes() for name in sorted(one.folder.iterdir())] == [
        name.read_bytes() for name in sorted(other.folder.iterdir())
    ]


def test_a_quarter_is_decoded_where_a_quarter_is_enough(make, studio, photo, tmp_path):
    path = tmp_path / "large.jpg"
    photo.resize((6000, 4000)).save(path, quality=92)
    (tmp_path / "made").mkdir()
    developed = studio.make(str(path), Plan(widths=(640,), formats=("base",)), str(tmp_path / "made"))
    assert developed.peak_bytes < 60 << 20  # 96 MB alone are 24 megapixels


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_halving_takes_from_edges_is_given_back(make, mode):
    texture = Image.effect_noise((1200, 800), 60).filter(ImageFilter.GaussianBlur(1))
    content = encode(texture.convert(mode), "jpeg", quality=95)
    found = make(content, Plan(widths=(384,), formats=("png",))).open("png")
    stored, halved = (Image.open(io.BytesIO(content)) for _ in range(2))
    halved.draft(None, found.size)
    exact, plain = (one.resize(found.size, Image.Resampling.LANCZOS) for one in (stored, halved))
    assert halved.size == (600, 400)
    assert differ(found, exact) < 0.85 * differ(plain, exact)


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "avif"])
def test_fifty_megapixels_fit_into_what_is_allowed_for_them(kind):
    assert estimate_bytes(Facts(kind, 10_000, 5_000, is_progressive=kind == "jpeg")) <= 1 << 30


# --- Crops -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_gravity_auto_finds_where_there_is_something_to_see(make, photo, side):
    image = Image.new("RGB", (1200, 400), "white")
    image.paste(photo.resize((300, 400)), (0 if side == "left" else 900, 0))
    found = make(encode(image, "png"), crop_plan("width=300,height=400,fit=cover,gravity=auto")).open("png")
    assert found.size == (300, 400)
    white = sum(count for count, colour in found.getcolors(1 << 20) if colour == (255, 255, 255))
    assert white / (300 * 400) < 0.1


def test_a_focal_point_leads_the_crop(make):
    image = Image.new("RGB", (900, 300), "white")
    image.paste("teal", (600, 0, 900, 300))
    for gravity, colour in (("right", (0, 128, 128)), ("left", (255, 255, 255)), ("0.9x0.5", (0, 128, 128))):
        found = make(encode(image, "png"), crop_plan(f"width=200,height=200,fit=cover,gravity={gravity}")).open("png")
        assert found.getpixel((100, 100)) == colour


def test_a_crop_of_a_jpeg_is_as_sharp_as_it_can_be(make, photo):
    wide = photo.resize((4000, 1000))
    found = make(encode(wide, "jpeg", quality=95), crop_plan("width=500,height=500,fit=cover")).open("png")
    assert differ(found, wide.crop((1500, 0, 2500, 1000)).resize((500, 500), Image.Resampling.LANCZOS)) < 1.5


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_region_is_cut_of_the_original_then_turned_clockwise(make, photo, rotate):
    options = "region=300x150x200x100" + (f",rotate={rotate}" if rotate else "")
    expected = photo.crop((300, 150, 500, 250)).rotate(-rotate, expand=True)
    assert differ(make(encode(photo, "png"), crop_plan(options)).open("png"), expected) == 0
    half = make(encode(photo, "jpeg", quality=98), crop_plan(options + ",width=50"))
    assert differ(half.open("png"), expected.resize(half.open("png").size, Image.Resampling.LANCZOS)) < 4


def test_a_region_is_of_the_picture_as_it_is_seen_and_ends_with_it(make, photo):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = encode(photo.transpose(BACK[6]), "png", exif=exif)
    made = make(stored, crop_plan("region=800x500x900x900")).open("png")
    assert made.size == (100, 100)
    assert differ(made, photo.crop((800, 500, 900, 600))) == 0
    with pytest.raises(PictureRefusedError, match=r"lies outside of a picture of 900 . 600 pixels"):
        make(stored, crop_plan("region=900x0x9x9"))


def test_a_squeezed_picture_fills_the_box(make, photo):
    made = make(encode(photo, "png"), crop_plan("width=200,height=300,fit=squeeze")).open("png")
    assert made.size == (200, 300)
    assert differ(made, photo.resize((200, 300), Image.Resampling.LANCZOS)) < 2


def test_colours_can_be_taken_and_transparency_stays(make, photo):
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    grey = make(encode(photo, "png"), crop_plan("tone=gray")).open("png")
    red, green, _, alpha = grey.split()
    assert (differ(red, green), differ(alpha, photo.getchannel("A"))) == (0, 0)
    assert len(red.getcolors()) > 100
    bitonal = make(encode(photo, "png"), crop_plan("tone=bitonal")).open("png")
    assert {colour for _, colour in bitonal.convert("RGB").getcolors()} == {(0, 0, 0), (255, 255, 255)}


def test_padding_fills_the_box(make):
    found = make(
        encode(Image.new("RGB", (400, 100), "teal"), "png"), crop_plan("width=200,height=200,fit=pad,background=ff0000")
    ).open("png")
    assert found.size == (200, 200)
    assert (found.getpixel((100, 10)), found.getpixel((100, 100))) == ((255, 0, 0), (0, 128, 128))


def test_blur_blurs(make, photo):
    sharp, soft = (make(encode(photo, "png"), crop_plan(text)).open("png") for text in ("width=300", "width=300,blur=20"))
    spread = [ImageStat.Stat(ImageChops.difference(one, ImageChops.offset(one, 2, 0))).mean[2] for one in (sharp, soft)]
    assert spread[1] < spread[0] / 2


# --- Orientation -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_all_eight_orientations_give_the_same_pixels(make, photo, kind):
    options = {"lossless": True} if kind == "webp" else {}
    pixels = set()
    for orientation, back in BACK.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = photo.transpose(back) if back is not None else photo
        made = make(encode(stored, kind, exif=exif, **options), LOSSLESS)
        assert (made.picture.width, made.picture.height) == (900, 600)
        pixels.add((made.open("png").size, made.open("png").tobytes()))
    assert len(pixels) == 1


def test_all_eight_orientations_of_a_jpeg_give_the_same_pixels(make, photo):
    """As near as the compression of a picture and of its mirror are; it is decoded to a half first."""
    upright = photo.resize((960, 640))
    found = []
    for orientation, back in BACK.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        stored = upright.transpose(back) if back is not None else upright
        found.append(make(encode(stored, "jpeg", exif=exif, quality=98, subsampling=0), LOSSLESS).open("png"))
    assert {image.size for image in found} == {(300, 200)}
    assert all(differ(found[0], image) < 1 for image in found)


# --- Colours -----------------------------------------------------------------------------------------------------------------


def make_profile(gamma: float, *primaries: tuple[float, float, float]) -> bytes:
    """Return an ICC profile (version 2) of a display, its primaries as XYZ adapted to D50."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + bytes(2)
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0\0\0\0", b"wtpt": xyz(0.9642, 1, 0.8249)}
    tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), (xyz(*one) for one in primaries), strict=True))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    start = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = start + len(content)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp" + bytes(28)
    return (head + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + table + content


ADOBE_RGB = make_profile(2.19921875, (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def to_lab(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    """CIE 1976 L*a*b* of an sRGB colour, D65."""
    linear = [(one / 255 / 12.92 if one <= 10 else ((one / 255 + 0.055) / 1.055) ** 2.4) for one in colour]
    matrix = ((0.4124, 0.3576, 0.1805, 0.9505), (0.2126, 0.7152, 0.0722, 1.0), (0.0193, 0.1192, 0.9505, 1.089))
    shares = [sum(weight * part for weight, part in zip(row, linear, strict=False)) / row[3] for row in matrix]
    x, y, z = (share ** (1 / 3) if share > 0.008856 else 7.787 * share + 16 / 116 for share in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_colours_become_those_of_littlecms(make, photo, kind):
    options = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}.get(kind, {})
    source = encode(photo, kind, icc_profile=ADOBE_RGB, **options)
    found = make(source, LOSSLESS).open("png")
    stored = Image.open(io.BytesIO(source)).convert("RGB").resize(found.size, Image.Resampling.LANCZOS)
    srgb = ImageCms.createProfile("sRGB")
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    wanted = ImageCms.profileToProfile(stored, io.BytesIO(ADOBE_RGB), srgb, renderingIntent=intent, flags=flags)
    pairs = [(found.getpixel((x, y)), wanted.getpixel((x, y))) for x in range(0, 300, 7) for y in range(0, 200, 7)]
    distances = [sum((a - b) ** 2 for a, b in zip(to_lab(one), to_lab(other), strict=True)) ** 0.5 for one, other in pairs]
    assert sum(distances) / len(distances) < 1
    assert differ(found, stored) > 3, "the profile does something"
    assert found.info.get("icc_profile") is None


def test_a_wide_gamut_can_be_kept(make, photo):
    made = make(encode(photo, "png", icc_profile=ADOBE_RGB), Plan(widths=(900,), formats=("png", "webp"), keeps_gamut=True))
    assert made.open("png").tobytes() == photo.tobytes()
    assert [made.open(kind).info["icc_profile"] for kind in ("png", "webp")] == [ADOBE_RGB] * 2


def test_srgb_is_left_as_it_is_and_loses_its_profile(make, photo):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = make(encode(photo, "png", icc_profile=profile), Plan(widths=(900,), formats=("png",))).open("png")
    assert found.tobytes() == photo.tobytes()
    assert "icc_profile" not in found.info


def test_a_profile_of_another_kind_is_left_out(make, photo):
    made = make(encode(photo.convert("L"), "jpeg", icc_profile=ADOBE_RGB), LOSSLESS)
    assert made.picture.notes == ("its colour profile is for another kind of picture, and was left out",)


# --- Metadata ----------------------------------------------------------------------------------------------------------------

SECRET = b"S3CR3T"
KNOWN = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression", "loop", "background", "duration"}
KNOWN |= {"timestamp", "transparency"}


def talk(photo: Image.Image, kind: str) -> bytes:
    """Return a picture that says everything it can, each with a secret."""
    exif = Image.Exif()
    exif[ARTIST], exif[COPYRIGHT], exif[0x010E] = "A. Person", "(c) A. Person\n", "S3CR3T"
    exif.get_ifd(GPS)[29] = "S3CR3T"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">S3CR3T</x:xmpmeta>'
    options = {"exif": exif, "xmp": xmp} if kind != "gif" else {}
    if kind in ("jpeg", "gif"):
        options["comment"] = SECRET
    if kind == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Comment", "S3CR3T")
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    return encode(photo, kind, **options)


@pytest.mark.parametrize("width", [400, 900], ids=["smaller", "as large"])
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "avif"])
def test_nothing_that_was_said_gets_through(make, photo, kind, width):
    source = talk(photo, kind)
    assert SECRET in source
    made = make(source, Plan(widths=(width,), formats=("jpeg", "png", "webp", "avif")))
    for variant in made.picture.variants:
        content = (made.folder / variant.file).read_bytes()
        for word in (SECRET, b"Person", b"xmpmeta", b"Exif", b"EXIF", b"ICCP", b"tEXt", b"iTXt"):
            assert word not in content, variant.file
        assert set(made.open(variant.format, variant.width).info) <= KNOWN


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif"])
def test_only_the_credit_is_kept_where_it_is_wanted(make, photo, kind):
    plan = Plan(widths=(320,), formats=("jpeg", "png", "webp", "avif"), transform=parse_transform("metadata=copyright"))
    made = make(talk(photo, kind), plan)
    for variant in made.picture.variants:
        assert SECRET not in (made.folder / variant.file).read_bytes()
        assert dict(made.open(variant.format).getexif()) == {ARTIST: "A. Person", COPYRIGHT: "(c) A. Person"}


# --- Placeholders ------------------------------------------------------------------------------------------------------------


def test_a_placeholder_is_a_colour_and_a_tiny_picture(make, photo):
    image = Image.new("RGB", (300, 200), (200, 30, 30))
    image.paste((0, 0, 0), (0, 0, 60, 200))
    placeholder = make(encode(image, "png")).picture.placeholder
    assert placeholder.colour == "#c81e1e"
    media, _, content = placeholder.url.partition(",")
    tiny = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (media, tiny.size) == ("data:image/webp;base64", (20, 13))
    assert tiny.convert("RGB").getpixel((15, 6)) == pytest.approx((200, 30, 30), abs=12)
    assert make(encode(photo, "png"), Plan(widths=(90,), has_placeholder=False)).picture.placeholder is None
