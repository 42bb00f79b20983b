"""A small file with its codings, as the tests of the semantics see it, and the bytes that a plan describes."""

from collections.abc import Mapping
from hashlib import sha256

from assetserver.semantics.dictionaries import OfferedDictionary, parse_available_dictionary
from assetserver.semantics.preconditions import Preconditions
from assetserver.semantics.representation import Asset, ContentCoding, Representation
from assetserver.semantics.respond import AssetRequest, AssetResponses, NoBody, Parts, ResponsePlan, Slice, Whole, respond

NOW = 1_763_800_000
"""A Saturday in November 2025."""

CACHE_FIELDS = ((b"cache-control", b"public, max-age=60"),)
FIELDS = ((b"x-content-type-options", b"nosniff"),)
CODED_LENGTHS = {"gzip": 9, "br": 7}

Contents = dict[ContentCoding, bytes]


def make_content(length: int, salt: str = "hello world ") -> bytes:
    return (salt.encode() * (length // len(salt) + 1))[:length]


def make_contents(length: int = 11, coded: Mapping[str, int] = CODED_LENGTHS) -> Contents:
    contents = {ContentCoding.IDENTITY: make_content(length)}
    for name, coded_length in coded.items():
        contents[ContentCoding(name)] = make_content(coded_length, name)
    return contents


def make_responses(
    contents: Contents,
    *,
    last_modified: int | None = NOW - 86_400,
    negotiable: bool = True,
    hashed: bool = True,
    media_type: str = "text/plain; charset=utf-8",
    takes_deltas: bool = False,
    allowed_origin: str = "",
) -> AssetResponses:
    representations = tuple(
        Representation(coding, media_type, len(content), sha256(content).digest() if hashed else None, last_modified)
        for coding, content in contents.items()
    )
    fields = ((b"access-control-allow-origin", allowed_origin.encode()),) if allowed_origin else ()
    return AssetResponses(Asset(representations, negotiable, CACHE_FIELDS, (*FIELDS, *fields), takes_deltas))


def make_delta(content: bytes, media_type: str = "text/plain; charset=utf-8") -> Representation:
    return Representation(ContentCoding.DCZ, media_type, len(content), sha256(content).digest())


def make_request(fields: Mapping[str, str]) -> AssetRequest:
    """Make a request from field names as they stand on the wire, and ``method``."""
    digest = parse_available_dictionary(fields.get("available-dictionary", ""))
    about = (fields.get(name) for name in ("sec-fetch-site", "sec-fetch-mode", "origin"))
    given = [fields.get(name) for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")]
    return AssetRequest(
        method=fields.get("method", "GET"),
        accept_encoding=fields.get("accept-encoding"),
        preconditions=Preconditions(*given) if any(value is not None for value in given) else None,
        range=fields.get("range"),
        if_range=fields.get("if-range"),
        want_repr_digest=fields.get("want-repr-digest"),
        dictionary=None if digest is None else OfferedDictionary(digest, *about),
    )


def ask(
    responses: AssetResponses,
    fields: Mapping[str, str],
    *,
    now: int = NOW,
    strict: bool = False,
    delta: Representation | None = None,
) -> ResponsePlan:
    return respond(responses, make_request(fields), now=now, strict=strict, delta=delta)


def read_fields(plan: ResponsePlan) -> dict[str, str]:
    """Return the fields by name; every one may stand once."""
    names = [name for name, _ in plan.fields]
    assert len(names) == len(set(names)), f"a field stands twice: {names}"
    return {name.decode("ascii"): value.decode("latin-1") for name, value in plan.fields}


def read_body(plan: ResponsePlan, contents: Contents) -> bytes:
    """Return the bytes that the plan describes."""
    content = contents[plan.representation.coding]
    match plan.body:
        case NoBody():
            return b""
        case Whole():
            return content
        case Slice(found):
            return content[found.start : found.stop]
        case Parts(parts, tail):
            return b"".join(head + content[found.start : found.stop] for head, found in parts) + tail
