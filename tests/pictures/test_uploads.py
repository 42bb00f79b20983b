"""Pictures that are uploaded to a real server, made by its worker, and served."""

from __future__ import annotations

import io
import json
import re

import pytest
from PIL import Image

from ..webhooks.receiver import receiving
from .galleries import SECRETS, draw, write, write_with_secrets

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - it is published
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def open_picture(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def test_a_photograph_gets_its_ladder_in_every_format(gallery):
    upload = gallery.upload(write(draw(700, 500)), "A%20%26%20b.jpg")
    assert upload["image"]["state"] in ("queued", "processing")
    image = gallery.settled(upload["id"])["image"]
    assert (image["state"], image["reason"], image["width"], image["height"]) == ("ready", None, 700, 500)
    assert image["placeholder"].startswith("data:image/webp;base64,")
    assert re.fullmatch("#[0-9a-f]{6}", image["dominant_colour"])
    made = {(one["format"], one["width"], one["height"]) for one in image["variants"]}
    assert made == {(kind, *size) for kind in ("avif", "webp", "jpeg") for size in ((320, 229), (640, 457), (700, 500))}
    assert list(image["srcset"]) == ["avif", "webp", "jpeg"]
    for one in image["variants"]:
        assert f"{one['url']} {one['width']}w" in image["srcset"][one["format"]].split(", ")
        assert "&amp;" in image["html"]
        assert one["url"].replace("&", "&amp;") in image["html"]


def test_variants_are_what_is_told_of_them_and_may_be_kept_for_ever(gallery):
    upload = gallery.settled(gallery.upload(write(draw(350, 200, 1)), "%C3%A4.jpg")["id"])
    for one in upload["image"]["variants"]:
        status, fields, content = gallery.ask("GET", one["url"])
        assert (status, fields["content-type"], len(content)) == (200, f"image/{one['format']}", one["size"])
        assert fields["cache-control"] == "public, max-age=31536000, immutable"
        assert open_picture(content).size == (one["width"], one["height"])
        assert gallery.ask("GET", one["url"], if_none_match=fields["etag"])[0] == 304
        assert gallery.ask("GET", one["url"], range="bytes=0-9")[2] == content[:10]


def test_a_variant_that_was_never_made_is_missing(gallery):
    upload = gallery.settled(gallery.upload(write(draw(330, 200, 2)))["id"])
    url = upload["image"]["variants"][0]["url"]
    for other in (url.replace("-320w", "-321w"), url.replace(".avif", ".png"), re.sub("[0-9a-f]{12}-", "0" * 12 + "-", url)):
        assert gallery.ask("GET", other)[0] == 404


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_nothing_that_is_served_tells_where_a_picture_was_taken(gallery, kind):
    content = write_with_secrets(draw(340, 240, 3), kind)
    assert any(secret in content for secret in SECRETS)
    upload = gallery.settled(gallery.upload(content, f"a.{kind.lower()}")["id"])
    assert upload["image"]["state"] == "ready"
    for one in upload["image"]["variants"]:
        served = gallery.ask("GET", one["url"])[2]
        assert not any(secret in served for secret in SECRETS)
        assert not open_picture(served).getexif()


def test_the_same_bytes_are_made_once(gallery):
    content = write(draw(360, 200, 4))
    first = gallery.settled(gallery.upload(content, "first.jpg")["id"])
    jobs = len(json.loads(gallery.run("jobs", "list", "--json", "--kind", "image"))["jobs"])
    blobs = gallery.blobs()
    second = gallery.upload(content, "second.jpg")
    assert second["image"]["state"] == "ready"
    assert [one["size"] for one in second["image"]["variants"]] == [one["size"] for one in first["image"]["variants"]]
    assert "/second." in second["image"]["variants"][0]["url"]
    assert gallery.ask("GET", second["image"]["variants"][0]["url"])[0] == 200
    assert len(json.loads(gallery.run("jobs", "list", "--json", "--kind", "image"))["jobs"]) == jobs
    assert gallery.blobs() == blobs


def test_variants_go_with_the_last_upload_that_has_them(gallery):
    content = write(draw(370, 200, 5))
    before = gallery.blobs()
    uploads = [gallery.settled(gallery.upload(content, name)["id"]) for name in ("a.jpg", "b.jpg")]
    url = uploads[0]["image"]["variants"][0]["url"]
    assert gallery.ask("DELETE", f"/uploads/{uploads[0]['id']}")[0] == 204
    assert gallery.ask("GET", url)[0] == 404
    assert gallery.ask("GET", uploads[1]["image"]["variants"][0]["url"])[0] == 200
    assert gallery.ask("DELETE", f"/uploads/{uploads[1]['id']}")[0] == 204
    assert gallery.ask("GET", uploads[1]["image"]["variants"][0]["url"])[0] == 404
    assert gallery.blobs() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (write(draw(400, 300, 6))[:2000], "damaged"),
        (write(draw(30, 30, 6), "TIFF"), "this is a TIFF; pictures are made of JPEG, PNG, WebP, AVIF and GIF"),
        (write(Image.new("1", (9000, 9000)), "PNG"), "81.0 megapixels"),
    ],
)
def test_a_picture_that_cannot_be_made_fails_with_a_reason_for_people(gallery, content, reason):
    upload = gallery.settled(gallery.upload(content)["id"])
    assert upload["image"]["state"] == "failed"
    assert reason in upload["image"]["reason"]
    assert upload["image"]["variants"] == []
    assert upload["image"]["html"] == ""
    assert gallery.ask("GET", upload["url"])[0] == 200
    assert gallery.upload(content, "again.jpg")["image"]["reason"] == upload["image"]["reason"]


