"""What a request says of the file that it brings, before a byte of it is read: name, type, length, digests, conditions.

Source: RFC 9110 §8.4 (Content-Encoding), §14.5 (a partial PUT is refused), §13 (preconditions); RFC 9530 (digests).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from hashlib import new as new_hash

from starlette.datastructures import Headers
from starlette.requests import Request

from assetserver.errors import BadRequestError, ChecksumMismatchError, PreconditionFailedError, UnsupportedTypeError
from assetserver.semantics.digestfields import parse_digests
from assetserver.semantics.etags import parse_etag_list, strong_match, weak_match
from assetserver.semantics.mediatypes import DEFAULT
from assetserver.semantics.parameters import parse_filename, parse_media_type

from .answers import etag_of
from .naming import clean_name, parse_name
from .records import NewUpload, Upload

_NO_TYPE = frozenset({"application/x-www-form-urlencoded"})
"""What curl says of any body where nobody said what it is."""

LIMIT_TYPE = 255


def read_field(headers: Headers, name: str) -> str | None:
    """Return the value of a field, several lines joined by ", " (RFC 9110 §5.3), or None."""
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def read_raw(request: Request, length: int | None, *, by_name: str = "") -> NewUpload:
    """Return what a raw body is to become; ``by_name`` is its name where the URL has it.

    Raises ``BadRequestError`` for fields that make no sense, ``UnsupportedTypeError`` for a body that is coded.
    """
    check_framing(request.headers)
    by_name = by_name and parse_name(by_name)
    return NewUpload(
        name=by_name or read_name(request),
        length=length,
        declared_type=read_type(request.headers.get("content-type", "")),
        collection=request.query_params.get("collection", ""),
        kind="raw",
        by_name=by_name,
        expected=read_digests(request.headers, ("content-digest", "repr-digest")),
    )


def read_name(request: Request) -> str:
    """Return the name that ``?name=`` gives, exactly, or ``Content-Disposition``, of which only the name is taken.

    Raises ``BadRequestError`` if none does.
    """
    if name := request.query_params.get("name"):
        return parse_name(name)
    if name := parse_filename(request.headers.get("content-disposition", "")):
        return clean_name(name)  # a path in it is to be cut off (RFC 6266 §4.3)
    raise BadRequestError('the file has no name; say ?name=photo.jpg, or Content-Disposition: attachment; filename="…"')


def read_type(text: str) -> str:
    """Return the media type that ``Content-Type`` declares, without parameters; the default for none, or one that is none."""
    found = parse_media_type(text)
    return DEFAULT if found is None or found.value in _NO_TYPE or len(found.value) > LIMIT_TYPE else found.value


def check_framing(headers: Headers) -> None:
    """Raise for a body that is not the file itself: coded, or a part of it."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedTypeError(f"a body with Content-Encoding: {coding[:40]} is not taken; send the file as it is")
    if "content-range" in headers:
        raise BadRequestError("a body with Content-Range is a part of a file; send all of it, or use a resumable upload")


def read_digests(headers: Headers, names: Iterable[str]) -> dict[str, bytes]:
    """Return what the bytes must hash to, by algorithm. Raises ``BadRequestError`` for fields that are none, or disagree."""
    digests: dict[str, bytes] = {}
    for name in names:
        text = read_field(headers, name)
        if text is not None:
            for algorithm, digest in parse_digest_field(name, text).items():
                if digests.setdefault(algorithm, digest) != digest:
                    raise BadRequestError(
                        f"Content-Digest and Repr-Digest name different {algorithm} digests of the same bytes"
                    )
    return digests


def parse_digest_field(name: str, text: str) -> dict[str, bytes]:
    """Return the digests of a field called ``name``. Raises ``BadRequestError`` if it is malformed."""
    digests = parse_digests(text)
    if digests is None:
        raise BadRequestError(f"{name} is not a list of digests such as sha-256=:BASE64: (RFC 9530)")
    return digests


class Digesting:
    """Hashes bytes as they pass, by the algorithms of what is ``expected`` of them."""

    def __init__(self, expected: Mapping[str, bytes]) -> None:
        self._expected = expected
        self._hashes = {algorithm: new_hash(algorithm.replace("-", "")) for algorithm in expected}

    async def pass_on(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what comes, hashed."""
        async for chunk in chunks:
            for one in self._hashes.values():
                one.update(chunk)
            yield chunk

    def check(self) -> None:
        """Raise ``ChecksumMismatchError`` if all bytes together are not what was expected."""
        for algorithm, one in self._hashes.items():
            if one.digest() != self._expected[algorithm]:
                raise ChecksumMismatchError(f"the body does not have the {algorithm} digest that came with it")


class Conditions:
    """``If-Match`` and ``If-None-Match`` of a request that would replace what has a name (RFC 9110 §13.1.1, §13.1.2)."""

    def __init__(self, headers: Headers) -> None:
        self.if_match = read_field(headers, "if-match")
        self._if_none_match = read_field(headers, "if-none-match")

    @property
    def wants_nothing_there(self) -> bool:
        """Whether the name must be new: ``If-None-Match: *``."""
        return self._if_none_match is not None and parse_etag_list(self._if_none_match) == "*"

    def check(self, current: Upload | None) -> None:
        """Raise ``PreconditionFailedError`` unless ``current``, what has the name now, is as wanted."""
        tag = None if current is None else etag_of(current)
        if self.if_match is not None:
            wanted = parse_etag_list(self.if_match)
            if current is None or (wanted != "*" and not strong_match(wanted, tag)):
                raise PreconditionFailedError("what has this name is not what If-Match asks for")
        elif self._if_none_match is not None and current is not None:
            unwanted = parse_etag_list(self._if_none_match)
            if unwanted == "*" or weak_match(unwanted, tag):
                raise PreconditionFailedError("there is something by this name, which If-None-Match forbids")
