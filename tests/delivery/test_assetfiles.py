"""The whole answer of ``AssetFiles``: which file, which coding, which fields, and what happens when the disk changes."""

import gzip
import json
import os
import subprocess
import sys
import threading
from base64 import b64encode
from hashlib import md5, sha256, shake_256
from typing import ClassVar

import anyio
import brotli
import pytest

from assetserver.delivery import assetfiles, hotpaths
from assetserver.delivery import encodings as encodings_module
from assetserver.delivery.assetfiles import PUBLIC_FIELDS
from assetserver.delivery.encodings import Encodings
from assetserver.delivery.memory import MemoryCache
from assetserver.delivery.resources import Resources
from assetserver.errors import OverloadedError
from assetserver.semantics.caching import ASSET, IMMUTABLE, PAGE, CachePolicy, CacheRule, CacheTable
from assetserver.semantics.representation import SUFFIXES, ContentCoding
from assetserver.storage.codecs import decode


def noise(seed: int, size: int) -> bytes:
    """Return bytes that no coding makes smaller, the same for the same seed."""
    return shake_256(bytes([seed])).digest(size)


CSS = b"body { color: rebeccapurple; margin: 0 }\n" * 100
CODINGS = tuple(SUFFIXES)
TOKENS = [coding.value for coding in CODINGS]


def decoded(answer) -> bytes:
    token = answer.get("content-encoding")
    return b"".join(decode(ContentCoding(token), iter([answer.body]))) if token else answer.body


