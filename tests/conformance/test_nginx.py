"""Behind nginx with ``proxy_cache``: it fills, hits, revalidates, varies and cuts ranges as if it were the server itself."""

from __future__ import annotations

import os

import pytest

CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache levels=1 keys_zone=assets:1m inactive=10m use_temp_path=off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    server {{
        listen 127.0.0.1:{port};
        add_header X-Cache $upstream_cache_status always;
        location /through/ {{
            proxy_pass {origin}/;
        }}
        location / {{
            proxy_pass {origin};
            proxy_cache assets;
            proxy_cache_revalidate on;
            proxy_cache_key $request_uri;
        }}
    }}
}}
"""


def is_hit(answer):
    return answer["x-cache"] == "HIT"


@pytest.fixture(scope="module")
def nginx(require, start_shared_program, short_lived, free_port, tmp_path_factory):
    """Base URL of an nginx that caches what the server says."""
    program = require("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # the workers must reach the test's own folder
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, origin=short_lived, user=user))
    running = start_shared_program("nginx", [program, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"])
    running.wait_port(port)
    return f"http://127.0.0.1:{port}"


def test_later_request_is_a_hit_with_the_same_answer(nginx, fetch, poll, site):
    first = fetch(nginx + "/other.css?fill")
    assert first["x-cache"] == "MISS"
    second = poll(lambda: fetch(nginx + "/other.css?fill"), is_hit)
    assert first.content == second.content == (site / "other.css").read_bytes()
    for name in ("etag", "vary", "cache-control", "content-type", "last-modified", "access-control-allow-origin"):
        assert first[name] == second[name] is not None


@pytest.mark.parametrize("coding", [None, "br", "gzip", "zstd"])
def test_stale_file_is_revalidated_with_304(nginx, fetch, poll, site, decode, coding):
    accept = {"accept_encoding": coding} if coding else {}
    first = fetch(nginx + "/style.css?stale", **accept)
    assert first["x-cache"] == "MISS"
    again = poll(lambda: fetch(nginx + "/style.css?stale", **accept), lambda answer: answer["x-cache"] != "HIT")
    assert again["x-cache"] == "REVALIDATED"
    assert again.status == 200
    assert again["etag"] == first["etag"]
    assert again["content-encoding"] == coding
    assert decode(again.content, coding) == (site / "style.css").read_bytes()


def test_codings_are_kept_apart(nginx, fetch, poll, decode, site):
    tags = set()
    for coding in (None, "br", "gzip", "zstd"):
        accept = {"accept_encoding": coding} if coding else {}
        filled = fetch(nginx + "/other.css?codings", **accept)
        hit = poll(lambda: fetch(nginx + "/other.css?codings", **accept), is_hit)  # noqa: B023 - called at once
        for answer in (filled, hit):
            assert answer["content-encoding"] == coding
            assert answer["vary"].lower() == "accept-encoding"
            assert int(answer["content-length"]) == len(answer.content)
            assert decode(answer.content, coding) == (site / "other.css").read_bytes()
            tags.add(answer["etag"])
    assert len(tags) == 4


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "through"])
@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 99), (65_535, 65_536), (3 * 2**20 - 5, 3 * 2**20 - 1)])
def test_ranges_hold_the_bytes_of_the_file(nginx, fetch, poll, site, cached, first, last):
    content = (site / "big.bin").read_bytes()
    url = nginx + ("/big.bin?ranges" if cached else "/through/big.bin")
    if cached:
        poll(lambda: fetch(url), is_hit)
    answer = fetch(url, range=f"bytes={first}-{last}")
    assert answer["x-cache"] == ("HIT" if cached else None)
    assert answer.status == 206
    assert answer["content-range"] == f"bytes {first}-{last}/{len(content)}"
    assert answer.content == content[first : last + 1]


def test_range_of_a_file_not_yet_cached_holds_its_bytes(nginx, fetch, site):
    answer = fetch(nginx + "/big.bin?cold", range="bytes=100-199")
    assert (answer["x-cache"], answer.status) == ("MISS", 206)
    assert answer.content == (site / "big.bin").read_bytes()[100:200]


@pytest.mark.parametrize("path", ["/through/style.css", "/style.css?coded-ranges"])
def test_ranges_of_a_coded_file_hold_its_coded_bytes(nginx, fetch, path):
    whole = fetch(nginx + path, accept_encoding="br")
    part = fetch(nginx + path, accept_encoding="br", range="bytes=100-199")
    assert (part.status, part["content-encoding"], part["etag"]) == (206, "br", whole["etag"])
    assert part.content == whole.content[100:200]


@pytest.mark.parametrize("path", ["/through/other.css", "/other.css?if-range"])
def test_if_range_joins_only_parts_of_one_representation(nginx, fetch, path):
    identity = fetch(nginx + path)
    coded = fetch(nginx + path, accept_encoding="gzip")
    same = fetch(nginx + path, accept_encoding="gzip", range="bytes=10-", if_range=coded["etag"])
    assert (same.status, same.content) == (206, coded.content[10:])
    other = fetch(nginx + path, range="bytes=10-", if_range=coded["etag"])
    assert (other.status, other.content) == (200, identity.content)


@pytest.mark.parametrize("path", ["/through/other.css", "/other.css?conditional"])
def test_if_none_match_gets_304(nginx, fetch, path):
    first = fetch(nginx + path, accept_encoding="br")
    answer = fetch(nginx + path, accept_encoding="br", if_none_match=first["etag"])
    assert (answer.status, answer["etag"], answer.content) == (304, first["etag"], b"")


@pytest.mark.parametrize("path", ["/through/other.css", "/other.css?head"])
def test_head_has_the_fields_of_get(nginx, fetch, path):
    for _ in range(2):
        head = fetch(nginx + path, "HEAD", accept_encoding="br")
        get = fetch(nginx + path, accept_encoding="br")
        for name in ("etag", "vary", "content-type", "content-encoding", "content-length", "cache-control"):
            assert head[name] == get[name] is not None
        assert head.content == b""


def test_missing_asset_is_never_stored(nginx, fetch):
    for _ in range(3):
        answer = fetch(nginx + "/gone.0123456789ab.js")
        assert (answer.status, answer["x-cache"], answer["cache-control"]) == (404, "MISS", "no-store")


def test_redirect_leads_back_to_nginx(nginx, fetch):
    answer = fetch(nginx + "/d?x=1")
    assert (answer.status, answer["location"]) == (308, "/d/?x=1")
