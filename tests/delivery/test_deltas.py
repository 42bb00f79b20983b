"""Deltas of a site: what files say of themselves, who gets one, and that nothing but a known dictionary changes an answer."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from hashlib import sha256

import anyio
import pytest

from assetserver.delivery import deltas as deltas_module
from assetserver.delivery.claims import OFFER
from assetserver.delivery.deltas import SiteDeltas
from assetserver.delivery.releasefiles import ReleaseFiles
from assetserver.delivery.requests import url_of
from assetserver.releases.deltas import keep_delta
from assetserver.releases.library import Delta
from assetserver.releases.serving import ActiveIndex
from assetserver.semantics.caching import IMMUTABLE
from assetserver.semantics.dictionaries import format_available_dictionary
from assetserver.storage.codecs import DCZ_MAGIC, decode_against

VARY = "accept-encoding, available-dictionary"
CHROMIUM = "gzip, deflate, br, zstd, dcb, dcz"


def text(seed: int, size: int = 9000) -> bytes:
    """Make text that compresses badly, but for what two texts share."""
    return bytes(random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz0123456789 ;=", k=size))  # noqa: S311 - no secret


COMMON = text(1)


def fingerprinted(stem: str, content: bytes, extension: str) -> str:
    return f"{stem}.{sha256(content).hexdigest()[:12]}{extension}"


OLD, NEW = b"1;" + COMMON, b"2;" + COMMON
OLD_NAME, NEW_NAME = fingerprinted("app", OLD, ".js"), fingerprinted("app", NEW, ".js")
OLD_PAGE, NEW_PAGE = b"<p>1" + COMMON, b"<p>2" + COMMON
SECRET = text(2)


@dataclass
class Deltas:
    """The site of ``served`` with deltas, and two releases of it."""

    served: object
    resources: object

    def open(self, *, on_demand: bool, **options):
        """Serve the site anew."""
        served, resources = self.served, self.resources
        makers = resources.makers if on_demand else None
        site_deltas = SiteDeltas(served.library, prefix="", files=resources.files, makers=makers)
        served.app = ReleaseFiles(
            ActiveIndex(served.library, served.site),
            served.library.blobs.path_of,
            resources=resources,
            deltas=site_deltas,
            **options,
        )
        served.app.folder.clock_s = served.clock
        return site_deltas

    def get(self, path, dictionary: bytes | None = OLD, **fields):
        fields = {"accept_encoding": CHROMIUM} | fields
        if dictionary is not None:
            fields |= {"available_dictionary": format_available_dictionary(sha256(dictionary).digest())}
        return self.served.get(path, **fields)


@pytest.fixture
def two(served, resources) -> Deltas:
    """Two releases, the second active, and the delta of its script made when it was published."""
    made = Deltas(served, resources)
    served.activate({"index.html": OLD_PAGE, OLD_NAME: OLD, "old.txt": text(3)})
    library = served.library
    new = {"index.html": NEW_PAGE, NEW_NAME: NEW, "data.json": COMMON, "small.css": b"a {}"}
    for one in (NEW, NEW_PAGE):
        library.blobs.put(sha256(one).hexdigest(), [one])
    keep_delta(library, sha256(NEW).hexdigest(), sha256(OLD).hexdigest(), len(NEW))
    served.activate(new)
    made.open(on_demand=False)
    return made


def decode(answer, dictionary: bytes) -> bytes:
    assert answer.body[: len(DCZ_MAGIC) + 32] == DCZ_MAGIC + sha256(dictionary).digest()
    return b"".join(decode_against(dictionary, answer.body))


def test_who_has_the_version_before_gets_the_difference(two):
    answer = two.get("/" + NEW_NAME)

    assert answer["content-encoding"] == "dcz"
    assert answer["vary"] == VARY
    assert answer["content-type"] == "text/javascript; charset=utf-8"
    assert len(answer.body) < 200
    assert answer["content-length"] == str(len(answer.body))
    assert decode(answer, OLD) == NEW
    assert answer["etag"] == f'"{sha256(answer.body).hexdigest()[:32]}"'
    assert two.get("/" + NEW_NAME, if_none_match=answer["etag"]).status == 304


def test_every_answer_of_a_hashed_file_says_that_it_is_a_dictionary(two):
    plain = two.get("/" + NEW_NAME, None)
    for answer in (
        plain,
        two.get("/" + NEW_NAME),
        two.get("/" + NEW_NAME, None, accept_encoding=""),
        two.get("/" + NEW_NAME, None, if_none_match=plain["etag"]),
    ):
        assert answer["use-as-dictionary"] == 'match="/app.*.js"'
        assert answer["vary"] == VARY
        assert answer["cache-control"] == IMMUTABLE


def test_what_is_not_kept_for_long_is_no_dictionary(two):
    answers = [two.get(path, None) for path in ("/data.json", "/small.css")]
    assert [(answer.get("use-as-dictionary"), answer.get("vary")) for answer in answers] == [
        (None, "accept-encoding"),
        (None, None),
    ]


UNLIKE = [
    format_available_dictionary(sha256(b"nobody's").digest()),
    format_available_dictionary(sha256(SECRET).digest()),
    format_available_dictionary(sha256(COMMON).digest()),
    format_available_dictionary(sha256(OLD).digest())[1:-1],
    format_available_dictionary(sha256(OLD).digest()) + ";a",
    sha256(OLD).hexdigest(),
    ":AAAA:",
    "",
    '"',
    "\x80" * 3000,
]


@pytest.mark.parametrize("on_demand", [False, True])
def test_an_unknown_malformed_or_secret_hash_changes_no_byte(two, on_demand):
    two.open(on_demand=on_demand)
    two.served.library.blobs.put(sha256(SECRET).hexdigest(), [SECRET])  # a blob, but of no release
    for path in ("/" + NEW_NAME, "/", "/data.json", "/nothing.js", "/old.txt"):
        two.get(path, None)  # from now on it comes from memory
        without = two.get(path, None)
        assert without.status == (404 if path in ("/nothing.js", "/old.txt") else 200)
        for offered in (*UNLIKE, UNLIKE[0]):
            assert two.get(path, None, available_dictionary=offered).messages == without.messages


WITHOUT = [
    {"accept_encoding": "br"},
    {"accept_encoding": "dcz;q=0, br"},
    {"accept_encoding": "*"},
    {"range": "bytes=0-9"},
    {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
    {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"},
    {"if_match": "*"},
    {"method": "HEAD"},
]


def test_who_may_not_have_a_delta_gets_what_there_is_without(two):
    for fields in WITHOUT:
        two.get("/" + NEW_NAME, None, **fields)  # from now on it comes from memory
        for _ in range(2):
            assert two.get("/" + NEW_NAME, **fields).messages == two.get("/" + NEW_NAME, None, **fields).messages


def test_a_page_of_another_origin_may_have_a_delta_by_cors(two):
    answer = two.get("/" + NEW_NAME, sec_fetch_site="same-site", sec_fetch_mode="cors", origin="https://a.example")
    assert (answer["access-control-allow-origin"], answer["content-encoding"]) == ("*", "dcz")


def test_the_tag_of_a_plain_form_comes_before_the_delta(two):
    tag = two.get("/" + NEW_NAME, None)["etag"]
    answer = two.get("/" + NEW_NAME, if_none_match=tag)
    assert (answer.status, answer["etag"]) == (304, tag)


def damage(two, how):
    library = two.served.library
    [delta] = library.deltas_of(sha256(NEW).hexdigest())
    how(library, two.served, delta)


def remove(library, served, delta):
    served.blob(b"".join(library.blobs.read(delta.digest))).unlink()


def flip(library, served, delta):
    path = served.blob(b"".join(library.blobs.read(delta.digest)))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("how", [remove, flip])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_lost_or_damaged_delta_is_a_miss(two, how, is_known, caplog):
    if is_known:
        assert two.get("/" + NEW_NAME)["content-encoding"] == "dcz"
        two.resources.memory._contents.clear()
    damage(two, how)
    for _ in range(3):
        assert two.get("/" + NEW_NAME)["content-encoding"] == "br"
    assert len([one for one in caplog.records if one.levelno >= logging.ERROR]) == 1


def test_a_delta_whose_stream_names_another_dictionary_is_never_sent(served, resources, caplog):
    made = Deltas(served, resources)
    served.activate({OLD_NAME: OLD, "other.js": text(5)})
    library = served.library
    library.blobs.put(sha256(NEW).hexdigest(), [NEW])
    delta = keep_delta(library, sha256(NEW).hexdigest(), sha256(OLD).hexdigest(), len(NEW))
    library.save_deltas({sha256(NEW).hexdigest(): [Delta(sha256(text(5)).hexdigest(), delta.digest, delta.size)]})
    served.activate({NEW_NAME: NEW})
    made.open(on_demand=False)

    assert made.get("/" + NEW_NAME, text(5))["content-encoding"] == "br"
    assert "not of the dictionary" in caplog.text
    assert made.get("/" + NEW_NAME, OLD)["content-encoding"] == "dcz"


def test_a_delta_that_nobody_thought_of_is_made_for_the_next_who_asks(two, wait_until, make_scope, exchange):
    two.open(on_demand=True)
    offers = []
    headers = [(b"accept-encoding", CHROMIUM.encode())]
    headers += [(b"available-dictionary", format_available_dictionary(sha256(COMMON).digest()).encode())]
    scope = make_scope("/" + NEW_NAME, headers=headers) | {OFFER: offers.append}
    first = anyio.run(exchange, two.served.app, scope)
    assert dict(first.fields)[b"content-encoding"] == b"br"
    assert offers == []  # nothing repeats what is about to change

    wait_until(lambda: two.get("/" + NEW_NAME, COMMON)["content-encoding"] == "dcz", "the delta")
    assert decode(two.get("/" + NEW_NAME, COMMON), COMMON) == NEW
    assert len(two.served.library.deltas_of(sha256(NEW).hexdigest())) == 2


def test_what_another_process_made_is_found(two):
    two.open(on_demand=True)
    keep_delta(two.served.library, sha256(NEW).hexdigest(), sha256(COMMON).hexdigest(), len(NEW))
    assert two.get("/" + NEW_NAME, COMMON)["content-encoding"] == "dcz"


def test_a_delta_of_no_use_is_tried_once(two, wait_until, monkeypatch):
    site_deltas = two.open(on_demand=True)
    tried = []
    keep = deltas_module.keep_delta
    monkeypatch.setattr(deltas_module, "keep_delta", lambda *given: tried.append(given) or keep(*given))
    for _ in range(2):
        assert two.get("/" + NEW_NAME, text(3))["content-encoding"] == "br"
        wait_until(lambda: not site_deltas._waiting, "the end of the work")
    assert len(tried) == 1


def test_hashes_that_are_made_up_take_bounded_memory(two, monkeypatch):
    site_deltas = two.open(on_demand=True)
    monkeypatch.setattr(deltas_module, "LIMIT_LACKING", 8)
    for number in range(30):
        assert two.get("/" + NEW_NAME, b"%d" % number)["content-encoding"] == "br"
    assert len(site_deltas._lacking) == 8
    assert two.get("/" + NEW_NAME)["content-encoding"] == "dcz"


def test_no_more_deltas_wait_to_be_made_than_a_few(two, monkeypatch):
    site_deltas = two.open(on_demand=True)
    monkeypatch.setattr(deltas_module, "LIMIT_WAITING", 0)
    assert two.get("/" + NEW_NAME, COMMON)["content-encoding"] == "br"
    assert site_deltas._waiting == set()
    assert len(two.served.library.deltas_of(sha256(NEW).hexdigest())) == 1


def test_the_front_page_names_its_dictionary_and_comes_as_a_delta_for_who_has_it(two, wait_until):
    two.open(on_demand=True)
    page = two.get("/", None)
    digits = sha256(NEW_PAGE).hexdigest()[:32]
    assert page["link"] == f'</?dictionary={digits}>; rel="compression-dictionary"'
    assert (page["cache-control"], page["vary"]) == ("no-cache", VARY)
    assert "use-as-dictionary" not in page

    dictionary = two.get("/", None, query=b"dictionary=" + digits.encode())
    assert (dictionary["cache-control"], dictionary["use-as-dictionary"]) == (IMMUTABLE, 'match="/"')
    assert dictionary.body == page.body
    wait_until(lambda: two.get("/", OLD_PAGE)["content-encoding"] == "dcz", "the delta")
    assert decode(two.get("/", OLD_PAGE), OLD_PAGE) == NEW_PAGE
    assert two.get("/", OLD_PAGE)["cache-control"] == "no-cache"


def test_a_page_that_is_held_already_is_a_few_bytes(two, wait_until):
    """Who got it as a delta has the tag of that, and offers it itself the next time: shorter than all else but 304."""
    two.open(on_demand=True)
    wait_until(lambda: two.get("/", NEW_PAGE)["content-encoding"] == "dcz", "the delta")
    answer = two.get("/", NEW_PAGE)
    assert len(answer.body) < 100
    assert decode(answer, NEW_PAGE) == NEW_PAGE
    assert two.get("/", NEW_PAGE, if_none_match=answer["etag"]).status == 304


def test_only_the_digest_of_the_page_makes_its_url_one_that_is_kept(two):
    for query in 2 * [b"dictionary=", b"dictionary=" + b"0" * 32, b"dictionary=" + b"0" * 5000, b"x=1"]:
        answer = two.get("/", None, query=query)
        assert (answer.status, answer["cache-control"]) == (200, "no-cache")
        assert "use-as-dictionary" not in answer


def test_the_dictionary_of_an_older_page_is_not_kept_under_its_name(two):
    answer = two.get("/", None, query=b"dictionary=" + sha256(OLD_PAGE).hexdigest()[:32].encode())
    assert (answer["cache-control"], answer.get("use-as-dictionary")) == ("no-cache", None)


@pytest.mark.parametrize(
    ("rule", "use"),
    [
        ("Cache-Control: public, max-age=604800", 'match="/data.json"'),
        ("Cache-Control: max-age=0, stale-while-revalidate=86400", 'match="/data.json"'),
        ("Cache-Control: no-store", None),
        ('Use-As-Dictionary: match="/d*"', 'match="/d*"'),
    ],
)
def test_the_rules_of_a_release_decide_what_is_kept_and_so_what_is_a_dictionary(two, rule, use):
    two.served.activate({"data.json": COMMON, "_headers": f"/data.json\n  {rule}\n".encode()})
    two.served.look()
    for _ in range(2):
        assert two.get("/data.json", None).get("use-as-dictionary") == use


def test_a_rule_that_forbids_keeping_makes_a_hashed_file_no_dictionary(two):
    two.served.activate({NEW_NAME: NEW, "_headers": b"/*\n  Cache-Control: no-cache\n"})
    two.served.look()
    answer = two.get("/" + NEW_NAME)
    assert (answer.get("use-as-dictionary"), answer["vary"], answer["content-encoding"]) == (None, "accept-encoding", "br")


@pytest.mark.parametrize(
    ("path", "clean_urls", "url"),
    [("index.html", False, ""), ("docs/index.html", True, "docs/"), ("a.html", False, "a.html"), ("a.html", True, "a")],
)
def test_a_page_has_the_url_that_visitors_see(path, clean_urls, url):
    assert url_of(path, clean_urls=clean_urls) == url