class TestCodings:
    @pytest.mark.parametrize("token", TOKENS)
    def test_a_first_request_waits_for_its_form_and_a_second_gets_the_same(self, make_site, token):
        site = make_site({"a.css": CSS})
        first = site.get("/a.css", accept_encoding=token)
        assert (first["content-encoding"], first["vary"]) == (token, "accept-encoding")
        assert (int(first["content-length"]), decoded(first)) == (len(first.body), CSS)
        second = site.get("/a.css", accept_encoding=token)
        assert (second.body, second["etag"]) == (first.body, first["etag"])

    def test_tags_lengths_and_digests_are_those_of_each_representation(self, make_site):
        site = make_site({"a.css": CSS})
        answers = [site.get("/a.css", accept_encoding=token, want_repr_digest="sha-256=1") for token in ("identity", *TOKENS)]
        assert len({answer["etag"] for answer in answers}) == 4
        assert not any(answer["etag"].startswith("W/") for answer in answers)
        for answer in answers:
            assert answer["repr-digest"] == f"sha-256=:{b64encode(sha256(answer.body).digest()).decode()}:"

    def test_head_has_the_fields_of_get(self, make_site):
        site = make_site({"a.css": CSS})
        for token in ("identity", *TOKENS):
            get, head = (site.get("/a.css", method, accept_encoding=token) for method in ("GET", "HEAD"))
            assert head.body == b""
            assert [field for field in head.fields if field[0] != b"cache-status"] == [
                field for field in get.fields if field[0] != b"cache-status"
            ]

    def test_ranges_of_a_compressed_form_are_its_bytes_and_resume_only_with_its_tag(self, make_site):
        site = make_site({"a.css": noise(1, 3000).hex()})
        whole = site.get("/a.css", accept_encoding="br")
        identity = site.get("/a.css")
        part = site.get("/a.css", accept_encoding="br", range="bytes=100-", if_range=whole["etag"])
        assert (part.status, part["content-encoding"], part["etag"]) == (206, "br", whole["etag"])
        assert whole.body[:100] + part.body == whole.body
        assert part["content-range"] == f"bytes 100-{len(whole.body) - 1}/{len(whole.body)}"
        for accept, tag in (("identity", whole["etag"]), ("br", identity["etag"]), ("gzip", whole["etag"])):
            assert site.get("/a.css", accept_encoding=accept, range="bytes=100-", if_range=tag).status == 200

    def test_a_tag_of_another_coding_does_not_make_a_304(self, make_site):
        site = make_site({"a.css": CSS})
        tag = site.get("/a.css", accept_encoding="br")["etag"]
        assert site.get("/a.css", accept_encoding="br", if_none_match=tag).status == 304
        assert site.get("/a.css", accept_encoding="gzip", if_none_match=tag).status == 200

    @pytest.mark.parametrize("name", ["a.png", "a.woff2", "a.zip", "a.mp4", "a.unknown"])
    def test_what_is_compressed_already_does_not_vary(self, make_site, name):
        answer = make_site({name: CSS}).get("/" + name, accept_encoding="br, gzip")
        assert (answer.get("vary"), answer.get("content-encoding"), answer.body) == (None, None, CSS)

    @pytest.mark.parametrize("size", [0, 1, 255])
    def test_a_small_file_is_sent_as_it_is(self, make_site, size):
        answer = make_site({"a.css": b"x" * size}).get("/a.css", accept_encoding="br, gzip")
        assert (answer.get("vary"), answer.get("content-encoding"), answer["content-length"]) == (None, None, str(size))

    def test_an_empty_file_is_a_200_of_nothing_with_a_tag(self, make_site):
        site = make_site({"empty.css": b""})
        answer = site.get("/empty.css", accept_encoding="br", range="bytes=0-")
        assert (answer.status, answer["content-length"], answer.body) == (200, "0", b"")
        assert site.get("/empty.css", if_none_match=answer["etag"]).status == 304

    def test_strict_answers_406_where_every_coding_is_refused(self, make_site):
        for strict, status in ((True, 406), (False, 200)):
            answer = make_site({"a.png": CSS}, strict=strict).get("/a.png", accept_encoding="identity;q=0")
            assert answer.status == status

    @pytest.mark.parametrize("size", [10_000, 3 << 20])
    def test_large_and_small_files_are_compressed_alike(self, make_site, size):
        content = noise(1, size // 2).hex().encode()
        site = make_site({"a.json": content})
        for token in TOKENS:
            answer = site.get("/a.json", accept_encoding=token)
            assert (answer["content-encoding"], decoded(answer)) == (token, content)


class TestPatience:
    @pytest.fixture
    def held(self, tmp_path):
        """Resources whose compression waits until it may go on, and counts."""

        class Held(Encodings):
            go_on = threading.Event()
            made = 0

            def make(self, *args):
                assert self.go_on.wait(60)
                self.made += 1
                super().make(*args)

        held = Held(directory=str(tmp_path / "forms"))
        held.go_on = threading.Event()
        resources = Resources(encodings=held)
        yield resources
        held.go_on.set()
        resources.close()

    def test_a_request_that_has_waited_long_enough_gets_the_file_as_it_is(self, make_site, held):
        site = make_site({"a.css": CSS}, resources=held, patience_s=0.01)
        answer = site.get("/a.css", accept_encoding="br")
        assert (answer.status, answer.get("content-encoding"), answer["vary"]) == (200, None, "accept-encoding")
        held.encodings.go_on.set()
        site.settle("a.css")
        assert site.get("/a.css", accept_encoding="br")["content-encoding"] == "br"

    def test_a_request_that_wants_no_coding_does_not_wait(self, make_site, held):
        site = make_site({"a.css": CSS}, resources=held, patience_s=3600)
        assert site.get("/a.css").status == 200
        assert site.get("/a.css", accept_encoding="identity").status == 200

    def test_one_that_does_not_wait_does_not_spoil_it_for_the_next(self, make_site, held):
        """Else a CDN would keep identity for as long as it keeps the file."""
        site = make_site({"a.css": CSS}, resources=held)
        assert "content-encoding" not in site.get("/a.css")
        threading.Timer(0.05, held.encodings.go_on.set).start()
        assert site.get("/a.css", accept_encoding="br")["content-encoding"] == "br"

    def test_a_form_that_took_longer_than_an_entry_is_fresh_is_still_sent(self, make_site, held, clock):
        class Slow(type(held.encodings)):
            def make(self, *args):
                clock.pass_s(5)
                super().make(*args)

        held.encodings.__class__ = Slow
        held.encodings.go_on.set()
        site = make_site({"a.css": CSS}, resources=held)
        assert site.get("/a.css", accept_encoding="br")["content-encoding"] == "br"

    def test_requests_at_once_cause_one_compression(self, make_site, make_scope, exchange, held):
        site = make_site({"a.css": CSS}, resources=held)
        scope = make_scope("/a.css", headers=[(b"accept-encoding", b"br")])
        answers = []

        async def ask_once():
            answers.append(await exchange(site.app, scope))

        async def ask_often():
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(ask_once)
                await anyio.sleep(0.05)
                held.encodings.go_on.set()

        anyio.run(ask_often)
        assert [answer["content-encoding"] for answer in answers] == ["br"] * 20
        assert held.encodings.made == 1


class TestKeptForms:
    def test_a_file_is_compressed_once_over_restarts(self, make_site, tmp_path, monkeypatch):
        real, made = encodings_module.compress, []

        def compress(coding, pieces, length):
            made.append(coding)
            return real(coding, pieces, length)

        monkeypatch.setattr(encodings_module, "compress", compress)
        for _ in range(3):
            resources = Resources(encodings=Encodings(directory=str(tmp_path / "forms")))
            site = make_site({"a.css": CSS}, resources=resources)
            for token in TOKENS * 2:
                assert site.get("/a.css", accept_encoding=token)["content-encoding"] == token
                site.forget()
            resources.close()
        assert sorted(coding.value for coding in made) == sorted(TOKENS)

    def test_a_kept_form_that_vanishes_is_made_again(self, make_site, tmp_path):
        site = make_site({"a.css": CSS}, resources=Resources(MemoryCache(0), Encodings(directory=str(tmp_path / "forms"))))
        for _ in range(3):
            answer = site.get("/a.css", accept_encoding="br")
            assert (answer["content-encoding"], decoded(answer)) == ("br", CSS)
            for form in (tmp_path / "forms").iterdir():
                form.unlink()
        site.resources.close()

    def test_a_kept_form_that_is_damaged_is_never_sent(self, make_site, tmp_path):
        site = make_site({"a.css": CSS}, resources=Resources(MemoryCache(0), Encodings(directory=str(tmp_path / "forms"))))
        for _ in range(3):
            assert decoded(site.get("/a.css", accept_encoding="br")) == CSS
            for form in (tmp_path / "forms").iterdir():
                form.write_bytes(b"damaged")
        site.resources.close()

    def test_without_a_usable_cache_folder_files_are_sent_as_they_are(self, make_site, tmp_path, caplog):
        (tmp_path / "occupied").write_text("a file")
        site = make_site(resources=Resources(encodings=Encodings(directory=str(tmp_path / "occupied" / "forms"))))
        for name in ("a.css", "b.css", "c.css"):
            site.write(name)
            answer = site.get("/" + name, accept_encoding="br")
            assert (answer.status, answer.get("content-encoding")) == (200, None)
        assert len([record for record in caplog.records if record.name.startswith("assetserver")]) == 1
        site.resources.close()


class TestSidecars:
    def test_a_good_one_is_sent_and_hidden(self, make_site):
        coded = brotli.compress(CSS, quality=11)
        site = make_site({"a.css": CSS, "a.css.br": coded})
        os.utime(site.root / "a.css.br", (1, 1))
        assert site.get("/a.css", accept_encoding="br").body == coded
        assert site.get("/a.css.br").status == 404

    @pytest.mark.parametrize(
        "bad",
        [b"", b"junk", brotli.compress(b"old"), brotli.compress(CSS)[:-1], gzip.compress(CSS)],
        ids=["empty", "junk", "of another file", "cut off", "gzip"],
    )
    def test_a_bad_one_is_not_sent(self, make_site, bad):
        site = make_site({"a.css": CSS, "a.css.br": bad})
        answer = site.get("/a.css", accept_encoding="br")
        assert (answer["content-encoding"], decoded(answer)) == ("br", CSS)
        assert answer.body != bad

    def test_one_that_is_added_replaced_and_deleted_is_noticed(self, make_site):
        site = make_site({"a.png": CSS})
        assert "content-encoding" not in site.get("/a.png", accept_encoding="gzip")
        for level in (9, 1):
            site.write("a.png.gz", gzip.compress(CSS, level, mtime=0))
            site.forget()
            answer = site.get("/a.png", accept_encoding="gzip")
            assert (answer["content-encoding"], answer.body) == ("gzip", gzip.compress(CSS, level, mtime=0))
            assert answer["vary"] == "accept-encoding"
        (site.root / "a.png.gz").unlink()
        site.forget()
        assert "content-encoding" not in site.get("/a.png", accept_encoding="gzip")

    def test_one_that_is_replaced_after_it_was_checked_is_not_sent_under_the_old_tag(self, make_site):
        site = make_site({"a.png": CSS, "a.png.gz": gzip.compress(CSS)}, resources=Resources(MemoryCache(0)))
        assert site.get("/a.png", accept_encoding="gzip")["content-encoding"] == "gzip"
        site.write("a.png.gz", gzip.compress(b"something else"))
        answer = site.get("/a.png", accept_encoding="gzip")  # the entry is still fresh
        assert decoded(answer) == CSS
        site.resources.close()

    def test_an_archive_without_its_file_is_an_archive(self, make_site):
        site = make_site({"x.tar.gz": gzip.compress(CSS), "y.txt.br": brotli.compress(CSS)})
        answer = site.get("/x.tar.gz", accept_encoding="gzip, br")
        assert (answer["content-type"], answer.get("content-encoding")) == ("application/gzip", None)
        assert site.get("/y.txt.br").get("content-encoding") is None
        site.write("x.tar", CSS)
        site.forget()
        assert site.get("/x.tar.gz").status == 404


class TestChanges:
    @pytest.mark.parametrize("size", [100, 3 << 20], ids=["in memory", "streamed"])
    def test_new_changed_and_deleted_files_are_noticed(self, make_site, size):
        site = make_site()
        assert site.get("/a.bin").status == 404
        for fill in (b"1", b"2"):
            site.write("a.bin", fill * size)
            site.forget()
            assert site.get("/a.bin").body == fill * size
        (site.root / "a.bin").unlink()
        site.forget()
        assert site.get("/a.bin").status == 404

    @pytest.mark.parametrize("size", [100, 3 << 20], ids=["in memory", "streamed"])
    def test_a_replacement_within_the_freshness_time_is_served_old_or_new_but_whole(self, make_site, size):
        site = make_site({"a.bin": b"1" * size}, resources=Resources(MemoryCache(0)))
        old = site.get("/a.bin")
        site.write("a.bin", b"2" * size)
        new = site.get("/a.bin")
        assert (new.body, new["etag"] != old["etag"]) == (b"2" * size, True), "nothing held the old bytes any more"
        site.resources.close()

    def test_a_known_file_costs_no_look_at_the_disk(self, make_site):
        site = make_site({"a.css": CSS})
        tag = site.get("/a.css", accept_encoding="br")["etag"]
        site.app.folder.roots = None
        for _ in range(3):
            assert site.get("/a.css", accept_encoding="br").body
            assert site.get("/a.css", "HEAD", accept_encoding="br")["etag"] == tag
            assert site.get("/a.css", accept_encoding="br", if_none_match=tag).status == 304
            assert site.get("/a.css", accept_encoding="br", range="bytes=0-9").status == 206

    def test_content_written_within_one_tick_is_never_sent_under_a_tag_of_the_old(self, make_site, monkeypatch):
        """The signature is the same, so only the content can tell."""
        site = make_site({"a.bin": b"1" * 100})
        entry = site.app.folder.load("a.bin")
        site.write("a.bin", b"2" * 100)
        frozen = site.app.folder.roots.probe("a.bin")
        entry.probe = frozen
        entry.sources = {coding: type(source)(source.path, frozen.signature) for coding, source in entry.sources.items()}
        answer = site.get("/a.bin")
        assert (answer.body, answer["etag"]) == (b"2" * 100, f'"{sha256(b"2" * 100).hexdigest()[:32]}"')
        assert site.resources.memory.get(sha256(b"1" * 100).digest()) is None

    def test_a_file_that_changes_at_every_look_is_503_and_not_half_an_answer(self, make_site, monkeypatch):
        site = make_site({"a.bin": b"0" * 100})
        monkeypatch.setattr(assetfiles, "read_whole", lambda *_: None)
        answer = site.get("/a.bin")
        assert (answer.status, answer["retry-after"], answer["cache-control"]) == (503, "1", "no-store")


class TestFields:
    @pytest.fixture
    def answers(self, make_site):
        """Return a function that makes a site and returns its 200, 206 and 304, coded and not, first and repeated."""

        def ask_all(name="a.css", content=CSS, **options):
            site = make_site({name: content}, **options)
            found = []
            for _ in range(2):
                for accept in ("identity", "br"):
                    whole = site.get("/" + name, accept_encoding=accept)
                    part = site.get("/" + name, accept_encoding=accept, range="bytes=1-5")
                    unchanged = site.get("/" + name, accept_encoding=accept, if_none_match=whole["etag"])
                    head = site.get("/" + name, "HEAD", accept_encoding=accept)
                    assert [one.status for one in (whole, part, unchanged, head)] == [200, 206, 304, 200]
                    found += [whole, part, unchanged, head]
            return found

        return ask_all

    @pytest.mark.parametrize("name", [*PUBLIC_FIELDS, "Cache-Control", "CDN-Cache-Control", "Cache-Tag", "Vary"])
    def test_each_goes_on_200_206_and_304_alike(self, answers, name):
        rule = CacheRule("**", CachePolicy("max-age=5", "max-age=50", ("one", "two")))
        table = CacheTable(rules=(rule,), profile="generic", tags=("all",))
        expected = {
            **PUBLIC_FIELDS,
            "Cache-Control": "max-age=5",
            "CDN-Cache-Control": "max-age=50",
            "Cache-Tag": "all,one,two",
            "Vary": "accept-encoding",
        }
        assert {answer[name] for answer in answers(cache=table)} == {expected[name]}

    def test_validators_go_on_all_and_content_fields_not_on_304(self, answers):
        for answer in answers():
            assert "etag" in answer
            content = {"content-type", "content-length", "content-encoding", "content-range", "accept-ranges"}
            if answer.status == 304:
                assert not content & {name.decode() for name, _ in answer.fields}
            else:
                assert "last-modified" in answer
                assert answer["accept-ranges"] == "bytes"

    @pytest.mark.parametrize(
        ("profile", "lifetime", "tags"),
        [
            ("none", None, None),
            ("cloudflare", "cloudflare-cdn-cache-control", ("cache-tag", "a,b")),
            ("fastly", "surrogate-control", ("surrogate-key", "a b")),
            ("akamai", None, ("edge-cache-tag", "a,b")),
        ],
    )
    def test_a_profile_speaks_its_cdns_fields(self, answers, profile, lifetime, tags):
        table = CacheTable(rules=(CacheRule("**", CachePolicy("no-cache", "max-age=9", ("a", "b"))),), profile=profile)
        for answer in answers(cache=table):
            if lifetime:
                assert answer[lifetime] == "max-age=9"
            if tags:
                assert answer[tags[0]] == tags[1]
            if profile == "none":
                assert not {"cdn-cache-control", "cache-tag"} & {name.decode() for name, _ in answer.fields}

    @pytest.mark.parametrize("algorithm", [sha256, md5])
    def test_a_name_that_the_content_proves_is_immutable(self, answers, algorithm):
        for answer in answers(f"app.{algorithm(CSS).hexdigest()[:12]}.css"):
            assert answer["cache-control"] == IMMUTABLE

    @pytest.mark.parametrize("name", ["app-deadbeef.css", "app.0123456789ab.css", "a.css", "index-BxK2mY9p.css"])
    def test_a_name_that_only_looks_hashed_is_not(self, answers, name):
        assert {answer["cache-control"] for answer in answers(name)} == {ASSET}

    def test_declared_names_and_versioned_folders_are_immutable(self, answers):
        assert {
            one["cache-control"] for one in answers("index-BxK2mY9p.css", cache=CacheTable(immutable=("*-????????.css",)))
        } == {IMMUTABLE}
        assert {one["cache-control"] for one in answers("a.css", cache=CacheTable(versioned=True))} == {IMMUTABLE}

    def test_a_page_is_asked_for_again(self, answers):
        assert {answer["cache-control"] for answer in answers("a.html", html=True)} == {PAGE}

    def test_fields_can_be_replaced(self, answers):
        for answer in answers(fields={"X-Own": "1"}, cache_status=False):
            assert answer["x-own"] == "1"
            assert not {"access-control-allow-origin", "cache-status"} & {name.decode() for name, _ in answer.fields}

    def test_cache_status_tells_where_the_content_came_from(self, make_site):
        site = make_site({"a.png": CSS, "big.png": bytes(3 << 20)})
        assert site.get("/a.png")["cache-status"] == "assetserver; fwd=miss; stored"
        assert site.get("/a.png")["cache-status"] == "assetserver; hit"
        assert [site.get("/big.png")["cache-status"] for _ in range(2)] == ["assetserver; fwd=bypass"] * 2
        assert site.get("/nothing").get("cache-status") is None

    @pytest.mark.parametrize("seconds", [0, 1, 315_532_800, 499_162_500, 4_000_000_000])
    def test_a_time_that_says_nothing_is_not_sent(self, make_site, seconds):
        site = make_site({"a.css": CSS})
        os.utime(site.root / "a.css", (seconds, seconds))
        assert site.get("/a.css").get("last-modified") is None


class TestMethods:
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "get", "FOO"])
    @pytest.mark.parametrize("path", ["/a.css", "/nothing", "/../x", "//a.css"])
    def test_others_are_405_with_allow(self, make_site, method, path):
        answer = make_site({"a.css": CSS}).get(path, method)
        assert (answer.status, answer["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert answer["cache-control"] == "no-store"

    @pytest.mark.parametrize("path", ["/a.css", "/nothing", "/../x", "//a.css", "*"])
    def test_options_is_204_with_allow(self, make_site, path):
        answer = make_site({"a.css": CSS}).get(path, "OPTIONS")
        assert (answer.status, answer["allow"], answer.body) == (204, "GET, HEAD, OPTIONS", b"")
        assert answer.get("access-control-allow-methods") is None

    def test_a_preflight_is_granted_what_may_be_asked(self, make_site):
        fields = {"origin": "https://x.example", "access_control_request_method": "GET"}
        answer = make_site({"a.css": CSS}).get("/a.css", "OPTIONS", **fields)
        assert (answer.status, answer["access-control-allow-origin"]) == (204, "*")
        assert answer["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
        assert "access-control-allow-methods" not in make_site(fields={}).get("/a.css", "OPTIONS", **fields)

    def test_preconditions_on_what_is_missing_stay_404(self, make_site):
        site = make_site({"a.css": CSS})
        assert site.get("/nothing", if_match='"x"').status == 404
        assert site.get("/nothing", if_none_match="*").status == 404
        assert site.get("/nothing", range="bytes=0-1").status == 404


class TestPages:
    FILES: ClassVar = {
        "index.html": "home",
        "about.html": "about",
        "docs/index.html": "docs",
        "docs/guide.html": "guide",
        "app.js": "js",
        "404.html": "lost",
        "plain/a.txt": "x",
    }

    @pytest.mark.parametrize(
        ("path", "status", "body"),
        [
            ("/", 200, b"home"),
            ("/index.html", 200, b"home"),
            ("/docs/", 200, b"docs"),
            ("/docs/guide.html", 200, b"guide"),
            ("/about", 404, b"lost"),
            ("/plain/", 404, b"lost"),
            ("/plain", 404, b"lost"),
            ("/nothing.js", 404, b"lost"),
            ("/about.html/", 404, b"lost"),
            ("/../x", 404, b"lost"),
        ],
    )
    def test_html_mode_serves_index_pages_and_the_sites_own_404(self, make_site, path, status, body):
        answer = make_site(self.FILES, html=True).get(path)
        assert (answer.status, answer.body) == (status, body)

    def test_without_html_mode_folders_and_misses_are_plain_404s(self, make_site):
        site = make_site(self.FILES)
        for path in ("/", "/docs", "/docs/", "/nothing"):
            answer = site.get(path)
            assert (answer.status, answer["content-type"]) == (404, "text/plain; charset=utf-8")
            assert answer["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize("root_path", ["", "/static", "/a b"])
    def test_a_folder_redirects_to_its_slash_by_path_alone_with_its_query(self, make_site, make_scope, ask, root_path):
        site = make_site(self.FILES, html=True)
        scope = make_scope("/docs", query=b"x=1&y=%2F") | {"root_path": root_path, "path": root_path + "/docs"}
        scope["raw_path"] = root_path.replace(" ", "%20").encode() + b"/docs"
        scope["headers"] = [(b"host", b"evil.example"), (b"x-forwarded-host", b"evil.example")]
        answer = anyio.run(_exchange_of(make_scope), site.app, scope)
        assert (answer[0]["status"], dict(answer[0]["headers"])[b"location"]) == (
            308,
            f"{root_path.replace(' ', '%20')}/docs/?x=1&y=%2F".encode(),
        )

    def test_the_404_page_is_negotiated_but_not_kept_or_ranged(self, make_site):
        site = make_site({"404.html": b"<p>lost</p>" * 100}, html=True)
        answer = site.get("/nothing", accept_encoding="br", range="bytes=0-1", if_none_match="*")
        assert (answer.status, answer["cache-control"], answer.get("etag")) == (404, "no-cache", None)
        assert answer.get("accept-ranges") is None
        site.settle("404.html")
        again = site.get("/nothing", accept_encoding="br")
        assert decoded(again) == b"<p>lost</p>" * 100
        assert again["vary"] == "accept-encoding"
        head = site.get("/nothing", "HEAD")
        assert (head.status, head.body, head["content-length"]) == (404, b"", "1100")

    @pytest.mark.parametrize(
        "path", ["/gone.js", "/gone.css", "/assets/app-BxK2mY9p.chunk", "/gone.0123456789ab.css", "/x.png", "/x.map"]
    )
    @pytest.mark.parametrize("options", [{}, {"html": True}, {"html": True, "fallback": "index.html", "clean_urls": True}])
    def test_a_missing_asset_is_404_and_not_to_be_stored(self, make_site, path, options):
        answer = make_site({"index.html": "home"}, **options).get(path)
        assert (answer.status, answer["cache-control"]) == (404, "no-store")
        assert "html" not in answer["content-type"]

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/", 200),
            ("/settings", 200),
            ("/users/42/", 200),
            ("/users/jane.doe", 200),
            ("/orders/12345678", 200),
            ("/users/550e8400-e29b-41d4-a716-446655440000", 200),
            ("/gone.html", 200),
            ("/gone.js", 404),
            ("/gone.js/", 404),
            ("/static/gone.css", 404),
            ("/.env", 404),
            ("/%2e%2e/x", 404),
        ],
    )
    @pytest.mark.parametrize("html", [False, True])
    def test_a_fallback_serves_pages_and_never_assets(self, make_site, path, status, html):
        answer = make_site({"index.html": "home"}, html=html, fallback="index.html").get(path)
        if path == "/.env":
            assert answer.status in (200, 404)
            assert answer.body != b"secret"
            return
        assert answer.status == status
        if status == 200:
            assert (answer.body, answer["cache-control"]) == (b"home", PAGE)

    def test_a_fallback_gives_way_to_a_file_within_a_second(self, make_site, clock):
        site = make_site({"index.html": "home"}, fallback="index.html")
        assert site.get("/about").body == b"home"
        clock.pass_s(0.5)
        (site.root / "about").write_bytes(b"about")
        site.app.folder.load("index.html")
        assert site.get("/about").body == b"home"
        clock.pass_s(0.5)
        assert site.get("/about").body == b"about"

    def test_a_clean_url_gives_way_to_a_file_within_a_second(self, make_site, clock):
        site = make_site({"about.html": "page"}, html=True, clean_urls=True)
        site.app.folder.load("about")
        clock.pass_s(0.8)
        assert site.get("/about").body == b"page"
        (site.root / "about").write_bytes(b"file")
        clock.pass_s(0.2)
        assert site.get("/about").body == b"file"

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/about", b"about"),
            ("/about.html", "/about"),
            ("/about/", "/about"),
            ("/index.html", "/"),
            ("/", b"home"),
            ("/docs", "/docs/"),
            ("/docs/", b"docs"),
            ("/docs/index.html", "/docs/"),
            ("/docs/guide", b"guide"),
            ("/docs/guide.html", "/docs/guide"),
            ("/docs/guide/", "/docs/guide"),
            ("/app.js", b"js"),
            ("/nothing", 404),
            ("/nothing.html", 404),
            ("/plain/", 404),
        ],
    )
    @pytest.mark.parametrize("root_path", ["", "/static"])
    def test_clean_urls_give_each_page_one_url(self, make_site, path, expected, root_path):
        answer = make_site(self.FILES, html=True, clean_urls=True).get(path, root_path=root_path, query=b"q=1")
        if isinstance(expected, str):
            assert (answer.status, answer["location"]) == (308, root_path + expected + "?q=1")
        elif expected == 404:
            assert answer.status == 404
        else:
            assert (answer.status, answer.body) == (200, expected)


