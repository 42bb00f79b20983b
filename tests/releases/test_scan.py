"""A folder becomes a list: what is taken, what is left out, what is refused."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assetserver.errors import PublishError
from assetserver.releases import scan
from assetserver.releases.scan import scan_folder


def write(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content")


def paths(root: Path) -> list[str]:
    return [one.path for one in scan_folder(str(root)).files]


def test_files_come_sorted_with_their_sizes(tmp_path):
    write(tmp_path, "b.css", "a/c.js", "a.txt", "a/b/d")
    found = scan_folder(str(tmp_path)).files
    assert [one.path for one in found] == ["a.txt", "a/b/d", "a/c.js", "b.css"]
    assert {one.size for one in found} == {7}
    assert [Path(one.full).read_bytes() for one in found] == [b"content"] * 4


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(["a", "b/a", "b/b", "c.css", "Z", "ä"]))
def test_the_order_does_not_depend_on_that_of_creation(tmp_path_factory, order):
    root = tmp_path_factory.mktemp("site")
    write(root, *order)
    assert paths(root) == sorted(order)


def test_dotfiles_are_left_out(tmp_path):
    write(tmp_path, "index.html", ".env", ".git/config", "docs/.htaccess", "docs/.well-known/x")
    assert paths(tmp_path) == ["index.html"]


def test_well_known_at_the_top_is_taken_without_its_dotfiles(tmp_path):
    write(tmp_path, ".well-known/security.txt", ".well-known/.secret")
    assert paths(tmp_path) == [".well-known/security.txt"]


def test_sidecars_of_files_that_are_there_are_left_out(tmp_path):
    write(tmp_path, "app.js", "app.js.br", "app.js.zst", "app.js.gz", "archive.tar.gz", "docs/app.js.gz")
    assert paths(tmp_path) == ["app.js", "archive.tar.gz", "docs/app.js.gz"]


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    write(tmp_path, "index.html", b"caf\xe9.txt")
    with pytest.raises(PublishError, match=r"not UTF-8; rename it") as caught:
        scan_folder(str(tmp_path))
    str(caught.value).encode()


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    write(tmp_path, b"caf\xe9/index.html")
    with pytest.raises(PublishError, match="not UTF-8"):
        scan_folder(str(tmp_path))


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x7f", "a\x1b[0m", "a\\b"])
def test_a_name_with_a_control_character_is_refused_and_shown_safely(tmp_path, name):
    write(tmp_path, name)
    with pytest.raises(PublishError, match="control character or backslash") as caught:
        scan_folder(str(tmp_path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a b", "100%", "q?x", "a#b", "%41", "~", "a;b"])
def test_a_name_that_a_file_system_allows_is_kept_as_it_is(tmp_path, name):
    write(tmp_path, name)
    assert paths(tmp_path) == [name]


def test_a_path_too_long_for_a_url_is_refused(tmp_path):
    deep = "/".join(["ü" * 100] * 8)
    write(tmp_path, deep)
    with pytest.raises(PublishError, match="path too long"):
        scan_folder(str(tmp_path))


def test_both_unicode_forms_of_a_name_are_kept(tmp_path):
    names = sorted(unicodedata.normalize(form, "café.txt") for form in ("NFC", "NFD"))
    write(tmp_path, *names)
    assert paths(tmp_path) == names


def test_names_that_differ_in_case_are_kept(tmp_path):
    write(tmp_path, "Logo.svg", "logo.svg")
    assert paths(tmp_path) == ["Logo.svg", "logo.svg"]


def test_a_link_to_a_file_inside_is_followed(tmp_path):
    write(tmp_path, "app-1.js")
    (tmp_path / "app.js").symlink_to("app-1.js")
    first, second = scan_folder(str(tmp_path)).files
    assert (first.path, second.path) == ("app-1.js", "app.js")
    assert second.size == 7


@pytest.mark.parametrize("target", ["/etc/hostname", "../beside.txt", "../site-too/x"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, target):
    write(tmp_path, "beside.txt", "site-too/x", "site/index.html")
    (tmp_path / "site" / "link").symlink_to(target)
    with pytest.raises(PublishError, match=r"link. is a link out of the folder"):
        scan_folder(str(tmp_path / "site"))


def test_a_link_out_with_an_odd_name_is_shown_safely(tmp_path):
    write(tmp_path, "site/index.html")
    os.symlink(b"/etc/caf\xe9\n", os.fsencode(tmp_path) + b"/site/odd\xe9\n")
    with pytest.raises(PublishError, match="out of the folder") as caught:
        scan_folder(str(tmp_path / "site"))
    str(caught.value).encode()
    assert str(caught.value).isprintable()


def test_a_link_to_a_folder_is_refused(tmp_path):
    write(tmp_path, "docs/index.html")
    (tmp_path / "manual").symlink_to("docs")
    with pytest.raises(PublishError, match="link to a folder"):
        scan_folder(str(tmp_path))


def test_a_link_to_nothing_is_refused(tmp_path):
    write(tmp_path, "index.html")
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(PublishError, match=r"gone.* cannot be read"):
        scan_folder(str(tmp_path))


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(PublishError, match="cannot be read"):
        scan_folder(str(tmp_path))


def test_the_folder_itself_may_be_a_link(tmp_path):
    write(tmp_path, "site/index.html")
    (tmp_path / "current").symlink_to("site")
    assert paths(tmp_path / "current") == ["index.html"]


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PublishError, match="neither a file nor a folder"):
        scan_folder(str(tmp_path))


@pytest.mark.parametrize("names", [[], ["a/b/"], [".env"]], ids=["empty", "folders only", "dotfiles only"])
def test_a_folder_without_files_is_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(PublishError, match="holds no files"):
        scan_folder(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    write(tmp_path, "file")
    for name in ("nowhere", "file"):
        with pytest.raises(PublishError, match="is not a folder"):
            scan_folder(str(tmp_path / name))


def test_a_folder_that_goes_away_meanwhile_is_a_publish_error(tmp_path, monkeypatch):
    write(tmp_path, "a/b.txt")
    real = os.scandir

    def vanish(path: str) -> object:
        if path.endswith("/a"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", vanish)
    with pytest.raises(PublishError, match=r"a.* cannot be read: No such file"):
        scan_folder(str(tmp_path))


def test_more_files_than_the_limit_are_refused(tmp_path, monkeypatch):
    write(tmp_path, "a", "b", "c")
    monkeypatch.setattr(scan, "LIMIT_FILES", 2)
    with pytest.raises(PublishError, match="holds 3 files; a release may hold 2"):
        scan_folder(str(tmp_path))
