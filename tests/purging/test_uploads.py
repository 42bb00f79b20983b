"""What uploads by name, removals and changed pictures have purged, and that this is recorded with them or not at all."""

from __future__ import annotations

import time
from contextlib import closing

import msgspec
import pytest

from assetserver.data import open_records
from assetserver.ondemandurls import PictureUrls
from assetserver.pictures.records import PictureRecord, StoredVariant
from assetserver.purgeuploads import purges_of_removal, purges_of_upload
from assetserver.purging.orders import PurgeOrder
from assetserver.settings import load_settings
from assetserver.uploads.records import Complete, Remove, Upload

ORIGIN = "https://a.example"
ID = "0123456789abcdefghijklmn"
PUBLIC = {"server.public_url": ORIGIN}


@pytest.fixture
def settings(tmp_path):
    """``settings(purge={…}, **{"images.on_demand": True})`` has a cache in front."""

    def make(purge=None, overrides=None):
        cache = {"name": "edge", "service": "varnish", "url": "http://127.0.0.1:1"} | (purge or {})
        return load_settings(overrides={"data.path": str(tmp_path), "purge": [cache], **(PUBLIC | (overrides or {}))})

    return make


def upload_of(**fields):
    told = {"state": "complete", "name": "pic.png", "media_type": "image/png", "sha256": "ab" * 32, "by_name": "logo.png"}
    whole = {"id": ID, "collection": "", "owner": "o", "size": 3, "offset": 3, "created": time.time(), "metadata": {}}
    return Upload(**(whole | {"expires": None, "kind": "raw"} | told | fields))


def read(jobs):
    orders = [msgspec.json.decode(one.payload, type=PurgeOrder) for one in jobs]
    return (
        {url for one in orders for url in one.urls},
        {tag for one in orders for tag in one.tags},
        {root for one in orders for root in one.roots},
    )


def test_a_name_that_is_taken_is_purged_wherever_it_is_found(settings):
    jobs = purges_of_upload(settings())(upload_of(by_name="ein bild.png"))
    assert read(jobs)[0] == {f"{ORIGIN}/media/by-name/ein%20bild.png", f"{ORIGIN}/media/by-name/default/ein%20bild.png"}
    assert {one.delay_s for one in jobs} == {2}
    hosts = {"sites": [{"name": "default", "prefix": "/", "host": "b.example"}]}
    assert f"https://b.example/media/by-name/{'logo.png'}" in read(purges_of_upload(settings(overrides=hosts))(upload_of()))[0]


def test_each_upload_is_a_purge_of_its_own_and_one_without_a_name_is_none(settings):
    purge = purges_of_upload(settings())
    (first,), (second,) = purge(upload_of()), purge(upload_of(id="x" * 24))
    assert first.key != second.key, "the first may be on its way before the second is seen"
    assert purge(upload_of()) == [first]
    assert not purge(upload_of(by_name=""))


def test_what_only_signed_urls_show_is_not_purged(settings):
    closed = settings(overrides={"collections": [{"name": "closed", "access": "signed"}, {"name": "open", "access": "public"}]})
    for purge in (purges_of_upload(closed), lambda one: purges_of_removal(closed)(one, None)):
        assert not purge(upload_of(collection="closed"))
        assert not purge(upload_of(collection="was-renamed"))
        assert f"{ORIGIN}/media/by-name/open/logo.png" in read(purge(upload_of(collection="open")))[0]


def test_a_removed_upload_is_purged_with_all_that_was_made_of_it(settings):
    variant = StoredVariant(format="webp", width=320, height=200, size=9, sha256="cd" * 32)
    record = PictureRecord(
        key="k", source="ab" * 32, state="ready", reason="", progress=1.0, look=None, pending=(), variants=(variant,)
    )
    removal = purges_of_removal(settings())
    assert read(removal(upload_of(), record))[0] == {
        f"{ORIGIN}/media/by-name/logo.png",
        f"{ORIGIN}/media/by-name/default/logo.png",
        f"{ORIGIN}/media/{ID}/pic.png",
        f"{ORIGIN}/media/{ID}/pic.cdcdcdcdcdcd-320w.webp",
    }
    assert read(removal(upload_of(by_name=""), None))[0] == {f"{ORIGIN}/media/{ID}/pic.png"}
    assert not removal(upload_of(state="uploading"), None), "nobody was shown what is not complete"


def test_a_host_for_uploads_alone_is_purged_and_pictures_where_the_sites_are(settings):
    media = {"uploads.media_url": "https://media.example", "images.on_demand": True, "images.widths": [320]}
    urls = read(purges_of_upload(settings(overrides=media))(upload_of()))[0]
    assert "https://media.example/media/by-name/logo.png" in urls
    assert f"{ORIGIN}/image/width=320/media/by-name/logo.png" in urls
    elsewhere = settings({"origins": [ORIGIN]}, media)
    assert not any(url.startswith("https://media") for url in read(purges_of_upload(elsewhere)(upload_of()))[0])


def test_pictures_on_demand_of_it_are_purged_as_everybody_may_ask_for_them(settings):
    found = settings(overrides={"images.on_demand": True, "images.widths": [320, 640], "images.presets": {"thumb": "width=9"}})
    urls = read(purges_of_upload(found)(upload_of()))[0]
    options = set(PictureUrls(found).list_free())
    assert {f"{ORIGIN}/image/{one}/media/by-name/logo.png" for one in options} <= urls
    assert len(urls) == 2 * (len(options) + 1)
    signed = settings(overrides={"images.on_demand": True, "images.signed": True})
    assert len(read(purges_of_upload(signed)(upload_of()))[0]) == 2
    assert len(read(purges_of_upload(found)(upload_of(by_name="notes.txt")))[0]) == 2
    urls, _, roots = read(purges_of_upload(settings({"everything_above": 50}, {"images.on_demand": True}))(upload_of()))
    assert (len(urls), roots) == (2, {f"{ORIGIN}/image/"})


def test_tags_stand_for_the_name_and_for_pictures_of_it(settings):
    rule = {"match": "media/by-name/**", "tags": ["names"]}
    tagged = settings({"by": "tag"}, {"cache": [rule], "images.on_demand": True, "images.widths": [320]})
    urls, tags, _ = read(purges_of_upload(tagged)(upload_of()))
    assert tags == {"names"}
    assert not urls


def test_purges_are_recorded_with_the_upload_and_its_removal_or_not_at_all(settings):
    found = settings()
    upload = upload_of()
    made, gone = tuple(purges_of_upload(found)(upload)), tuple(purges_of_removal(found)(upload, None))
    with closing(open_records(found)) as records:
        uploads = records.uploads()

        def commit(change, *, is_stored=True):
            (refusal,) = uploads.commit([change], lambda _: is_stored)
            return refusal, [one.key for one in records.jobs().list_jobs().jobs]

        refused, keys = commit(Complete(upload, is_new=True, jobs=made), is_stored=False)
        assert refused is not None
        assert keys == []
        assert commit(Complete(upload, is_new=True, jobs=made)) == (None, [made[0].key])
        assert commit(Remove(upload.id, time.time(), gone))[0] is None
        assert {one.key for one in records.jobs().list_jobs().jobs} == {made[0].key, gone[0].key}
        refused, keys = commit(Remove("x" * 24, time.time(), tuple(purges_of_removal(found)(upload_of(id="x" * 24), None))))
        assert refused is not None
        assert len(keys) == 2
