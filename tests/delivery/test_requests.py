"""ASGI scopes, as servers and middleware make them, become the values that the semantics work on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.delivery.requests import (
    DECIDING,
    encoded_prefix,
    first_field,
    query_suffix,
    raw_path,
    read_request,
    read_target,
)
from assetserver.semantics.preconditions import Preconditions
from assetserver.semantics.targets import RefusedTarget, Target


class TestRequest:
    def test_a_bare_request_has_only_a_method(self, make_scope):
        request = read_request(make_scope("/a", "HEAD", [(b"host", b"x"), (b"accept", b"*/*")]))
        assert request.method == "HEAD"
        assert (request.accept_encoding, request.preconditions, request.range, request.if_range) == (None,) * 4

    def test_every_deciding_field_is_read(self, make_scope):
        request = read_request(make_scope("/a", headers=[(name, name.upper()) for name in sorted(DECIDING)]))
        assert request.preconditions == Preconditions("IF-MATCH", "IF-NONE-MATCH", "IF-MODIFIED-SINCE", "IF-UNMODIFIED-SINCE")
        assert (request.accept_encoding, request.range, request.if_range) == ("ACCEPT-ENCODING", "RANGE", "IF-RANGE")
        assert request.want_repr_digest == "WANT-REPR-DIGEST"

    def test_an_empty_field_is_not_an_absent_one(self, make_scope):
        request = read_request(make_scope("/a", headers=[(b"accept-encoding", b""), (b"if-none-match", b"")]))
        assert request.accept_encoding == ""
        assert request.preconditions is not None
        assert request.preconditions.if_none_match == ""

    def test_several_lines_of_a_field_are_one_value(self, make_scope):
        lines = [(b"accept-encoding", b"gzip"), (b"if-none-match", b'"a"'), (b"accept-encoding", b"br;q=0.5")]
        request = read_request(make_scope("/a", headers=[*lines, (b"if-none-match", b'"b"')]))
        assert request.accept_encoding == "gzip, br;q=0.5"
        assert request.preconditions.if_none_match == '"a", "b"'

    def test_any_byte_may_stand_in_a_field(self, make_scope):
        assert read_request(make_scope("/a", headers=[(b"range", bytes(range(256)))])).range == bytes(range(256)).decode(
            "latin-1"
        )

    def test_the_first_of_several_fields_is_found(self, make_scope):
        scope = make_scope("/a", headers=[(b"accept", b"a"), (b"accept", b"b")])
        assert (first_field(scope, b"accept"), first_field(scope, b"origin")) == ("a", None)


class TestPath:
    @pytest.mark.parametrize(
        ("path", "root_path", "found", "canonical"),
        [
            ("/a.css", "", "a.css", "/a.css"),
            ("/", "", "", "/"),
            ("/docs/", "", "docs/", "/docs/"),
            ("/a%20b.css", "", "a b.css", "/a%20b.css"),
            ("/%61.css", "", "a.css", "/a.css"),
            ("//a.css", "", "a.css", "/a.css"),
            ("/100%25.txt", "", "100%.txt", "/100%25.txt"),
            ("/a%2541.txt", "", "a%41.txt", "/a%2541.txt"),
            ("/%C3%A9", "", "é", "/%C3%A9"),
            ("/a.css", "/static", "a.css", "/static/a.css"),
            ("//a.css", "/static", "a.css", "/static/a.css"),
            ("/", "/static", "", "/static/"),
            ("/static/a.css", "/static", "static/a.css", "/static/static/a.css"),
            ("/a.css", "/a b", "a.css", "/a%20b/a.css"),
        ],
    )
    def test_a_path_leads_to_a_file_below_the_mount_and_has_one_spelling(self, make_scope, path, root_path, found, canonical):
        scope = make_scope(path, root_path=root_path)
        scope["raw_path"] = (root_path.replace(" ", "%20") + path).encode()
        assert read_target(scope) == Target(found, canonical)

    @pytest.mark.parametrize(
        "path", ["/../x", "/%2e%2e/x", "/a%2fb", "/a%5cb", "/%00", "/%zz", "/%c0%ae%c0%ae/x", "/" + "x" * 5000]
    )
    def test_a_path_that_can_name_nothing_is_refused(self, make_scope, path):
        assert isinstance(read_target(make_scope(path)), RefusedTarget)
        assert isinstance(read_target(make_scope(path, root_path="/static")), RefusedTarget)

    def test_an_encoded_prefix_is_recognised(self, make_scope):
        scope = make_scope("/a.css", root_path="/static")
        scope["raw_path"] = b"/st%61tic/a.css"
        assert read_target(scope) == Target("a.css", "/static/a.css")

    @pytest.mark.parametrize("raw", [b"/static%2fa.css", b"/static/..%2fa.css", b"/other/a.css"])
    def test_a_prefix_that_is_not_spelled_by_its_segments_is_refused(self, make_scope, raw):
        scope = make_scope("/a.css", root_path="/static")
        scope["raw_path"] = raw
        scope["path"] = raw.decode().replace("%2f", "/")
        assert isinstance(read_target(scope), RefusedTarget)

    def test_a_query_in_the_raw_path_is_no_part_of_the_path(self, make_scope):
        scope = make_scope("/a.css")
        scope["raw_path"] = b"/a.css?v=1"
        assert raw_path(scope) == "/a.css"

    @pytest.mark.parametrize("path", ["/a b.css", "/100%.txt", "/a%41.txt", "/é", "/a?b", "/a#b", "/a;b,c"])
    def test_without_a_raw_path_the_decoded_one_is_taken_literally(self, make_scope, path):
        scope = make_scope("/") | {"path": path, "raw_path": None}
        target = read_target(scope)
        assert target.path == path[1:]
        assert target.canonical == raw_path(scope), "it is canonical already, or every request would be redirected"
        del scope["raw_path"]
        assert read_target(scope) == target

    def test_a_path_that_middleware_rewrote_is_the_one_that_counts(self, make_scope):
        """Middleware changes ``path`` and seldom ``raw_path``; Starlette routes by ``path``."""
        assert read_target(make_scope("/v1/app.js") | {"path": "/app.js"}) == Target("app.js", "/app.js")

    def test_raw_bytes_above_ascii_are_what_the_server_decoded(self, make_scope):
        scope = make_scope("/x") | {"path": "/é.txt", "raw_path": "/é.txt".encode()}
        assert read_target(scope) == Target("é.txt", "/%C3%A9.txt")

    @given(st.text(max_size=30))
    def test_no_path_raises(self, path):
        for raw in (None, path.encode("utf-8", "replace")):
            scope = {"path": "/" + path, "raw_path": raw, "root_path": ""}
            assert isinstance(read_target(scope), Target | RefusedTarget)

    def test_a_path_that_is_not_unicode_is_refused(self):
        assert isinstance(read_target({"path": "/\udcff", "root_path": ""}), RefusedTarget)


class TestSuffixAndPrefix:
    @pytest.mark.parametrize(
        ("query", "suffix"),
        [
            (b"", ""),
            (b"v=1&w=a+b", "?v=1&w=a+b"),
            (b"next=%2F%2Fevil", "?next=%2F%2Fevil"),
            (b"a=\r\nSet-Cookie: x", "?a=%0D%0ASet-Cookie:%20x"),
            (b'"<script>', "?%22%3Cscript%3E"),
            (b"\xff", "?%FF"),
        ],
    )
    def test_a_query_is_kept_but_cannot_end_a_line(self, make_scope, query, suffix):
        assert query_suffix(make_scope("/", query=query)) == suffix

    def test_a_prefix_is_encoded_as_in_a_url(self, make_scope):
        assert encoded_prefix(make_scope("/")) == ""
        assert encoded_prefix({"root_path": "/a b/é\r\n"}) == "/a%20b/%C3%A9%0D%0A"
