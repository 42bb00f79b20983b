"""Listings show what can be requested, and a name can do no harm in them."""

import json
import os
import threading
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlsplit

import anyio
import pytest

from assetserver.delivery import listing
from assetserver.delivery.listing import ListedName, Listings, format_json, format_page, list_folder
from assetserver.delivery.probe import Kind, Roots
from assetserver.errors import OverloadedError
from assetserver.semantics.targets import format_target
from assetserver.storage.pools import FilePool

AWKWARD = [
    "javascript:alert(1)",
    "data:text%2Fhtml,x",
    '"><script>alert(1)<',
    "a&amp;b.txt",
    "a b?c#d.txt",
    "100%.txt",
    "%2e%2e",
    "naïve — 名.txt",
    "-- x.txt",
    "'quote'",
    "http:",
    "{rows}",
    " leading and trailing ",
]


class Page(HTMLParser):
    """The links of a page and the text that a reader sees."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    return found


def names_in(*roots: Path, path: str = "", **options: bool) -> list[str]:
    return [one.name for one in list_folder(Roots(tuple(map(str, roots)), **options), path)]


def test_folders_come_first_then_files_by_name(root):
    for name in ("b.txt", "a.txt", "Z.txt"):
        (root / name).write_text("x")
    (root / "zoo").mkdir()
    assert names_in(root) == ["zoo", "Z.txt", "a.txt", "b.txt"]


def test_a_line_tells_size_and_time(root):
    (root / "a.txt").write_text("hello")
    os.utime(root / "a.txt", (10**9, 10**9))
    assert list_folder(Roots((str(root),)), "") == [ListedName("a.txt", is_folder=False, size=5, modified=10**9)]


def test_what_no_request_would_find_is_not_shown(root, tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "outside").mkdir()
    for name in (".env", "a.css", "a.css.br", "a.css.gz", "lonely.tar.gz", "back\\slash", "line\nbreak", "x"):
        (root / name).write_text("x")
    (root / ".git").mkdir()
    (root / "out").symlink_to("../secret")
    (root / "away").symlink_to("../outside", target_is_directory=True)
    (root / "gone").symlink_to("nothing")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    Path(os.fsdecode(os.fsencode(root) + b"/not-utf-8-\xff")).write_text("x")
    assert names_in(root) == ["a.css", "lonely.tar.gz", "x"]
    assert names_in(root, follow_symlink=True) == ["away", "a.css", "lonely.tar.gz", "out", "x"]
    assert ".env" in names_in(root, dotfiles=True)


def test_a_name_is_shown_exactly_if_a_request_would_find_it(root, tmp_path):
    (root / "docs").mkdir()
    for name in (*AWKWARD, "a.css", "a.css.br", "b.js.gz", "c", "c.gz", ".d", ".d.gz", "e~", "-f", "g.zst"):
        (root / "docs" / name.replace("/", "")).write_text("x")
    (root / "docs" / "b.js").symlink_to("a.css")
    (root / "docs" / "linked.css.gz").symlink_to("c")
    (root / "docs" / "linked.css").write_text("x")
    (root / "docs" / "g").mkdir()
    (root / "docs" / ".h").mkdir()
    (root / "door").symlink_to("docs")
    for options in ({}, {"follow_symlink": True}, {"dotfiles": True}):
        roots = Roots((str(root),), **options)
        for path in ("docs/", "door/"):
            found = {name for name in os.listdir(root / "docs") if roots.probe(path + name).kind is not Kind.MISSING}
            assert {one.name for one in list_folder(roots, path)} == found


def test_what_may_not_be_read_is_not_shown(root, monkeypatch):
    for name in ("a", "b"):
        (root / name).write_text("x")
    (root / "a").chmod(0)
    if os.geteuid() == 0:  # to whom nothing is unreadable
        monkeypatch.setattr(os, "access", lambda path, mode, **rest: bool(os.stat(path, **rest).st_mode & mode << 6))
    assert names_in(root) == ["b"]


def test_a_folder_in_whose_place_a_link_is_put_is_not_looked_into(root, tmp_path, count_descriptors):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (root / "docs").mkdir()

    class Swapping:
        def find_folders(self, path):
            found = Roots((str(root),)).find_folders(path)
            (root / "docs").rename(root / "away")
            (root / "docs").symlink_to(tmp_path / "outside")
            return found

    assert list_folder(Swapping(), "docs/") == []
    assert count_descriptors(root) == 0


@pytest.mark.parametrize(("number", "expected"), [(24, OverloadedError), (5, None)])
def test_running_out_of_descriptors_is_no_empty_folder(root, monkeypatch, number, expected):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(listing.os, "scandir", refuse)
    with pytest.raises(expected) if expected else nullcontext():
        assert names_in(root) == []


def test_well_known_is_shown_at_the_root_only(root):
    (root / ".well-known").mkdir()
    (root / "docs" / ".well-known").mkdir(parents=True)
    assert names_in(root) == [".well-known", "docs"]
    assert names_in(root, path="docs/") == []


def test_several_roots_are_shown_as_one(root, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for folder, names in ((root, ("a", "both")), (other, ("b", "both"))):
        for name in names:
            (folder / name).write_text(folder.name)
    assert names_in(root, other) == ["a", "b", "both"]


def test_a_missing_folder_is_an_empty_listing(root):
    assert names_in(root, path="nothing/") == []
    assert names_in(root / "nothing") == []


def test_a_listing_is_bounded(root, monkeypatch):
    monkeypatch.setattr(listing, "LIMIT_ENTRIES", 5)
    for number in range(10):
        (root / f"{number}").write_text("x")
    assert names_in(root) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("name", [*AWKWARD, "a(1)+b.txt", "a&b=c@d,e;f!$'*~.txt"])
def test_a_link_is_spelled_as_the_url_to_which_others_redirect(name):
    (link,) = Page(format_page("", [ListedName(name, is_folder=False, size=5, modified=0)])).links
    assert link == "." + format_target(name)


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("name", AWKWARD)
def test_every_name_links_to_itself_in_the_folder_and_nowhere_else(name, is_folder):
    page = Page(format_page("docs/", [ListedName(name, is_folder, 5, 10**9)]))
    base = "http://127.0.0.1/static/docs/"
    up, link = (urlsplit(urljoin(base, href)) for href in page.links)
    assert up.path == "/static/"
    assert (link.scheme, link.netloc, link.query, link.fragment) == ("http", "127.0.0.1", "", "")
    assert unquote(link.path) == f"/static/docs/{name}{'/' * is_folder}"
    assert name in page.text
    assert "script" not in page.tags


def test_the_title_is_the_path_as_text():
    page = Page(format_page("<img src=x onerror=alert(1)>/", []))
    assert "img" not in page.tags
    assert "/<img src=x onerror=alert(1)>/" in page.text


def test_the_root_has_no_way_up():
    assert Page(format_page("", [])).links == []


@pytest.mark.parametrize("name", AWKWARD)
def test_json_holds_every_name_as_it_is(name):
    names = [ListedName(name, is_folder=True, size=0, modified=0), ListedName("a.css", is_folder=False, size=5, modified=10**9)]
    assert json.loads(format_json(names)) == [
        {"name": name, "type": "folder"},
        {
            "name": "a.css",
            "type": "file",
            "size": 5,
            "media_type": "text/css; charset=utf-8",
            "modified": "Sun, 09 Sep 2001 01:46:40 GMT",
        },
    ]


@pytest.mark.parametrize("seconds", [-(10**11), -1, 0, 10**12, 2**62])
def test_any_modification_time_can_be_shown(seconds):
    names = [ListedName("a", is_folder=False, size=0, modified=seconds)]
    assert b"a" in format_page("", names)
    assert json.loads(format_json(names))[0]["name"] == "a"


class TestListings:
    @pytest.fixture
    def looks(self, monkeypatch) -> list[str]:
        """The paths that were looked at on disk."""
        seen: list[str] = []

        def look(roots: Roots, path: str) -> list[ListedName]:
            seen.append(path)
            return list_folder(roots, path)

        monkeypatch.setattr(listing, "list_folder", look)
        return seen

    @pytest.fixture
    def pool(self):
        made = FilePool("listings", 1)
        yield made
        made.close()

    @pytest.fixture
    def listings(self, root, clock, pool, looks) -> Listings:
        return Listings(SimpleNamespace(roots=Roots((str(root),)), clock_s=clock), pool)

    def render(self, listings: Listings, path: str = "", *, as_json: bool = True) -> bytes:
        async def run() -> bytes:
            return await listings.render(path, as_json=as_json)

        return anyio.run(run)

    def test_both_kinds_are_rendered_finished(self, listings, root):
        (root / "a.css").write_text("x")
        names = list_folder(Roots((str(root),)), "")
        assert self.render(listings) == format_json(names)
        assert self.render(listings, as_json=False) == format_page("", names)

    def test_one_is_kept_for_the_freshness_time(self, listings, root, clock, looks):
        before = self.render(listings)
        (root / "a.css").write_text("x")
        clock.pass_s(0.8)
        assert self.render(listings) == before
        clock.pass_s(0.2)
        assert b"a.css" in self.render(listings)
        assert looks == ["", ""]

    def test_callers_at_once_share_one_look(self, listings, pool, looks):
        gate = threading.Event()
        pool.submit(gate.wait, 20)

        async def run() -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(lambda: listings.render("", as_json=True))
                await anyio.lowlevel.checkpoint()
                gate.set()

        anyio.run(run)
        assert looks == [""]

    def test_they_are_bounded(self, listings, root):
        for number in range(40):
            (root / f"{number}").mkdir()
            self.render(listings, f"{number}/")
        assert len(listings._kept) == 16

    def test_a_failure_is_told_and_not_kept(self, listings, monkeypatch):
        def fail(*_):
            raise OverloadedError("no descriptors")

        with monkeypatch.context() as patch:
            patch.setattr(listing, "list_folder", fail)
            with pytest.raises(OverloadedError):
                self.render(listings)
        assert self.render(listings) == b"[]\n"
