"""Every spelling of a path leads to one file by one URL, or nowhere; none leads out of the folder, hangs, or breaks."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SECRET = b"the secret that lies outside"


@pytest.fixture
def site(make_site, tmp_path: Path):
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "site-secrets").mkdir()
    (tmp_path / "site-secrets" / "key.txt").write_bytes(SECRET)
    made = make_site({"a.css": "a {}", "docs/index.html": "<p>", "docs/a.css": "a {}", "a b.css": "a {}", "naïve.txt": "x"})
    (made.root / ".env").write_bytes(SECRET)
    (made.root / ".git").mkdir()
    (made.root / ".git" / "config").write_bytes(SECRET)
    return made


UP = [
    "..",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "..;",
    "..%00",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%uff0e%uff0e",
]
SLASH = ["/", "%2f", "%2F", "\\", "%5c", "%5C", "%252f", "%c0%af", "//", "/./"]
TRAVERSALS = [f"/{up}{slash}secret.txt" for up in UP for slash in SLASH] + [
    f"/docs/{up}{slash}{up}{slash}secret.txt" for up in UP for slash in SLASH
]


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize("root_path", ["", "/static"])
def test_no_spelling_of_up_leads_out(make_site, site, html, root_path):
    site = make_site(html=html, fallback="a.css" if html else None, listing=html)
    for path in TRAVERSALS:
        answer = site.get(path, root_path=root_path)
        assert answer.status in (308, 404), path
        assert SECRET not in answer.body
        if answer.status == 308:
            assert answer["location"].startswith(root_path + "/")
            assert not answer["location"].startswith("//")
            assert ".." not in answer["location"].split("/")


@pytest.mark.parametrize(
    "path",
    [
        "/%00",
        "/a.css%00",
        "/a.css%00.png",
        "/a%0d%0aX-Injected:1",
        "/%7f",
        "/\x00",
        "/\x01\x02",
        "/%ff",
        "/%C3",
        "/%ED%A0%80",
        "/%zz",
        "/%",
        "/a.css%",
        "/" + "x" * 5000,
        "/" + "x" * 256,
        "/" + "%C3%A9" * 128,
        "/" + "a/" * 2040,
        "/a.css/",
        "/a.css/b",
        "/a.css/.",
        "/docs/.",
        "/./a.css",
        "/docs/../a.css",
        "/.env",
        "/.git/config",
        "/docs/.well-known/x",
        "/C:/windows",
        "/C:\\windows",
        "/a.css::$DATA",
        "/~root/x",
        "/nul",
        "/A.CSS",
        "/a.css%20",
        "/a.css.",
        "*",
        "",
        "http://example.com/a.css",
        "a.css",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_names_nothing_is_404(site, path, method):
    answer = site.get(path, method)
    assert answer.status == 404
    assert answer["cache-control"] in ("no-cache", "no-store")
    assert not any(b"\r" in value or b"\n" in value for _, value in answer.fields)


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//a.css", "/a.css"),
        ("////a.css", "/a.css"),
        ("/docs//a.css", "/docs/a.css"),
        ("//docs///a.css", "/docs/a.css"),
        ("/%61.css", "/a.css"),
        ("/%61%2ecss", "/a.css"),
        ("/docs//", "/docs/"),
        ("//", "/"),
        ("/%6eothing", "/nothing"),
        ("//evil.example/", "/evil.example/"),
        ("///evil.example", "/evil.example"),
        ("//evil.example%2e", "/evil.example."),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/static"])
def test_another_spelling_redirects_to_the_one_url(site, path, location, root_path):
    answer = site.get(path, root_path=root_path, query=b"v=1&x=%2F")
    assert (answer.status, answer["location"]) == (308, f"{root_path}{location}?v=1&x=%2F")
    assert answer["cache-control"] == "public, max-age=300"
    assert site.get(location, root_path=root_path).status in (200, 404), "and never on to a third"


@pytest.mark.parametrize("path", ["/a%20b.css", "/na%C3%AFve.txt", "/docs/a.css", "/a.css"])
def test_the_one_url_is_answered_at_once(site, path):
    assert site.get(path).status == 200


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(["/", "..", ".", "%2e", "%2f", "%5c", "\\", "%", "%25", "%00", "a.css", "docs", ";", "?", "é", "\xff"])
    ),
    st.sampled_from(["", "/static"]),
)
def test_no_path_raises_leads_out_or_redirects_twice(site, pieces, root_path):
    answer = site.get("/" + "".join(pieces), root_path=root_path)
    assert answer.status in (200, 308, 404)
    assert SECRET not in answer.body
    if answer.status == 308:
        target = answer["location"]
        assert target.startswith("/")
        assert not target.startswith("//")
        assert site.get(target.removeprefix(root_path), root_path=root_path).status in (200, 404)


def test_well_known_at_the_root_is_served(site):
    site.write(".well-known/security.txt", "Contact: mailto:x@example.com")
    assert site.get("/.well-known/security.txt").status == 200
    assert site.get("/.well-known/.env").status == 404


def test_dotfiles_are_served_where_asked_for(make_site, site):
    assert make_site(dotfiles=True).get("/.env").status == 200
    assert make_site(dotfiles=True).get("/../secret.txt").status == 404


def test_links_work_inside_the_folder_and_lead_nowhere_outside(site, tmp_path):
    (site.root / "link.css").symlink_to("a.css")
    (site.root / "manuals").symlink_to("docs")
    (site.root / "out.txt").symlink_to("../secret.txt")
    (site.root / "absolute.txt").symlink_to(tmp_path / "secret.txt")
    (site.root / "chain.txt").symlink_to("out.txt")
    (site.root / "folder").symlink_to(tmp_path)
    (site.root / "neighbour").symlink_to(tmp_path / "site-secrets")
    (site.root / "loop").symlink_to("loop")
    assert [site.get(path).status for path in ("/link.css", "/manuals/a.css")] == [200, 200]
    outside = ["/out.txt", "/absolute.txt", "/chain.txt", "/folder/secret.txt", "/neighbour/key.txt", "/loop", "/loop/x"]
    assert [site.get(path).status for path in outside] == [404] * 7


def test_links_outside_are_followed_where_asked_for(make_site, site):
    (site.root / "out.txt").symlink_to("../secret.txt")
    assert make_site(follow_symlink=True).get("/out.txt").body == SECRET


def test_a_link_that_is_turned_outwards_after_it_was_served_leads_nowhere(site):
    (site.root / "link.txt").symlink_to("a.css")
    assert site.get("/link.txt").status == 200
    (site.root / "next").symlink_to("../secret.txt")
    (site.root / "next").replace(site.root / "link.txt")
    site.forget()
    answer = site.get("/link.txt")
    assert (answer.status, SECRET in answer.body) == (404, False)


@pytest.mark.timeout(30)
def test_pipes_sockets_and_devices_are_404_and_never_hang(make_site, site):
    site = make_site(follow_symlink=True)
    os.mkfifo(site.root / "pipe.css")
    (site.root / "zero.bin").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(site.root / "socket"))
        assert [site.get(path).status for path in ("/pipe.css", "/socket", "/zero.bin")] == [404] * 3


@pytest.mark.timeout(30)
def test_a_pipe_in_the_place_of_a_known_file_or_its_sidecar_never_hangs(site):
    assert site.get("/a.css").status == 200
    os.mkfifo(site.root / "a.css.br")
    site.forget()
    assert site.get("/a.css", accept_encoding="br").status == 200
    (site.root / "a.css").unlink()
    os.mkfifo(site.root / "a.css")
    site.forget()
    assert site.get("/a.css").status == 404


class TestRoot:
    def test_a_folder_that_vanishes_is_404_until_it_comes_back(self, site):
        assert site.get("/a.css").status == 200
        away = site.root.with_name("away")
        site.root.rename(away)
        site.forget()
        assert [site.get(path).status for path in ("/a.css", "/docs/a.css", "/")] == [404] * 3
        away.rename(site.root)
        site.forget()
        assert site.get("/a.css").status == 200

    def test_a_folder_that_becomes_a_file_is_404(self, site):
        site.root.rename(site.root.with_name("away"))
        site.root.write_bytes(SECRET)
        for path in ("/", "/a.css", ""):
            assert site.get(path).status == 404
        site.root.unlink()

    def test_a_release_behind_a_link_can_be_switched(self, make_site, tmp_path):
        for release in ("one", "two"):
            (tmp_path / release).mkdir()
            (tmp_path / release / "a.css").write_text(release)
        (tmp_path / "current").symlink_to("one")
        site = make_site(directory=tmp_path / "current")
        assert site.get("/a.css").body == b"one"
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").replace(tmp_path / "current")
        site.forget()
        assert site.get("/a.css").body == b"two"

    def test_a_relative_folder_stays_the_one_it_was(self, make_site, site, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        site = make_site(directory="site")
        monkeypatch.chdir("/")
        assert site.get("/a.css").status == 200
