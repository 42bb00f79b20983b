"""Pictures on demand, end to end: a real server with its job worker, published files and uploads, and clients of all kinds."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from .picturesites import (
    CHROMIUM,
    LIMIT_S,
    OLD,
    PLENTY,
    SAFARI,
    Got,
    Site,
    call,
    encode,
    locate,
    make_photo,
    make_token,
    start_site,
    wait_for,
)


@pytest.fixture(scope="module")
def photo() -> bytes:
    return encode(make_photo(), "JPEG", quality=88)


@pytest.fixture
def start(start_program, tmp_path, photo):
    """``start(env)`` publishes a site with a picture, and starts a server that makes others of it on demand."""

    def start(env: dict[str, str] | None = None) -> Site:
        return start_site(start_program, tmp_path, photo, env or {})

    return start


@pytest.fixture(scope="module")
def open_site(start_shared_program, tmp_path_factory, photo):
    """A server for all tests that only ask. It knows a preset."""
    env = {"ASSETSERVER_IMAGES__PRESETS": json.dumps({"small": "width=200,height=100,fit=cover"})}
    return start_site(start_shared_program, tmp_path_factory.mktemp("open"), photo, env)


# What is made


def test_each_client_gets_a_published_picture_smaller_in_the_best_format_that_it_shows(start):
    site = start()
    tags = set()
    for fields, kind in ((CHROMIUM, "AVIF"), (SAFARI, "WEBP"), (OLD, "JPEG"), ({}, "JPEG")):
        got = site.get("/image/width=640/photo.jpg", fields)
        assert (got.status, got.open().format, got.open().size) == (200, kind, (640, 480))
        assert got["content-type"] == f"image/{kind.lower()}"
        assert got["vary"].lower() == "accept"
        assert got["cache-control"] == site.get("/photo.jpg")["cache-control"]
        tags.add(got["etag"])
        again = site.get("/image/width=640/photo.jpg", {**fields, "If-None-Match": got["etag"]})
        assert (again.status, again["vary"].lower(), again["etag"]) == (304, "accept", got["etag"])
    assert len(tags) == 3
    wait_for(lambda: site.list_jobs() == [("done", 1)] * 3, "the end of three jobs, and of no more")


def test_named_formats_do_not_vary_and_have_ranges_and_head(start):
    site = start()
    whole = site.get("/image/width=320,format=webp/photo.jpg", CHROMIUM)
    assert (whole.open().format, whole["vary"]) == ("WEBP", "")
    for _ in range(3):  # the slow path, and the hot one
        part = site.get("/image/width=320,format=webp/photo.jpg", {"Range": "bytes=10-19"})
        assert (part.status, part.content, part["etag"]) == (206, whole.content[10:20], whole["etag"])
        head = site.get("/image/width=320,format=webp/photo.jpg", method="HEAD")
        assert (head.status, head["content-length"], head.content) == (200, str(len(whole.content)), b"")
        assert site.get("/image/width=320,format=webp/photo.jpg", OLD).content == whole.content
    assert site.get("/image/width=320,format=webp/photo.jpg", method="POST").status == 405


def test_the_hot_path_gives_each_client_its_own_format(start):
    site = start({**PLENTY, "ASSETSERVER_MEMORY__FILE_LIMIT_BYTES": "1000"})  # so that the kernel sends them
    first = {
        kind: site.get("/image/width=640/photo.jpg", fields) for kind, fields in (("a", CHROMIUM), ("w", SAFARI), ("j", OLD))
    }
    for _ in range(4):
        for kind, fields in (("j", OLD), ("a", CHROMIUM), ("w", SAFARI)):
            got = site.get("/image/width=640/photo.jpg", fields)
            assert (got.content, got["etag"]) == (first[kind].content, first[kind]["etag"])
            part = site.get("/image/width=640/photo.jpg", {**fields, "Range": "bytes=5-8"})
            assert (part.status, part.content) == (206, first[kind].content[5:9])


def test_a_published_change_is_another_picture(start):
    site = start()
    before = site.get("/image/width=320,format=jpeg/photo.jpg")
    for _ in range(3):
        assert site.get("/image/width=320,format=jpeg/photo.jpg")["etag"] == before["etag"]
    (site.folder / "site" / "photo.jpg").write_bytes(encode(make_photo(blue=255), "JPEG"))
    call(site.folder, "publish", site.folder / "site", "--prod")
    wait_for(lambda: site.get("/image/width=320,format=jpeg/photo.jpg")["etag"] != before["etag"], "the new picture")
    after = site.get("/image/width=320,format=jpeg/photo.jpg", {"If-None-Match": before["etag"]})
    assert after.status == 200
    assert after.open().getpixel((5, 5))[2] > 200


def test_an_upload_is_made_smaller_and_kept_as_long_as_it(start, photo):
    site = start()
    path = site.upload(make_token(site.folder), "photo.jpg", photo)
    got = site.get(f"/image/width=960,format=jpeg{path}")
    assert (got.status, got.open().size) == (200, (960, 720))
    assert got["cache-control"] == "public, max-age=31536000, immutable"
    assert site.get(f"/image/width=960,format=jpeg{path}")["etag"] == got["etag"]


def test_what_moves_moves_as_webp_and_stands_still_elsewhere(start):
    site = start()
    frames = [Image.new("RGB", (400, 300), (shade, 0, 0)) for shade in (0, 120, 240)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    path = site.upload(make_token(site.folder), "a.gif", gif)
    for fields, kind, count in ((CHROMIUM, "WEBP", 3), (SAFARI, "WEBP", 3), (OLD, "PNG", 1)):
        image = site.get(f"/image/width=320{path}", fields).open()
        assert (image.format, image.size, getattr(image, "n_frames", 1)) == (kind, (320, 240), count)
    still = site.get(f"/image/width=320,format=avif,anim=false{path}").open()
    assert (still.format, getattr(still, "n_frames", 1)) == ("AVIF", 1)
    assert site.get(f"/image/width=320,format=avif{path}").open().format == "AVIF"


@pytest.mark.parametrize("by", ["id", "name"])
def test_nothing_is_served_of_an_upload_that_was_removed_and_nothing_of_it_stays(start, photo, by):
    site = start({"ASSETSERVER_SERVER__WORKERS": "2"})
    token = make_token(site.folder)
    other = site.upload(token, "other.jpg", photo)
    fields = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
    got = site.get("/uploads/by-name/photo.jpg", fields, method="PUT", body=encode(make_photo(blue=1), "JPEG"))
    (upload,) = json.loads(got.content)["uploads"]
    path = upload["url"] if by == "id" else "/media/by-name/photo.jpg"
    asked = [f"/image/{options}{path}" for options in ("width=320,format=jpeg", "width=640,format=webp")]
    for _ in range(5):  # in both workers, and from their memory
        assert [site.get(one).status for one in asked] == [200, 200]
    assert site.get(f"/image/width=320,format=jpeg{other}").status == 200
    assert site.get(f"/uploads/{upload['id']}", fields, method="DELETE").status == 204
    for _ in range(5):
        for one in asked:
            assert site.get(one).status == 404
            assert site.get(one, method="HEAD").status == 404
            assert site.get(one, {"Range": "bytes=0-9"}).status == 404
    for worker in job_workers_of(site):
        os.kill(worker, signal.SIGKILL)  # the next one looks when it begins, and needs not be waited for
    wait_for(lambda: sum(one.is_file() for one in site.cache().rglob("*")) == 2, "the end of two pictures of three")
    assert site.get(f"/image/width=320,format=jpeg{other}").status == 200
    assert site.get(other).status == 200


# What is asked


@pytest.mark.parametrize(
    ("asked", "leads_to"),
    [
        ("width=640,fit=contain", "width=640"),
        ("format=webp,width=640", "width=640,format=webp"),
        ("w=320,f=avif", "width=320,format=avif"),
        ("width=320,dpr=2", "width=640"),
        ("width=333", "width=640"),
        ("width=4000", "width=1920"),
        ("width%3D640", "width=640"),
        ("width=64%30", "width=640"),
        ("width=640,format=auto", "width=640"),
        ("width=640,gravity=left", "width=640"),
        ("small,format=auto", "small,format=auto"),
    ],
)
def test_one_picture_has_one_url(open_site, asked, leads_to):
    got = open_site.get(f"/image/{asked}/photo.jpg?a=b")
    if leads_to == asked:
        assert got.status == 200
    else:
        assert (got.status, got["location"]) == (308, f"/image/{leads_to}/photo.jpg?a=b")
        assert got["vary"].lower() == ("accept" if "=" in asked else "")  # else the site has led there
        assert open_site.get(f"/image/{leads_to}/photo.jpg").status == 200


def test_presets_are_what_the_operator_says(open_site):
    for path, kind in (("small", "JPEG"), ("small,format=webp", "WEBP")):
        image = open_site.get(f"/image/{path}/photo.jpg").open()
        assert (image.format, image.size) == (kind, (200, 100))


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ("wdth=640", 400, "did you mean 'width'?"),
        ("width=0", 400, "width=0 is not a whole number from 1 to"),
        ("width=640,width=320", 400, "width is given twice"),
        ("width=640,height=9", 400, "height is not allowed without a signature; `assetserver sign /image/"),
        ("quality=80", 400, "a picture without width is not allowed without a signature; allowed are 320, 640, 960"),
        ("width=640,quality=80", 400, "quality is not allowed"),
        ("width=640,metadata=keep", 400, "it would show where a picture was taken"),
        ("width=640,fit=fill", 400, "fit=fill is not offered"),
        ("small,width=320", 400, "the preset small can be followed by format= alone"),
        ("=", 400, "there is no option"),
        ("width=640,", 400, "there is no option"),
        ("a=" + "b" * 600, 400, "the options have 602 characters"),
    ],
)
def test_what_is_not_offered_is_told_with_what_is(open_site, asked, status, words):
    got = open_site.get(f"/image/{asked}/photo.jpg", CHROMIUM)
    problem = got.problem()
    assert (got.status, problem["status"], problem["type"]) == (status, status, "urn:assetserver:problem:transform")
    assert words in problem["detail"]
    assert (got["cache-control"], got["vary"].lower()) == ("no-store", "accept")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("missing.jpg", 404, "there is no upload and no published file at /missing.jpg"),
        ("../etc/passwd", 404, "dot segment"),
        ("%2e%2e/etc/passwd", 404, "dot segment"),
        ("a%00b.jpg", 404, "control character"),
        ("-/healthy", 404, "no published file"),
        ("media/" + "A" * 22 + "/a.jpg", 404, "no upload"),
        ("image/width=640/photo.jpg", 404, "no published file"),
        ("text.jpg", 422, "this is no picture that is known here"),
        ("index.html", 422, "this is no picture that is known here"),
        ("", 404, None),
    ],
)
def test_what_is_no_picture_is_told(open_site, path, status, words):
    got = open_site.get(f"/image/width=640/{path}", OLD)
    assert got.status == status
    if words is not None:
        assert words in got.problem()["detail"]
    wait_for(lambda: all(state == "done" for state, _ in open_site.list_jobs()), "the end of all jobs")


def test_onerror_leads_to_the_original(open_site):
    got = open_site.get("/image/width=640,onerror=redirect/text.jpg")
    assert (got.status, got["location"]) == (302, "/text.jpg")
    wait_for(lambda: open_site.get("/image/width=640,onerror=redirect/photo.jpg").status == 200, "the picture, if it is late")


def test_a_folder_of_a_site_called_image_is_served_beside_pictures(open_site):
    assert open_site.get("/image/own.txt").content == b"The site's own."
    assert open_site.get("/image/other/own.txt").status == 404
    assert open_site.get("/image/").status == 404


OPTIONS = (
    "width",
    "w",
    "height",
    "fit",
    "gravity",
    "quality",
    "format",
    "dpr",
    "background",
    "blur",
    "region",
    "rotate",
    "tone",
    "metadata",
    "anim",
    "onerror",
)
VALUES = (
    "640",
    "320",
    "1",
    "0",
    "-1",
    "99999",
    "1.5",
    "auto",
    "cover",
    "contain",
    "pad",
    "0.3x0.7",
    "1x1",
    "80",
    "webp",
    "avif",
)
VALUES += (
    "png",
    "squeeze",
    "0x0x9x9",
    "90",
    "gray",
    "rgb(1%2C2%2C3)",
    "fff",
    "none",
    "true",
    "false",
    "redirect",
    "%00",
    "%ff",
    "%",
    "%2f",
    "",
    "\u00e9",
    "\n",
)


@given(
    st.lists(
        st.tuples(st.sampled_from(OPTIONS) | st.text(max_size=5), st.sampled_from(VALUES) | st.text(max_size=8)), max_size=5
    ),
    st.sampled_from(["photo.jpg", "text.jpg", "index.html", "missing", "", "media/a/b", "..", "%2e"]),
    st.sampled_from([CHROMIUM, SAFARI, OLD, {}, {"Accept": 'image/avif;q=nan,,;;"', "Range": "bytes=0-0,-1"}]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_that_is_asked_is_an_error_of_the_server(open_site, options, path, fields):
    text = ",".join(f"{name}={value}" for name, value in options)
    target = "/image/" + "".join(one if "!" <= one <= "~" and one not in "?#" else "%3F" for one in text) + "/" + path
    got = open_site.get(target, fields)
    assert got.status in (200, 206, 302, 304, 308, 400, 404, 422), (target, got.content)
    assert "Traceback" not in open_site.program.read_log()


MODES = pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


@pytest.mark.timeout(600)
@MODES
@pytest.mark.parametrize("path", ["photo.jpg", "text.jpg", None])
def test_the_server_answers_as_its_description_says(open_site, mode, path):
    described = json.loads(open_site.get("/-/api/openapi.json").content)
    operation = schemathesis.openapi.from_dict(described)["/image/{options}/{path}"]["get"]
    strategy = operation.as_strategy(generation_mode=mode, path_parameters={"path": path} if path else None)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(strategy)
    def run(case):
        if "=" in (case.path_parameters or {}).get("options", ""):  # else it is the site's
            case.call_and_validate(base_url=open_site.url, checks=CHECKS, headers={"Accept": "image/*"}, allow_redirects=False)

    run()


def test_where_uploads_have_a_host_of_their_own_clients_are_sent_there_meanwhile(start, photo):
    env = {"ASSETSERVER_UPLOADS__MEDIA_URL": "http://files.example.net"}
    site = start({**env, "ASSETSERVER_JOBS__WORKERS": "0", "ASSETSERVER_IMAGES__PATIENCE_S": "0"})
    path = locate(site.upload(make_token(site.folder), "a.jpg", photo))
    got = site.get(f"/image/width=640{path}", OLD)
    assert (got.status, got["location"], got["cache-control"]) == (302, path, "public, max-age=5")
    assert site.get(path)["location"] == f"http://files.example.net{path}"


# Who may ask


def test_a_signature_opens_every_width_until_it_ends(start):
    site = start()
    assert site.get("/image/width=333,height=222,fit=cover/photo.jpg").status == 400
    url = locate(call(site.folder, "sign", "/image/fit=cover,height=222,width=333/photo.jpg", "--expires", "1h").strip())
    assert url.startswith("/image/width=333,height=222,fit=cover/photo.jpg?expires=")
    for _ in range(3):
        assert site.get(url).open().size == (333, 222)
    forged = [
        url.replace("333", "334"),
        url.replace("expires=", "expires=9"),
        url[:-1] + ("A" if url[-1] != "A" else "B"),
        url.replace("photo.jpg", "text.jpg"),
        re.sub("signature=.*", "signature=", url),
    ]
    for one in forged:
        got = site.get(one)
        assert (got.status, got.problem()["type"]) == (403, "urn:assetserver:problem:forbidden"), one
    ended = locate(call(site.folder, "sign", "/image/width=333/photo.jpg", "--expires", "1s").strip())
    wait_for(lambda: site.get(ended).status == 403, "the end of a signature")
    assert "expired" in site.get(ended).problem()["detail"]


def test_a_signature_counts_on_every_host_and_shows_that_hosts_own(start):
    sites = [{"name": "default", "prefix": "/", "host": "a.example"}, {"name": "b", "prefix": "/", "host": "b.example"}]
    env = {"ASSETSERVER_SITES": json.dumps(sites)}
    site = start(env)
    (site.folder / "site" / "photo.jpg").write_bytes(encode(make_photo(800, 800), "JPEG"))
    call(site.folder, "publish", site.folder / "site", "--prod", "--site", "b", env=env)
    url = locate(call(site.folder, "sign", "/image/width=400/photo.jpg", "--expires", "1h", env=env).strip())
    wait_for(lambda: site.get("/photo.jpg", {"Host": "b.example"}).status == 200, "the second site")
    for host, size in (("a.example", (400, 300)), ("b.example", (400, 400))):
        assert site.get(url, {"Host": host}).open().size == size
    assert site.get(url, {"Host": "c.example"}).status == 404


def test_only_signed_urls_where_the_settings_want_that(start):
    site = start({"ASSETSERVER_IMAGES__SIGNED": "true"})
    got = site.get("/image/width=640/photo.jpg")
    assert (got.status, "this needs a signed URL" in got.problem()["detail"]) == (403, True)
    assert site.get(locate(call(site.folder, "sign", "/image/width=640/photo.jpg", "--expires", "1h").strip())).status == 200


def test_what_is_not_public_is_not_public_smaller(start, photo):
    env = {"ASSETSERVER_COLLECTIONS": json.dumps([{"name": "closed", "access": "signed"}])}
    site = start(env)
    path = site.upload(make_token(site.folder), "secret.jpg", photo, "closed")
    original = locate(call(site.folder, "sign", path, "--expires", "1h", env=env).strip())
    assert site.get(original).status == 200
    assert site.get(f"/image/width=640{path}").status == 403
    assert site.get(f"/image/width=640{original}").status == 403  # for the original alone
    assert site.get(f"/image/width=640,onerror=redirect{path}").status == 403
    assert site.get("/image/width=640/media/by-name/closed/secret.jpg").status == 404
    url = locate(call(site.folder, "sign", f"/image/width=640{path}", "--expires", "1h", env=env).strip())
    for _ in range(3):
        got = site.get(url)
        assert (got.status, got.open().size, got["cache-control"]) == (200, (640, 480), "private, no-cache")
        assert site.get(f"/image/width=640{path}").status == 403


def test_whoever_waits_for_a_private_picture_never_gets_the_original(start, photo):
    env = {"ASSETSERVER_COLLECTIONS": json.dumps([{"name": "closed", "access": "signed"}])}
    site = start({**env, "ASSETSERVER_JOBS__WORKERS": "0", "ASSETSERVER_IMAGES__PATIENCE_S": "0"})
    path = site.upload(make_token(site.folder), "secret.jpg", photo, "closed")
    got = site.get(locate(call(site.folder, "sign", f"/image/width=640{path}", "--expires", "1h", env=env).strip()))
    assert (got.status, got["retry-after"], got.problem()["type"]) == (503, "1", "urn:assetserver:problem:picture-late")


# How it is made


def test_a_hundred_equal_requests_are_one_job(start):
    site = start({"ASSETSERVER_SERVER__WORKERS": "2"})
    got: list[Got] = []
    threads = [threading.Thread(target=lambda: got.append(site.get("/image/width=960/photo.jpg", SAFARI))) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert [one.status for one in got] == [200] * 100
    assert {one.open().size for one in got} == {(960, 720)}
    assert len({one.content for one in got}) == 1
    assert site.list_jobs() == [("done", 1)]


def test_who_waits_too_long_gets_a_larger_picture_for_a_moment(start, photo):
    site = start({"ASSETSERVER_JOBS__WORKERS": "0", "ASSETSERVER_IMAGES__PATIENCE_S": "0.1"})
    got = site.get("/image/width=320/photo.jpg", OLD)
    assert (got.status, got.content, got["cache-control"]) == (200, photo, "public, max-age=5")
    assert got["vary"].lower() == "accept"
    assert site.get("/image/width=320/photo.jpg", {**OLD, "If-None-Match": got["etag"]}).status == 304
    assert site.list_jobs() == [("queued", 0)]


def test_what_stands_in_is_kept_by_nobody_who_may_not_keep_its_source(start, photo):
    site = start({"ASSETSERVER_JOBS__WORKERS": "0", "ASSETSERVER_IMAGES__PATIENCE_S": "0"})
    for name in ("own.jpg", "never.jpg"):
        (site.folder / "site" / name).write_bytes(photo)
    rules = "/own.jpg\n  Cache-Control: max-age=60, private\n/never.jpg\n  Cache-Control: no-transform, no-store\n"
    (site.folder / "site" / "_headers").write_text(rules)
    call(site.folder, "publish", site.folder / "site", "--prod")
    wait_for(lambda: site.get("/never.jpg").status == 200, "the release")
    assert site.get("/image/width=640/own.jpg", OLD).status == 503
    got = site.get("/image/width=640/never.jpg", OLD)
    assert (got.status, got["cache-control"]) == (200, "no-store")


def test_the_nearest_larger_variant_stands_in(start, start_program):
    env = {"ASSETSERVER_JOBS__WORKERS": "0", "ASSETSERVER_IMAGES__PATIENCE_S": "0.1"}
    site = start(env)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSETSERVER_")}
    command = [sys.executable, "-m", "assetserver", "worker"]
    env = {**kept, "ASSETSERVER_IMAGES__ON_DEMAND": "true"}
    worker = start_program("worker", command, env=env, cwd=site.folder)
    for width in (1280, 640):
        wait_for(lambda width=width: site.get(f"/image/width={width}/photo.jpg", SAFARI).open().width == width, "a picture")
    worker.process.send_signal(signal.SIGTERM)
    worker.process.wait(LIMIT_S)
    got = site.get("/image/width=320/photo.jpg", SAFARI)
    assert (got.open().size, got.open().format, got["cache-control"]) == ((640, 480), "WEBP", "public, max-age=5")
    for record in site.cache().rglob("*.json"):
        record.unlink()
    again = site.get("/image/width=320/photo.jpg", SAFARI)  # known by now: not looked up, and not hashed, for each who waits
    assert (again.content, again["cache-control"]) == (got.content, "public, max-age=5")


def test_pictures_of_a_release_are_made_before_anybody_asks(start):
    site = start()
    frames = [Image.new("RGB", (400, 300), (shade, 0, 0)) for shade in (0, 120, 240)]
    (site.folder / "site" / "a.gif").write_bytes(
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    )
    (site.folder / "site" / "small.png").write_bytes(encode(Image.new("RGBA", (100, 50), (9, 9, 9, 99)), "PNG"))
    call(site.folder, "publish", site.folder / "site", "--prod", "--images")
    wait_for(lambda: {state for state, _ in site.list_jobs("ladder")} <= {"done", "dead"}, "the end of all ladders")
    assert sorted(state for state, _ in site.list_jobs("ladder")) == ["dead"] * 2 + ["done"] * 6  # text.jpg is a text
    wait_for(lambda: site.get("/image/width=320/small.png").status == 200, "the new release")
    for fields, kind, moving in ((CHROMIUM, "AVIF", "WEBP"), (SAFARI, "WEBP", "WEBP"), (OLD, "JPEG", "PNG")):
        for width in (320, 640, 960, 1280, 1920):
            image = site.get(f"/image/width={width}/photo.jpg", fields).open()
            assert (image.format, image.width) == (kind, min(width, 1600))
        image = site.get("/image/width=320/a.gif", fields).open()
        assert (image.format, image.size, getattr(image, "n_frames", 1)) == (moving, (320, 240), 3 if moving == "WEBP" else 1)
        assert site.get("/image/width=320/small.png", fields).open().size == (100, 50)
    assert site.list_jobs() == []
    call(site.folder, "publish", site.folder / "site", "--prod", "--images")
    assert len(site.list_jobs("ladder")) == 8  # nothing is tried again, not what was refused either
    got = site.get("/image/width=320/text.jpg", OLD)
    assert (got.status, got.problem()["type"]) == (422, "urn:assetserver:problem:picture-refused")


def test_what_the_settings_say_of_all_pictures_is_so_on_demand_and_ahead(start):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ada"
    qualities = {"JPEG": 31, "WEBP": 12, "AVIF": 13}
    env = {f"ASSETSERVER_IMAGES__{name}_QUALITY": str(value) for name, value in qualities.items()}
    env["ASSETSERVER_IMAGES__KEEP_COPYRIGHT"] = "true"
    site = start(env)
    (site.folder / "site" / "ada.jpg").write_bytes(encode(make_photo(700, 500), "JPEG", exif=exif))
    call(site.folder, "publish", site.folder / "site", "--prod")
    wait_for(lambda: site.get("/ada.jpg").status == 200, "the new release")
    asked = {kind: f"/image/width=640,format={kind.lower()}/ada.jpg" for kind in qualities}
    got = {kind: site.get(path) for kind, path in asked.items()}
    assert {one.open().getexif()[ExifTags.Base.Artist] for one in got.values()} == {"Ada"}
    assert got["JPEG"].open().quantization == Image.open(io.BytesIO(encode(make_photo(8, 8), "JPEG", quality=31))).quantization
    for kind in ("WEBP", "AVIF"):  # their files do not tell: nearly as small as with this quality, and not as with the default
        again = got["JPEG"].open()
        assert len(got[kind].content) < len(encode(again, kind, quality=40))
    call(site.folder, "publish", site.folder / "site", "--prod", "--images", env=env)
    wait_for(lambda: {state for state, _ in site.list_jobs("ladder")} <= {"done", "dead"}, "the end of all ladders")
    before = len(site.list_jobs())
    for fields in (CHROMIUM, SAFARI, OLD):
        assert site.get("/image/width=320/ada.jpg", fields).open().getexif()[ExifTags.Base.Artist] == "Ada"
    assert len(site.list_jobs()) == before


def test_larger_pictures_than_the_settings_let_in_are_not_made_smaller(start):
    site = start({"ASSETSERVER_IMAGES__LIMIT_MEGAPIXELS": "1"})
    got = site.get("/image/width=640/photo.jpg", OLD)
    assert got.status == 422
    assert "1.9 megapixels; the limit is 1" in got.problem()["detail"]


def list_fork_servers(process: int) -> list[int]:
    """Return which of a process and those that it started start children."""
    below = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    found = [process] if b"forkserver" in Path(f"/proc/{process}/cmdline").read_bytes() else []
    return found or [one for child in below for one in list_fork_servers(int(child))]


def test_one_studio_counts_all_pixels_that_a_worker_has_in_flight(start, photo):
    site = start()
    path = site.upload(make_token(site.folder), "a.jpg", photo)
    assert site.get("/image/width=640/photo.jpg", OLD).status == 200
    call(site.folder, "publish", site.folder / "site", "--prod", "--images")
    wait_for(lambda: {one[0] for one in site.list_jobs("ladder")} == {"done", "dead"}, "the ladders of a picture and of a text")
    wait_for(lambda: {one[0] for one in site.list_jobs("image")} == {"done"}, "the upload's picture")
    assert site.get(path).status == 200
    assert len(list_fork_servers(site.program.process.pid)) == 1


def test_a_full_queue_is_told(start):
    more = {"ASSETSERVER_JOBS__WORKERS": "0", "ASSETSERVER_IMAGES__PATIENCE_S": "0", "ASSETSERVER_IMAGES__QUEUE_LIMIT": "3"}
    site = start(more)
    statuses = [site.get(f"/image/width={width}/photo.jpg").status for width in (320, 640, 960)]
    assert statuses == [200, 200, 200]
    assert site.get("/image/width=320/photo.jpg").status == 200  # it is on its way already
    got = site.get("/image/width=1280/photo.jpg", {**OLD})
    assert (got.status, got.problem()["type"], int(got["retry-after"]) > 0) == (503, "urn:assetserver:problem:overloaded", True)
    assert len(site.list_jobs()) == 3


def test_a_picture_that_cannot_be_decoded_is_refused_and_not_tried_at_every_request(start, photo):
    site = start()
    broken = photo[: len(photo) // 3]
    path = site.upload(make_token(site.folder), "broken.jpg", broken)
    for _ in range(3):
        got = site.get(f"/image/width=640{path}")
        assert (got.status, got.problem()["type"]) == (422, "urn:assetserver:problem:picture-refused")
    assert [state for state, _ in site.list_jobs()] == ["dead"]
    wait_for(lambda: os.listdir(site.cache() / "making") == [], "the end of what was being made")


def test_a_worker_that_is_killed_at_work_leaves_nothing_wrong(start):
    site = start()
    site.get("/image/width=320,format=jpeg/photo.jpg")
    answers: list[Got] = []
    for number in range(3):
        photo = encode(make_photo(2400, 1800, blue=number), "JPEG")
        (site.folder / "site" / "photo.jpg").write_bytes(photo)
        call(site.folder, "publish", site.folder / "site", "--prod")
        wait_for(lambda photo=photo: site.get("/photo.jpg").content == photo, "the new release")
        asking = threading.Thread(target=lambda: answers.append(site.get("/image/width=1920,format=avif/photo.jpg")))
        asking.start()
        wait_for(lambda: any(state == "running" for state, _ in site.list_jobs()), "the beginning of a job")
        for worker in job_workers_of(site):
            os.kill(worker, signal.SIGKILL)
        asking.join(LIMIT_S)
        wait_for(lambda: {state for state, _ in site.list_jobs()} == {"done"}, "the end of all jobs")
        got = site.get("/image/width=1920,format=avif/photo.jpg")
        assert (got.status, got.open().size, got.open().format) == (200, (1920, 1440), "AVIF")
        got.open().load()
    assert [one.status for one in answers] == [200] * 3
    assert "Traceback" not in site.program.read_log()


def job_workers_of(site: Site) -> list[int]:
    """The children that do jobs: those that have a bell, whose name tells their process."""
    master = site.program.process.pid
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    bells = os.listdir(site.folder / "data" / "records.sqlite3-workers")
    return [int(one) for one in children if any(f"-{one}-" in bell for bell in bells)]


def test_a_damaged_or_lost_cache_is_made_again(start):
    site = start({"ASSETSERVER_MEMORY__LIMIT_BYTES": "0", "ASSETSERVER_MEMORY__HOT_LIMIT_BYTES": "0"})
    first = site.get("/image/width=640,format=jpeg/photo.jpg")
    files = [path for path in site.cache().rglob("*") if path.is_file()]
    assert len(files) == 2
    for damage in (lambda path: path.write_bytes(b"junk"), lambda path: path.unlink(), lambda path: os.truncate(path, 0)):
        for path in files:
            damage(path)
            got = site.get("/image/width=640,format=jpeg/photo.jpg")
            assert (got.status, got.content, got["etag"]) == (200, first.content, first["etag"])


def test_a_server_that_serves_files_alone_loads_neither_pillow_nor_a_database(start):
    site = start({"ASSETSERVER_UPLOADS__ENABLED": "false", "ASSETSERVER_PUBLISH__REMOTE": "false"})
    master = site.program.process.pid
    for path in ("/", "/photo.jpg", "/image/width=640/missing.jpg", "/image/width=1/photo.jpg"):
        site.get(path)
    children = Path(f"/proc/{master}/task/{master}/children")
    wait_for(lambda: len(children.read_text().split()) > 1, "who does jobs, for whom all was loaded that ever is")
    for one in [master, *map(int, children.read_text().split())]:
        maps = Path(f"/proc/{one}/maps").read_text()
        assert "_imaging" not in maps
        assert "sqlalchemy" not in maps
