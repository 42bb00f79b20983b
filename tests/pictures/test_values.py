"""Names, JSON and HTML of variants, and the folders in which they are made: without a server."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser

import msgspec
import pytest

from assetserver.images.plan import Plan
from assetserver.jobs.job import LATER
from assetserver.picturejobs import Work, choose_plan, plan_pictures
from assetserver.pictures.describing import describe_picture
from assetserver.pictures.naming import find_variant, format_variant_name, may_name_variant
from assetserver.pictures.records import Look, PictureRecord, StoredVariant
from assetserver.pictures.scratch import Scratch
from assetserver.pictures.storing import store_files
from assetserver.settingpictures import ImageSettings
from assetserver.settings import Settings
from assetserver.storage.files import FileBlobs
from assetserver.uploads.answers import describe_upload
from assetserver.uploads.records import Upload


def variant(kind: str = "jpeg", width: int = 640, digest: str = "ab" * 32) -> StoredVariant:
    return StoredVariant(format=kind, width=width, height=width // 2, size=1000 + width, sha256=digest)


def upload(**values: object) -> Upload:
    usual = {"id": "i" * 24, "state": "complete", "name": "a.jpg", "collection": "", "owner": "me", "size": 9, "offset": 9}
    usual |= {"sha256": "cd" * 32, "media_type": "image/jpeg", "metadata": {}, "kind": "raw", "created": 0.0, "expires": None}
    return Upload(**usual | values)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "photo.abababababab-640w.jpg"),
        ("a.b.c", "a.b.abababababab-640w.jpg"),
        ("photo", "photo.abababababab-640w.jpg"),
        (".jpg", ".jpg.abababababab-640w.jpg"),
        ("ä b.jpg", "ä b.abababababab-640w.jpg"),
    ],
)
def test_a_variant_is_called_after_its_upload_and_its_bytes(name, expected):
    assert format_variant_name(name, variant()) == expected
    assert may_name_variant(expected)
    assert find_variant(name, (variant(width=320), variant()), expected) == variant()


@pytest.mark.parametrize("name", ["x" * 255, "x" * 251 + ".jpg", "€" * 85, "😀" * 63 + ".webp"])
def test_a_long_name_is_cut_between_characters(name):
    made = format_variant_name(name, variant())
    assert len(made.encode()) <= 255
    assert made.endswith(".abababababab-640w.jpg")
    assert find_variant(name, (variant(),), made) == variant()


@pytest.mark.parametrize("name", ["a.jpg", "a.abababababab-640w.gif", "a.ABABABABABAB-640w.jpg", "a.abababababab-0w.jpg", ""])
def test_other_names_are_not_looked_for(name):
    assert not may_name_variant(name)


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_html_cannot_be_broken_out_of_by_a_name():
    picture = PictureRecord(
        key="k",
        source="s",
        state="ready",
        look=Look(width=640, height=320, colour="#112233"),
        variants=(variant(), variant("webp")),
    )
    for name in ('"><script>alert(1)</script>.jpg', "a, b 1x.jpg", "'&amp;.jpg", "%22.jpg"):
        image = describe_upload(upload(name=name, picture="k"), "https://media.example", picture)["image"]
        reader = Reader()
        reader.feed(image["html"])
        assert [tag for tag, _ in reader.tags] == ["picture", "source", "img"]
        urls = {one["url"] for one in image["variants"]}
        assert reader.tags[2][1]["src"] in urls
        for _, fields in reader.tags[1:]:
            (url, descriptor) = fields["srcset"].split(" ")
            assert url in urls
            assert descriptor == "640w"


def test_formats_are_told_best_first_and_widths_in_order():
    made = tuple(variant(kind, width) for kind in ("jpeg", "webp", "avif") for width in (640, 320))
    picture = PictureRecord(key="k", source="s", state="ready", look=Look(width=640, height=320), variants=made)
    image = describe_picture(picture, lambda one: f"/{one.format}/{one.width}")
    assert image["srcset"] == {kind: f"/{kind}/320 320w, /{kind}/640 640w" for kind in ("avif", "webp", "jpeg")}
    assert 'width="640" height="320"' in image["html"]
    assert 'src="/jpeg/640"' in image["html"]


def test_what_is_not_looked_up_is_still_to_come():
    image = describe_upload(upload(picture="k"))["image"]
    assert (image["state"], image["html"], image["variants"], image["width"]) == ("queued", "", [], None)
    assert describe_upload(upload())["image"] is None


@pytest.mark.parametrize(
    ("values", "is_one"),
    [
        ({}, True),
        ({"media_type": "image/heic"}, True),  # which fails, with a reason
        ({"media_type": "image/svg+xml"}, False),
        ({"media_type": "text/plain"}, False),
        ({"kind": "tus-partial"}, False),
    ],
)
def test_pictures_are_known_by_their_content(values, is_one):
    found = plan_pictures(Settings())(upload(**values))
    assert (found is not None) == is_one
    assert plan_pictures(Settings(images=ImageSettings(enabled=False)))(upload(**values)) is None


def test_the_same_bytes_and_settings_are_the_same_picture_and_no_others():
    def key(digest: str = "cd" * 32, **settings: object) -> str:
        found = plan_pictures(Settings(images=ImageSettings(**settings)))(upload(sha256=digest))
        assert found is not None
        assert found.job.key == f"image:{found.key}"
        return found.key

    keys = [key(), key("ee" * 32), key(widths=(1, 2)), key(jpeg_quality=1), key(keep_copyright=True), key(formats=())]
    assert len(set(keys)) == len(keys)
    assert key(widths=(640, 320, 320)) == key(widths=(320, 640))


def test_avif_comes_later_and_from_the_same_plan():
    found = plan_pictures(Settings())(upload())
    assert found is not None
    work = msgspec.json.decode(found.job.payload, type=Work)
    assert work.plan.formats == ("base", "webp")
    assert work.later is not None
    assert work.later.formats == ("avif",)
    assert found.job.priority > LATER
    alone = plan_pictures(Settings(images=ImageSettings(formats=("webp",))))(upload())
    assert alone is not None
    assert msgspec.json.decode(alone.job.payload, type=Work).later is None


def test_settings_become_a_plan():
    assert choose_plan(ImageSettings()) == Plan()
    assert choose_plan(ImageSettings(formats=("avif",))).formats == ("base", "avif")


def test_files_become_blobs_in_their_order(tmp_path):
    names = ["b", "a"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 100)
    blobs = FileBlobs(str(tmp_path / "blobs"))
    digests = store_files(blobs, str(tmp_path), names)
    assert digests == store_files(blobs, str(tmp_path), names)
    assert [b"".join(blobs.read(digest)) for digest in digests] == [b"b" * 100, b"a" * 100]


def test_a_scratch_folder_goes_with_its_process_however_that_ends(tmp_path):
    root = str(tmp_path / "studio")
    pid = os.fork()
    if pid == 0:
        with Scratch(root).folder() as folder:
            os.close(os.open(os.path.join(folder, "left"), os.O_CREAT | os.O_WRONLY))
            os._exit(9)
    os.waitpid(pid, 0)
    (left,) = os.listdir(root)
    mine, other = Scratch(root), Scratch(root)
    with mine.folder() as folder, other.folder() as another:
        assert left not in os.listdir(root)
        assert len(os.listdir(root)) == 2
        assert os.listdir(folder) == os.listdir(another) == []
    mine.close()
    mine.close()
    with other.folder() as folder:
        assert os.path.isdir(folder)
    other.close()
    assert os.listdir(root) == []


def test_names_that_are_told_need_no_encoding_beyond_that_of_urls():
    image = describe_upload(
        upload(name="ä €.jpg", picture="k"),
        picture=PictureRecord(key="k", source="s", state="ready", look=Look(width=640, height=320), variants=(variant(),)),
    )["image"]
    assert re.fullmatch(r"/media/i{24}/%C3%A4%20%E2%82%AC\.abababababab-640w\.jpg", image["variants"][0]["url"])
