"""The fields of tus: every row of ``tests/vectors/tus.toml``, what is formatted, and any text at all."""

from base64 import b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assetserver.errors import BadRequestError
from assetserver.uploads import tus
from assetserver.uploads.metadata import CONCAT_AS_SENT, METADATA_AS_SENT, client_metadata

from . import vectors
from .vectors import check_case, find_refusal, make_headers, read_cases

CASES = read_cases("tus")
FIELDS = (
    *("upload-length", "upload-defer-length", "upload-metadata", "upload-concat", "upload-offset", "upload-checksum"),
    *("content-type", "content-length", "transfer-encoding", "x-http-method-override"),
)
UPLOAD = msgspec.structs.replace(vectors.UPLOAD, expires=1403712000.9)


def parse(case):
    """Return what a row's request asks for, by name."""
    headers = make_headers(case["request"])
    match case.get("what", "creation"):
        case "method":
            return {"method": tus.parse_method(case["method"], headers)}
        case "append":
            found = msgspec.structs.asdict(tus.parse_append(headers))
            checksum = found["checksum"]
            return found | {"checksum": checksum and [checksum.algorithm, checksum.digest.hex()]}
        case _:
            found = msgspec.structs.asdict(tus.parse_creation(headers))
            concat = found.pop("concat")
            return found | {"role": concat.role, "parts": list(concat.parts)}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case):
    check_case(case, parse)


@given(
    st.lists(st.tuples(st.sampled_from(FIELDS), st.text(st.characters(max_codepoint=255), max_size=40)), max_size=6),
    st.sampled_from([tus.parse_creation, tus.parse_append, lambda headers: tus.parse_method("POST", headers)]),
)
def test_any_fields_are_read_or_refused_with_a_reason(fields, parse_any):
    error = find_refusal(parse_any, fields)

    assert error is None or (error.status in (400, 415) and str(error))


@given(st.dictionaries(st.from_regex(r"[!-+\--~]{1,20}", fullmatch=True), st.binary(max_size=40), max_size=20))
def test_metadata_that_a_client_writes_are_read_as_they_were(pairs):
    text = ",".join(f"{key} {b64encode(value).decode()}" for key, value in pairs.items())

    assert tus.parse_metadata(text) == {key: value.decode("utf-8", "replace") for key, value in pairs.items()}


def test_state_tells_offset_length_expiry_and_that_it_is_not_to_be_stored():
    assert tus.format_state(UPLOAD) == {
        "Upload-Offset": "70",
        "Upload-Expires": "Wed, 25 Jun 2014 16:00:00 GMT",
        "Upload-Length": "100",
        "Cache-Control": "no-store",
    }


def test_state_gives_metadata_and_concat_back_as_they_were_sent():
    as_sent = {METADATA_AS_SENT: "b Yg==,a", CONCAT_AS_SENT: "partial"}
    upload = msgspec.structs.replace(UPLOAD, metadata={"b": "b", "a": "", **as_sent})

    found = tus.format_state(upload)

    assert (found["Upload-Metadata"], found["Upload-Concat"]) == ("b Yg==,a", "partial")
    assert client_metadata(upload) == {"b": "b", "a": ""}


def test_state_of_unknown_length_says_so():
    found = tus.format_state(msgspec.structs.replace(UPLOAD, size=None))

    assert found["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in found


def test_complete_upload_does_not_expire_and_tells_place_and_digest():
    complete = msgspec.structs.replace(UPLOAD, state="complete", offset=100, sha256="00" * 32, expires=None)

    assert "Upload-Expires" not in tus.format_state(complete)
    assert tus.format_result(complete, "/media/a/a.txt") == {
        "Content-Location": "/media/a/a.txt",
        "Repr-Digest": "sha-256=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:",
    }
    assert tus.format_result(UPLOAD, "/media/a/a.txt") == {}


def test_configuration_names_versions_extensions_algorithms_and_the_limit():
    assert tus.format_configuration(5) == {
        "Tus-Resumable": "1.0.0",
        "Tus-Version": "1.0.0",
        "Tus-Extension": "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation",
        "Tus-Checksum-Algorithm": "sha1,sha256,md5",
        "Tus-Max-Size": "5",
    }


@pytest.mark.parametrize("version", [["1.0.0", "1.0.0"], "0.2.2", "1.0", ""])
def test_other_versions_are_refused(version):
    with pytest.raises(tus.VersionError):
        tus.check_version(make_headers({"tus-resumable": version}))


def test_refusals_show_little_of_what_was_sent():
    with pytest.raises(BadRequestError) as caught:
        tus.parse_checksum("x" * 5000)

    assert len(str(caught.value)) < 200
