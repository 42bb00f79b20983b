"""Behind Varnish: it fills, hits, revalidates, varies and cuts ranges.

As it comes, Varnish knows one coding: it turns ``Accept-Encoding`` into "gzip" or nothing, keeps the gzip form, and decodes it
for clients that want none, under a weak ETag. With ``http_gzip_support`` off it leaves the field alone, and a few lines of VCL
reduce it to the codings that the server knows, so that every client gets the best of them and the cache keeps few variants.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

CONFIG = """
vcl 4.1;

backend origin {{
    .host = "127.0.0.1";
    .port = "{port}";
}}

sub vcl_recv {{
    {normalise}
}}

sub vcl_backend_response {{
    set beresp.grace = {grace};
    set beresp.keep = 60s;
    if (beresp.was_304) {{
        set beresp.http.X-Revalidated = "304";
    }}
}}

sub vcl_deliver {{
    set resp.http.X-Hits = obj.hits;
}}
"""

NORMALISE = """
    if (req.http.Accept-Encoding ~ "(^|[ ,])br($|[ ,;])") {
        set req.http.Accept-Encoding = "br";
    } elsif (req.http.Accept-Encoding ~ "(^|[ ,])gzip($|[ ,;])") {
        set req.http.Accept-Encoding = "gzip";
    } else {
        unset req.http.Accept-Encoding;
    }
"""


@pytest.fixture(scope="module")
def start_varnish(require, start_shared_program, short_lived, free_port, tmp_path_factory):
    """``start_varnish(*options, normalise="", grace="0s")`` returns the base URL of a Varnish in front of the server."""
    program = require("varnishd")

    def start(*options, normalise="", grace="0s"):
        folder = tmp_path_factory.mktemp("varnish")
        port = free_port()
        vcl = folder / "site.vcl"
        vcl.write_text(CONFIG.format(port=urlsplit(short_lived).port, normalise=normalise, grace=grace))
        command = [program, "-F", "-j", "none", "-n", folder / "work", "-a", f"127.0.0.1:{port}", "-f", vcl]
        running = start_shared_program("varnishd", [*command, "-s", "malloc,32m", *options])
        running.wait_port(port)
        return f"http://127.0.0.1:{port}"

    return start


@pytest.fixture(scope="module")
def stock(start_varnish):
    """Varnish as it comes."""
    return start_varnish()


@pytest.fixture(scope="module")
def raw(start_varnish):
    """Varnish that passes codings on."""
    return start_varnish("-p", "http_gzip_support=off", normalise=NORMALISE)


def test_second_request_is_a_hit_with_the_same_answer(raw, fetch, site):
    first = fetch(raw + "/other.css?fill")
    second = fetch(raw + "/other.css?fill")
    assert (first["x-hits"], second["x-hits"]) == ("0", "1")
    assert first.content == second.content == (site / "other.css").read_bytes()
    for name in ("etag", "vary", "cache-control", "content-type", "last-modified", "access-control-allow-origin"):
        assert first[name] == second[name] is not None


@pytest.mark.parametrize("coding", [None, "br", "gzip"])
def test_stale_file_is_revalidated_with_304(raw, fetch, poll, site, decode, coding):
    accept = {"accept_encoding": coding} if coding else {}
    first = fetch(raw + "/style.css?stale", **accept)
    assert first["x-revalidated"] is None
    again = poll(lambda: fetch(raw + "/style.css?stale", **accept), lambda answer: answer["x-hits"] == "0")
    assert again["x-revalidated"] == "304"
    assert again.status == 200
    assert again["etag"] == first["etag"]
    assert again["content-encoding"] == coding
    assert decode(again.content, coding) == (site / "style.css").read_bytes()


def test_stale_file_is_served_while_it_is_revalidated(start_varnish, fetch, poll):
    graceful = start_varnish(grace="60s")
    first = fetch(graceful + "/style.css")
    again = poll(lambda: fetch(graceful + "/style.css"), lambda answer: answer["x-revalidated"] is not None)
    assert (again.status, again["x-revalidated"], again["etag"]) == (200, "304", first["etag"])
    assert again["x-hits"] != "0"  # no client had to wait for the server
    assert again.content == first.content


def test_codings_are_kept_apart(raw, fetch, decode, site):
    wanted = {"br": "gzip, deflate, br, zstd", "gzip": "gzip, deflate", None: "identity"}
    answers = {}
    for _ in range(2):
        for coding, accept in wanted.items():
            answer = answers[coding] = fetch(raw + "/other.css?codings", accept_encoding=accept)
            assert answer["content-encoding"] == coding
            assert answer["vary"].lower() == "accept-encoding"
            assert int(answer["content-length"]) == len(answer.content)
            assert decode(answer.content, coding) == (site / "other.css").read_bytes()
    assert all(answer["x-hits"] == "1" for answer in answers.values())
    assert len({answer["etag"] for answer in answers.values()}) == len(wanted)


def test_stock_varnish_keeps_gzip_and_weakens_what_it_decodes(stock, fetch, decode, site):
    coded = fetch(stock + "/other.css", accept_encoding="gzip, deflate, br, zstd")
    plain = fetch(stock + "/other.css")
    assert (coded["content-encoding"], plain["content-encoding"]) == ("gzip", None)
    assert decode(coded.content, "gzip") == plain.content == (site / "other.css").read_bytes()
    assert plain["etag"] == f"W/{coded['etag']}"
    assert plain["x-hits"] == "1"  # one object serves both


@pytest.mark.parametrize("coding", ["gzip", None])
def test_stock_varnish_revalidates_with_304(stock, fetch, poll, coding):
    accept = {"accept_encoding": coding} if coding else {}
    url = f"{stock}/style.css?{coding}"
    fetch(url, **accept)
    again = poll(lambda: fetch(url, **accept), lambda answer: answer["x-hits"] == "0")
    assert (again.status, again["x-revalidated"]) == (200, "304")


def test_client_can_revalidate_what_stock_varnish_decoded(stock, fetch):
    first = fetch(stock + "/other.css?weak")
    assert fetch(stock + "/other.css?weak", if_none_match=first["etag"]).status == 304


@pytest.mark.parametrize("server", ["stock", "raw"])
@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 99), (65_535, 65_536), (3 * 2**20 - 5, 3 * 2**20 - 1)])
def test_ranges_hold_the_bytes_of_the_file(server, fetch, site, first, last, request):
    content = (site / "big.bin").read_bytes()
    for _ in range(2):
        answer = fetch(request.getfixturevalue(server) + "/big.bin", range=f"bytes={first}-{last}")
        assert answer.status == 206
        assert answer["content-range"] == f"bytes {first}-{last}/{len(content)}"
        assert answer.content == content[first : last + 1]
    assert answer["x-hits"] != "0"


def test_ranges_of_a_coded_file_hold_its_coded_bytes(raw, fetch):
    whole = fetch(raw + "/other.css?coded-ranges", accept_encoding="br")
    part = fetch(raw + "/other.css?coded-ranges", accept_encoding="br", range="bytes=100-199")
    assert (part.status, part["content-encoding"], part["etag"]) == (206, "br", whole["etag"])
    assert part.content == whole.content[100:200]


def test_missing_asset_is_never_stored(raw, fetch):
    for _ in range(3):
        answer = fetch(raw + "/gone.0123456789ab.js")
        assert (answer.status, answer["x-hits"], answer["cache-control"]) == (404, "0", "no-store")


def test_redirect_leads_back_to_varnish(raw, fetch):
    answer = fetch(raw + "/d?x=1")
    assert (answer.status, answer["location"]) == (308, "/d/?x=1")
