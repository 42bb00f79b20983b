import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import TransformError
from assetserver.images.plan import LADDER, Plan, split_plan
from assetserver.images.transform import Transform, check_ladder, parse_transform, snap_width

SAME = [
    ("", ""),
    ("width=640", "width=640"),
    ("w=640,h=480,f=webp,q=70,fit=crop,g=auto", "width=640,height=480,fit=cover,gravity=auto,quality=70,format=webp"),
    ("format=auto,fit=scale-down,metadata=none,anim=true", ""),
    ("fit=contain,width=640", "width=640"),
    ("quality=70,width=640", "width=640,quality=70"),
    ("dpr=2,width=320", "width=640"),
    ("width=333,dpr=1.5", "width=500"),
    ("width=3000,dpr=4", "width=4096"),
    ("dpr=2", ""),
    ("width=auto", ""),
    ("width=640,gravity=left", "width=640"),
    ("width=9,height=9,fit=cover,gravity=center", "width=9,height=9,fit=cover"),
    ("width=9,height=9,fit=cover,gravity=0.5x0.5", "width=9,height=9,fit=cover"),
    ("width=9,height=9,fit=cover,gravity=0x0.5", "width=9,height=9,fit=cover,gravity=left"),
    ("width=9,height=9,fit=cover,gravity=0.333x1", "width=9,height=9,fit=cover,gravity=0.33x1"),
    ("background=%23FFCC00", "background=ffcc00"),
    ("background=fc0", "background=ffcc00"),
    ("background=rgb%28255%2C204%2C0%29", "background=ffcc00"),
    ("background=rgb(255 204 0)", "background=ffcc00"),
    (
        "tone=gray,rotate=90,region=10x0x300x200,fit=squeeze,height=2,width=3",
        "width=3,height=2,fit=squeeze,region=10x0x300x200,rotate=90,tone=gray",
    ),
    ("onerror=redirect,anim=false,metadata=copyright,blur=5", "blur=5,metadata=copyright,anim=false,onerror=redirect"),
]


@pytest.mark.parametrize(("text", "canonical"), SAME)
def test_every_meaning_has_one_spelling(text, canonical):
    assert parse_transform(text).canonical == canonical
    assert parse_transform(canonical).canonical == canonical


REFUSED = [
    ("widht=640", "did you mean 'width'?"),
    ("rotate=45", "rotate=45 is not offered; write one of 90, 180, 270"),
    ("rotate=0", "write one of 90, 180, 270"),
    ("trim=5", "there is no option 'trim'"),
    ("region=1,2,3,4", "region=1 is not LEFTxTOPxWIDTHxHEIGHT in pixels of the original, such as 0x0x300x200"),
    ("region=0x0x0x5", "region=0x0x0x5 is not"),
    ("region=00x0x5x5", "region=00x0x5x5 is not"),
    ("region=-1x0x5x5", "region=-1x0x5x5 is not"),
    ("tone=sepia", "write one of gray, bitonal"),
    ("fit=squeeze,width=5", "fit=squeeze needs a width and a height"),
    ("width", "width has no value"),
    ("width=", "width has no value"),
    ("width=640,w=320", "width is given twice"),
    ("width=0", "width=0 is not a whole number from 1 to 4096"),
    ("width=4097", "from 1 to 4096"),
    ("width=-1", "not a whole number"),
    ("width=1e3", "not a whole number"),
    ("width=٣٢٠", "not a whole number"),
    ("width=640.0", "not a whole number"),
    ("quality=101", "from 1 to 100"),
    ("dpr=5", "from 1 to 4"),
    ("dpr=nan", "from 1 to 4"),
    ("fit=fill", "write one of scale-down, cover, pad, squeeze, contain, crop"),
    ("fit=cover,width=640", "fit=cover needs a width and a height"),
    ("gravity=face", "gravity=face is not offered; write one of auto, center"),
    ("gravity=1.5x0", "or shares such as 0.33x0.5"),
    ("format=gif", "write one of auto, avif, webp, jpeg, png"),
    ("background=red", "is not a colour such as ffcc00"),
    ("background=rgb(256 0 0)", "is not a colour"),
    ("metadata=keep", "it would show where a picture was taken"),
    ("onerror=ignore", "write one of redirect"),
    ("width=640,,height=1", "there is no option ''"),
    ("blur=" + "1" * 600, "512 are the limit"),
]


