"""How uploads are served."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.semantics.untrusted import STRICT_POLICY, SVG_POLICY, select_serving


def fields_of(media_type, name="a.bin"):
    return {name.decode(): value.decode() for name, value in select_serving(media_type, name).fields}


@pytest.mark.parametrize("media_type", ["image/png", "video/mp4", "audio/mpeg", "font/woff2", "text/plain", "image/svg+xml"])
def test_what_cannot_run_is_shown(media_type):
    assert fields_of(media_type)["content-disposition"] == 'inline; filename="a.bin"'


@pytest.mark.parametrize(
    "media_type",
    ["text/html", "application/xhtml+xml", "application/pdf", "text/javascript", "application/x-new", "text/xml", ""],
)
def test_all_else_is_saved_and_sandboxed(media_type):
    fields = fields_of(media_type)
    assert fields["content-disposition"] == 'attachment; filename="a.bin"'
    assert fields["content-security-policy"] == STRICT_POLICY


@pytest.mark.parametrize(
    ("media_type", "served"),
    [
        ("image/png", "image/png"),
        ("IMAGE/SVG+XML", "IMAGE/SVG+XML"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/plain; charset=iso-8859-1", "text/plain; charset=iso-8859-1"),
        ("application/pdf", "application/pdf"),
        ("application/json", "application/json"),
        ("text/html; charset=utf-8", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
        ("application/atom+xml", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
        ("image/png\r\nset-cookie: a", "application/octet-stream"),
    ],
)
def test_what_a_page_could_load_as_its_own_is_bytes(media_type, served):
    assert select_serving(media_type, "a").media_type == served


def test_an_svg_may_not_run_scripts():
    assert fields_of("image/svg+xml")["content-security-policy"] == SVG_POLICY
    assert "sandbox" in SVG_POLICY.split("; ")


def test_what_is_played_has_no_policy_that_would_break_the_player():
    assert "content-security-policy" not in fields_of("video/mp4")


@given(st.text(), st.text())
def test_every_answer_forbids_sniffing_and_has_sound_fields(media_type, name):
    serving = select_serving(media_type, name)
    assert dict(serving.fields)[b"x-content-type-options"] == b"nosniff"
    for value in [serving.media_type.encode("ascii"), *(value for _, value in serving.fields)]:
        assert b"\r" not in value
        assert b"\n" not in value