def _exchange_of(make_scope):
    async def run(app, scope):
        messages = []

        async def receive():
            await anyio.sleep_forever()

        async def send(message):
            messages.append(message)

        await app(scope, receive, send)
        return messages

    return run


class TestListing:
    FILES: ClassVar = {"a.css": "a {}", "a.css.br": "x", "docs/x.txt": "x", "site/index.html": "page", "<b>.txt": "x"}

    def test_a_folder_is_a_page_or_json_as_asked(self, make_site):
        site = make_site(self.FILES, listing=True, html=True)
        (site.root / ".env").write_text("x")
        page, rows = site.get("/"), site.get("/", accept="application/json")
        assert (page.status, page["content-type"], page["vary"]) == (200, "text/html; charset=utf-8", "Accept")
        assert b"&lt;b&gt;.txt" in page.body
        assert b"<b>" not in page.body
        assert [row["name"] for row in json.loads(rows.body)] == ["docs", "site", "<b>.txt", "a.css"]
        assert {answer["cache-control"] for answer in (page, rows)} == {"no-cache"}
        assert page["x-content-type-options"] == "nosniff"

    def test_an_index_page_goes_first_and_folders_get_their_slash(self, make_site):
        site = make_site(self.FILES, listing=True, html=True)
        assert site.get("/site/").body == b"page"
        assert site.get("/docs", query=b"x")["location"] == "/docs/?x"
        assert site.get("/nothing/").status == 404

    def test_it_is_off_by_default(self, make_site):
        site = make_site(self.FILES)
        assert [site.get(path).status for path in ("/", "/docs/", "/docs")] == [404] * 3

    def test_every_name_in_it_can_be_requested(self, make_site):
        site = make_site(
            {"a b.txt": "x", "100%.txt": "x", "ü.txt": "x", "javascript:alert(1)": "x", "a?b#c": "x"}, listing=True
        )
        for row in json.loads(site.get("/", accept="application/json").body):
            encoded = "/" + "".join(f"%{byte:02X}" for byte in row["name"].encode())
            answer = site.get(encoded)
            assert site.get(answer["location"]).status == 200