@pytest.mark.parametrize(("text", "complaint"), REFUSED)
def test_what_is_not_offered_is_refused_with_what_would_do(text, complaint):
    with pytest.raises(TransformError) as caught:
        parse_transform(text)
    assert complaint in str(caught.value)


@given(st.text(max_size=200) | st.lists(st.sampled_from([text for text, _ in SAME + REFUSED])).map(",".join))
def test_no_text_does_anything_else_than_parse_or_be_refused(text):
    try:
        found = parse_transform(text)
    except TransformError:
        return
    assert parse_transform(found.canonical) == found


def test_order_does_not_matter():
    options = ["width=640", "height=480", "fit=cover", "gravity=auto", "quality=70", "format=webp", "blur=2"]
    shuffle = random.Random(1)  # noqa: S311 - the same every time
    found = set()
    for _ in range(20):
        shuffle.shuffle(options)
        found.add(parse_transform(",".join(options)))
    assert len(found) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": -1},
        {"region": "1x2x3"},
        {"rotate": 45},
        {"tone": "sepia"},
        {"height": 4097},
        {"fit": "crop"},
        {"gravity": "2x2"},
        {"background": "red"},
    ],
)
def test_a_transform_that_means_nothing_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"is no|is neither"):
        Transform(**wrong)


def test_the_digest_tells_source_and_operation_apart_and_nothing_else():
    one, other = parse_transform("width=640"), parse_transform("width=320")
    assert len({one.digest("a"), one.digest("b"), other.digest("a")}) == 3
    assert one.digest("a") == parse_transform("w=640,onerror=redirect").digest("a")


def test_widths_snap_to_the_next_step_and_heights_follow():
    assert snap_width(parse_transform("width=641"), LADDER).width == 960
    assert snap_width(parse_transform("width=4000"), LADDER).width == 1920
    assert snap_width(parse_transform("width=640"), LADDER).width == 640
    assert snap_width(parse_transform("height=100"), LADDER).width == 0
    snapped = snap_width(parse_transform("width=300,height=150,fit=cover"), LADDER)
    assert (snapped.width, snapped.height) == (320, 160)


@pytest.mark.parametrize("free", ["width=640", "width=640,format=avif,anim=false,metadata=copyright"])
def test_a_step_of_the_ladder_needs_no_signature(free):
    check_ladder(parse_transform(free), LADDER)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("width=641", "width=641 is not allowed without a signature; allowed are 320, 640"),
        ("", "a picture without width"),
        ("width=640,height=1", "height is not allowed"),
        ("width=640,quality=1", "quality is not"),
        ("width=640,blur=1", "blur is not"),
        ("width=640,region=0x0x9x9", "region is not"),
        ("width=640,rotate=90", "rotate is not"),
        ("width=640,tone=gray", "tone is not"),
        ("width=640,background=fff", "background is not"),
    ],
)
def test_off_the_ladder_is_refused_by_name(text, complaint):
    with pytest.raises(TransformError, match=complaint):
        check_ladder(parse_transform(text), LADDER)


def test_a_plan_is_split_into_what_is_quick_and_avif():
    first, later = split_plan(Plan())
    assert first.formats == ("base", "webp")
    assert first.has_placeholder
    assert later is not None
    assert (later.formats, later.has_placeholder) == (("avif",), False)
    assert split_plan(Plan(formats=("avif",))) == (Plan(formats=("avif",)), None)
    assert Plan().digest("a") != first.digest("a") != first.digest("b")