@pytest.mark.parametrize("content", [b"hello", SVG, b"%PDF-1.7 ..."])
def test_what_is_no_picture_has_none(gallery, content):
    assert gallery.upload(content, "a.jpg")["image"] is None


def test_lists_and_names_tell_of_pictures_too(gallery):
    upload = gallery.settled(gallery.upload(write(draw(320, 100, 7)), "listed.jpg")["id"])
    listed = json.loads(gallery.ask("GET", "/uploads")[2])["uploads"][0]
    assert listed == upload
    gallery.ask("PUT", "/uploads/by-name/named.jpg", write(draw(320, 100, 7)))
    assert json.loads(gallery.ask("GET", "/uploads/by-name/named.jpg")[2])["image"]["state"] == "ready"


def test_a_picture_with_transparency_is_png_and_keeps_it(gallery):
    image = draw(330, 200, 8)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    made = gallery.settled(gallery.upload(write(image, "PNG"), "a.png")["id"])["image"]
    assert set(made["srcset"]) == {"avif", "webp", "png"}
    assert "background" not in made["html"]
    for one in made["variants"]:
        assert open_picture(gallery.ask("GET", one["url"])[2]).convert("RGBA").getchannel("A").getextrema()[0] < 20


def test_what_moves_waits_for_no_avif(gallery):
    frames = [draw(330, 200, seed) for seed in (11, 12)]
    moving = write(frames[0], "GIF", save_all=True, append_images=frames[1:])
    before = len(json.loads(gallery.run("jobs", "list", "--json", "--kind", "image"))["jobs"])
    image = gallery.settled(gallery.upload(moving, "a.gif")["id"])["image"]
    assert (set(image["srcset"]), image["pending"]) == ({"webp", "png"}, [])
    assert len(json.loads(gallery.run("jobs", "list", "--json", "--kind", "image"))["jobs"]) == before + 1


def test_variants_of_a_signed_collection_want_a_signature(open_gallery):
    gallery = open_gallery(COLLECTIONS='[{"name": "private", "access": "signed"}]')
    upload = gallery.settled(gallery.upload(write(draw(320, 200, 9)), query="&collection=private")["id"])
    url = upload["image"]["variants"][0]["url"]
    assert gallery.ask("GET", url)[0] == 403
    signed = gallery.run("sign", url).strip()
    status, fields, content = gallery.ask("GET", signed[signed.index("/media/") :])
    assert (status, len(content)) == (200, upload["image"]["variants"][0]["size"])
    assert fields["cache-control"].startswith("private")


def test_receivers_are_told_when_a_picture_is_ready_or_has_failed(open_gallery):
    with receiving() as receiver:
        gallery = open_gallery(WEBHOOKS__URL=receiver.url, WEBHOOKS__SECRETS=SECRET, SERVER__PUBLIC_URL="http://a.example")
        content = write(draw(320, 200, 10))
        good, bad = gallery.upload(content), gallery.upload(content[:1500], "bad.jpg")

        def told() -> dict[tuple[str, str], dict[str, object]]:
            events = [json.loads(body) for _, _, body in receiver.got]
            assert len({(event["type"], event["data"]["id"]) for event in events}) == len(events)
            return {(event["type"], event["data"]["id"]): event["data"] for event in events}

        gallery.wait(lambda: len(told()) == 4)
        assert told()["image.ready", good["id"]]["image"]["state"] == "ready"
        assert told()["image.ready", good["id"]]["image"]["variants"][0]["url"].startswith("http://a.example/media/")
        assert "damaged" in told()["image.failed", bad["id"]]["image"]["reason"]
        again = gallery.upload(content, "again.jpg")
        gallery.wait(lambda: ("image.ready", again["id"]) in told())
        gallery.settled(again["id"])
        gallery.wait(lambda: len(told()) == 6)


def test_settings_say_what_is_made(open_gallery):
    gallery = open_gallery(IMAGES__WIDTHS="100,50", IMAGES__FORMATS="webp", IMAGES__LIMIT_MEGAPIXELS="1")
    image = gallery.settled(gallery.upload(write(draw(700, 500)))["id"])["image"]
    assert {(one["format"], one["width"]) for one in image["variants"]} == {(k, w) for k in ("webp", "jpeg") for w in (50, 100)}
    large = gallery.settled(gallery.upload(write(draw(1300, 1000)))["id"])["image"]
    assert "megapixels" in large["reason"]


def test_without_them_nothing_is_made_and_nobody_waits_for_it(open_gallery):
    gallery = open_gallery(IMAGES__ENABLED="false")
    assert gallery.upload(write(draw(700, 500)))["image"] is None
    assert "jobs (" not in gallery.read_log()
