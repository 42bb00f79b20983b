"""What URLs of pictures ask for: one spelling for each, and a bounded number of them without a signature."""

import pytest

from assetserver.errors import SettingsError, TransformError
from assetserver.images.plan import Plan
from assetserver.images.transform import Transform, parse_transform
from assetserver.ondemand import list_wider
from assetserver.ondemandjobs import Order, choose_format
from assetserver.ondemandurls import PictureUrls
from assetserver.settings import load_settings


def urls(**images: object) -> PictureUrls:
    return PictureUrls(load_settings(None, {}, {f"images.{name}": value for name, value in images.items()}))


def test_the_spelling_of_options_is_that_of_their_meaning():
    known = urls()
    assert known.read("format=auto,fit=contain").options == "format=auto"
    for text in ("width=640,format=webp", "format=webp,w=640", "width=320,dpr=2,f=webp"):
        wanted = known.read(text)
        assert wanted.options == "width=640,format=webp"
        assert known.read(wanted.options) == wanted


def test_what_needs_no_signature_is_listed_once_and_as_it_is_spelled():
    known = urls(widths=[320, 640], presets={"thumb": "width=99,height=99,fit=cover"})
    options = list(known.list_free())
    assert len(options) == len(set(options)) == 2 * 5 * 2 * 2 * 2 + 6
    assert [known.admit(known.read(one)).options for one in options] == options


def test_other_widths_are_snapped_or_refused():
    assert urls(widths=[100, 400]).admit(urls().read("width=101")).options == "width=400"
    strict = urls(widths=[400, 100, 400], off_ladder="refuse")
    with pytest.raises(TransformError, match=r"width=101 is not allowed without a signature; allowed are 100, 400"):
        strict.admit(strict.read("width=101"))


def test_presets_are_free_and_take_another_format():
    known = urls(presets={"hero": "width=1000,height=500,fit=cover,format=webp"})
    wanted = known.read("hero")
    assert known.admit(wanted) == wanted
    assert (wanted.options, wanted.transform.width, wanted.transform.format) == ("hero", 1000, "webp")
    for kind in ("avif", "auto"):
        wanted = known.read(f"hero,format={kind}")
        assert (wanted.options, wanted.transform.format, wanted.transform.height) == (f"hero,format={kind}", kind, 500)
    for text in ("hero,width=3", "hero,format=webp,width=3", "hero,f=webp", "hero,format=gif"):
        with pytest.raises(TransformError, match=r"can be followed by format= alone|format=gif is not offered"):
            known.read(text)


def test_what_begins_with_options_is_told_from_folders():
    known = urls(presets={"hero": "width=1000"})
    assert [known.are_options(one) for one in ("width=1", "hero", "hero,format=webp", "heroes", "logo.png", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("presets", "message"),
    [
        ({"a b": "width=1"}, "cannot be called 'a b'"),
        ({"a=b": "width=1"}, "cannot be called 'a=b'"),
        ({"hero": "wdth=1"}, "images.presets.hero: there is no option 'wdth'"),
    ],
)
def test_a_preset_that_is_none_is_told_at_the_start(presets, message):
    with pytest.raises(SettingsError, match=message):
        urls(presets=presets)


@pytest.mark.parametrize(
    ("options", "kind", "is_animated", "chosen"),
    [
        ("", "avif", False, ("avif", False)),
        ("", "avif", True, ("webp", True)),
        ("", "webp", True, ("webp", True)),
        ("", "base", True, ("base", False)),
        ("anim=false", "avif", True, ("avif", False)),
        ("format=avif", "base", True, ("avif", False)),
        ("format=webp", "base", True, ("webp", True)),
        ("format=webp", "base", False, ("webp", False)),
        ("format=png", "avif", False, ("png", False)),
    ],
)
def test_what_moves_is_webp_where_the_client_shows_that(options, kind, is_animated, chosen):
    assert choose_format(parse_transform(options), kind, is_animated=is_animated) == chosen


def test_wider_pictures_are_the_same_picture_in_wider_steps():
    order = Order("media", "a" * 64, Plan(transform=Transform(width=640), widths=(), formats=("webp",)))
    wider = list_wider(order, (320, 640, 960, 1280))
    assert [(one.plan.transform.width, one.plan.formats, one.source) for one in wider] == [
        (960, ("webp",), "a" * 64),
        (1280, ("webp",), "a" * 64),
    ]