class TestLargeFiles:
    def test_a_huge_file_is_sent_at_once_and_gets_its_tag_later(self, make_site, monkeypatch, settled_at_once):
        monkeypatch.setattr("assetserver.delivery.livefolder.HASHED_AT_ONCE_BYTES", 1000)
        site = make_site()
        site.write("a.iso", CSS)
        first = site.get("/a.iso", accept_encoding="br", want_repr_digest="sha-256=1")
        assert (first.status, first.body) == (200, CSS)
        site.settle("a.iso")
        assert site.get("/a.iso")["etag"] == f'"{sha256(CSS).hexdigest()[:32]}"'
        assert site.get("/a.iso", range="bytes=5-9").body == CSS[5:10]


class TestOverload:
    def test_a_look_without_descriptors_is_503_and_the_next_one_succeeds(self, make_site, monkeypatch):
        site = make_site({"a.css": CSS})

        class Empty:
            def probe(self, path):
                raise OverloadedError("cannot look up a file: Too many open files")

        roots, site.app.folder.roots = site.app.folder.roots, Empty()
        answer = site.get("/a.css")
        assert (answer.status, answer["retry-after"], answer["cache-control"]) == (503, "1", "no-store")
        site.app.folder.roots = roots
        assert site.get("/a.css").status == 200

    def test_a_process_out_of_descriptors_answers_503_and_recovers(self, tmp_path):
        (tmp_path / "site").mkdir()
        for name, size in (("known.css", 1000), ("new.css", 1000), ("big.bin", 3 << 20)):
            (tmp_path / "site" / name).write_bytes(b"x" * size)
        script = tmp_path / "starve.py"
        script.write_text(STARVE)
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / "site")], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        starved, recovered = map(json.loads, done.stdout.splitlines())
        assert starved == {"/known.css": 200, "/new.css": 503, "/big.bin": 503}
        assert recovered == {"/known.css": 200, "/new.css": 200, "/big.bin": 200}


