"""Listings show what can be requested, and a name can do no harm in them."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from assetserver.delivery import listing
from assetserver.delivery.listing import ListedName, format_json, format_page, list_folder
from assetserver.delivery.probe import Roots

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
