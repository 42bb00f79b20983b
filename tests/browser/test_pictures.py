"""The ``<picture>`` of an upload in a real browser: sharp at every width of the window, in the best format that it knows."""

from __future__ import annotations

import base64
import io
import uuid

import pytest
from PIL import Image

from ..pictures.galleries import Gallery, draw, write

WIDTHS = (320, 500, 640, 1280, 1920, 2400)
SHOWN = (
    "(() => { const i = document.querySelector('img'); return "
    "i.complete && i.naturalWidth ? [i.currentSrc, i.getBoundingClientRect().width, window.innerWidth] : null })()"
)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """An upload whose picture is ready, and the server."""
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "pages").mkdir()
    gallery = Gallery(folder, {"ASSETSERVER_MOUNTS": '[{"prefix": "/pages", "directory": "pages"}]'})
    gallery.start()
    content = write(draw(2200, 1400), quality=90)
    yield gallery, gallery.settled(gallery.upload(content)["id"])
    gallery.kill()


def find_shown(image: dict, url: str) -> dict:
    return next(one for one in image["variants"] if url.endswith(one["url"]))


def show(browser, gallery: Gallery, html: str, width: int, density: float) -> tuple[str, float]:
    """Show HTML in a window of ``width``; return the URL of what is shown, and how wide it is, in CSS pixels."""
    page = gallery.folder / f"pages/{uuid.uuid4()}.html"
    page.write_text(f"<!doctype html><body style='margin:0'>{html}")
    browser.clear()  # or the page before asks for what fits the new width, and is gone before it comes
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=2000, deviceScaleFactor=density, mobile=False)
    browser.open(f"{gallery.url}/pages/{page.name}")
    browser.wait_until(lambda: browser.evaluate(SHOWN), "the picture is shown")
    url, shown, window = browser.evaluate(SHOWN)
    assert window == width
    return url, shown


@pytest.mark.parametrize("density", [1, 2])
def test_a_picture_is_sharp_at_every_width_and_no_larger_than_need_be(browser, photograph, density):
    gallery, upload = photograph
    image = upload["image"]
    ladder = sorted({one["width"] for one in image["variants"]})
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    for width in WIDTHS:
        url, shown = show(browser, gallery, image["html"], width, density)
        variant = find_shown(image, url)
        assert variant["format"] == "avif"
        assert shown == min(width, ladder[-1])
        needed = min(shown * density, ladder[-1])
        assert variant["width"] == next(step for step in ladder if step >= needed)


def test_browsers_that_know_no_avif_get_webp_and_others_jpeg(browser, photograph):
    gallery, upload = photograph
    html = upload["image"]["html"]
    for unknown, expected in (({"avif"}, "webp"), ({"avif", "webp"}, "jpeg")):
        for name in unknown:
            html = html.replace(f"image/{name}", f"image/no-{name}")  # a type that no browser knows
        url, _ = show(browser, gallery, html, 700, 1)
        assert find_shown(upload["image"], url)["format"] == expected


def test_what_is_shown_looks_as_what_was_uploaded(browser, photograph):
    gallery, upload = photograph
    show(browser, gallery, upload["image"]["html"], 640, 1)
    shot = browser.call("Page.captureScreenshot", clip={"x": 0, "y": 0, "width": 640, "height": 400, "scale": 1})["data"]
    seen = Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")
    expected = draw(2200, 1400).resize((640, 407), Image.Resampling.LANCZOS)
    for x, y in ((10, 10), (320, 200), (600, 30), (100, 390), (620, 390)):
        assert all(abs(a - b) <= 8 for a, b in zip(seen.getpixel((x, y)), expected.getpixel((x, y)), strict=True)), (x, y)


def test_pages_hear_of_a_picture_with_a_grant_alone(browser, photograph):
    """EventSource and WebSocket cannot send Authorization: a grant goes into the URL."""
    gallery, _ = photograph
    script = """(async () => {
        const grant = await (await fetch('/-/api/grants', {method: 'POST', body: '{}', headers: {
            Authorization: 'Bearer TOKEN', 'Content-Type': 'application/json'}})).json();
        const bytes = Uint8Array.from(atob('CONTENT'), c => c.charCodeAt(0));
        const answer = await fetch('/uploads?name=a.jpg&grant=' + grant.grant, {method: 'POST', body: bytes});
        const up = (await answer.json()).uploads[0];
        const where = '/uploads/' + up.id;
        const events = new EventSource(where + '/events?grant=' + grant.grant);
        const seen = await new Promise((done, fail) => {
            const seen = []; events.onerror = () => fail('no events');
            events.onmessage = e => { const i = JSON.parse(e.data).image; seen.push(i.state);
                if (i.state == 'ready' && !i.pending.length) { events.close(); done(seen) } } });
        const live = new WebSocket(location.origin.replace('http', 'ws') + where + '/live?grant=' + grant.grant);
        const last = await new Promise((done, fail) => {
            live.onmessage = e => done(JSON.parse(e.data).image.state); live.onerror = fail });
        return [seen.at(-1), last] })()"""
    content = base64.b64encode(write(draw(400, 300, 7))).decode()
    browser.open(gallery.url + "/-/console/")
    answer = browser.evaluate(script.replace("TOKEN", gallery.token).replace("CONTENT", content))
    assert answer == ["ready", "ready"]