STARVE = """
import json, os, resource, sys
import anyio
from assetserver.delivery.assetfiles import AssetFiles

async def status(app, path):
    found = []
    async def receive():
        await anyio.sleep_forever()
    async def send(message):
        found.append(message)
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return found[0]["status"]

async def main():
    app = AssetFiles(directory=sys.argv[1])
    app.folder.clock_s = lambda: 1000.0
    paths = ("/known.css", "/new.css", "/big.bin")
    await status(app, "/known.css")
    await status(app, "/nothing")
    await anyio.to_thread.run_sync(lambda: None)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    starved = {path: await status(app, path) for path in paths}
    for descriptor in taken:
        os.close(descriptor)
    print(json.dumps(starved))
    print(json.dumps({path: await status(app, path) for path in paths}))

anyio.run(main)
"""


def test_memory_holds_no_more_than_its_limit(make_site):
    resources = Resources(MemoryCache(limit_bytes=10_000, file_limit_bytes=5_000))
    site = make_site(
        {f"{number}.bin": os.urandom(3000) for number in range(20)} | {"big.bin": bytes(6000)}, resources=resources
    )
    for _ in range(2):
        for number in range(20):
            assert len(site.get(f"/{number}.bin").body) == 3000
            assert resources.memory.size_bytes <= 10_000
        assert site.get("/big.bin").body == bytes(6000)
    resources.close()


def test_known_urls_are_bounded(make_site, monkeypatch):
    monkeypatch.setattr(hotpaths, "LIMIT_PATHS", 5)
    site = make_site({f"{number}.bin": b"x" for number in range(20)})
    for number in range(20):
        site.get(f"/{number}.bin")
    assert len(site.app._hot) == 5
