"""The answer to a GET or HEAD of an asset, as a value: status, fields, and which bytes of which representation.

The order is the specification's: select the representation, evaluate the preconditions on it, then cut ranges from its
bytes (RFC 9110 §13.2.2). What does not depend on the request is made once per asset and repeated.
Source: RFC 9110 §9.3, §13, §14, §15; RFC 9530 (Repr-Digest); RFC 9842 (dictionaries).

Laws:
- ``respond`` never raises, whatever the field values are.
- 304 and 206 carry what the 200 would have carried of ETag, Cache-Control, Vary and the policy fields; a 304 carries
  nothing that describes content it does not send (§15.4.5).
- HEAD has the fields of GET, and ignores Range (§14.2).
- A delta is one more representation, for who has its dictionary, may read the answer, and asks for the whole of it: never for
  ranges and HEAD, and not where the client has the content already.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from .caching import ERROR
from .dates import format_date
from .dictionaries import OfferedDictionary, may_read
from .fields import parse_integer_dictionary
from .negotiation import Weights, accepts_deltas, parse_accept_encoding, select_representation
from .preconditions import Precondition, Preconditions, Validators, evaluate_if_range, evaluate_preconditions
from .ranges import ByteRange, RangeOutcome, format_content_range, select_ranges
from .representation import Asset, ContentCoding, Field, Representation

VARY = (b"vary", b"accept-encoding")
VARY_WITH_DELTAS = (b"vary", b"accept-encoding, available-dictionary")
_ALLOWED_ORIGIN = b"access-control-allow-origin"


@dataclass(frozen=True, slots=True)
class AssetRequest:
    """What of a request decides the answer: the field values as sent, several lines joined by ", ", None where absent.

    ``dictionary``: what the client offers, None where that is nothing, or malformed.
    """

    method: str = "GET"
    accept_encoding: str | None = None
    preconditions: Preconditions | None = None
    range: str | None = None
    if_range: str | None = None
    want_repr_digest: str | None = None
    dictionary: OfferedDictionary | None = None


@dataclass(frozen=True, slots=True)
class NoBody:
    """Nothing follows the fields."""


@dataclass(frozen=True, slots=True)
class Whole:
    """All bytes of the representation."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One range of the representation."""

    range: ByteRange


@dataclass(frozen=True, slots=True)
class Parts:
    """A ``multipart/byteranges`` body: each range after its ``head``, and the closing delimiter ``tail``."""

    parts: tuple[tuple[bytes, ByteRange], ...]
    tail: bytes

    def __len__(self) -> int:
        """Return the length of the body in bytes."""
        return sum(len(head) + len(found) for head, found in self.parts) + len(self.tail)


Body = NoBody | Whole | Slice | Parts
_NO_BODY = NoBody()
_WHOLE = Whole()


@dataclass(frozen=True, slots=True)
class ResponsePlan:
    """An answer, ready to send; ``body`` counts in bytes of ``representation``."""

    status: int
    fields: tuple[Field, ...]
    representation: Representation
    body: Body = _NO_BODY


class AssetResponses:
    """All answers of one asset that depend on no clock, range or dictionary, each made once, when first asked for."""

    __slots__ = ("_fields", "_not_modified", "_selected", "_whole", "asset")

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self._selected: dict[Weights, Representation | None] = {}
        self._whole: dict[tuple[ContentCoding, bool], ResponsePlan] = {}
        self._fields: dict[ContentCoding, tuple[Field, ...]] = {}
        self._not_modified: dict[ContentCoding, ResponsePlan] = {}

    def select(self, accept_encoding: str | None) -> Representation | None:
        """Return the representation that this ``Accept-Encoding`` gets, or None if none is acceptable."""
        weights = parse_accept_encoding(accept_encoding)
        if weights not in self._selected:
            if len(self._selected) > 64:  # noqa: PLR2004 - weights are the client's to choose; memory is not
                self._selected.clear()
            self._selected[weights] = select_representation(self.asset.representations, weights)
        return self._selected[weights]

    @property
    def vary(self) -> tuple[Field, ...]:
        """The ``Vary`` field of every answer, if there is any."""
        if self.asset.takes_deltas:
            return (VARY_WITH_DELTAS,)
        return (VARY,) if self.asset.negotiable else ()

    def common_fields(self, chosen: Representation) -> tuple[Field, ...]:
        """Return what 200 and 206 of ``chosen`` share."""
        if chosen.coding is ContentCoding.DCZ:
            return tuple(self._common_fields(chosen))
        fields = self._fields.get(chosen.coding)
        if fields is None:
            fields = self._fields[chosen.coding] = tuple(self._common_fields(chosen))
        return fields

    def not_modified(self, chosen: Representation) -> ResponsePlan:
        """Return the 304 of ``chosen``: without Last-Modified where the tag says it better (§15.4.5)."""
        if chosen.coding is ContentCoding.DCZ:
            return self._make_not_modified(chosen)
        plan = self._not_modified.get(chosen.coding)
        if plan is None:
            plan = self._not_modified[chosen.coding] = self._make_not_modified(chosen)
        return plan

    def whole(self, chosen: Representation, *, head: bool) -> ResponsePlan:
        """Return the 200 of ``chosen``."""
        if chosen.coding is ContentCoding.DCZ:
            return self._make_whole(chosen, head=head)
        plan = self._whole.get((chosen.coding, head))
        if plan is None:
            plan = self._whole[chosen.coding, head] = self._make_whole(chosen, head=head)
        return plan

    def _make_not_modified(self, chosen: Representation) -> ResponsePlan:
        fields = self.common_fields(chosen)
        if chosen.etag is not None:
            fields = tuple(field for field in fields if field[0] != b"last-modified")
        return ResponsePlan(304, fields, chosen)

    def _make_whole(self, chosen: Representation, *, head: bool) -> ResponsePlan:
        fields = (
            *self.common_fields(chosen),
            *content_fields(chosen),
            (b"content-length", b"%d" % chosen.length),
            (b"accept-ranges", b"bytes"),
        )
        return ResponsePlan(200, fields, chosen, _NO_BODY if head else _WHOLE)

    def _common_fields(self, chosen: Representation) -> Iterator[Field]:
        if chosen.etag is not None:
            yield b"etag", str(chosen.etag).encode("latin-1")
        if chosen.last_modified is not None:
            yield b"last-modified", format_date(chosen.last_modified).encode()
        yield from self.vary
        yield from self.asset.cache_fields
        yield from self.asset.fields


def respond(
    responses: AssetResponses,
    request: AssetRequest,
    *,
    now: int,
    strict: bool = False,
    delta: Representation | None = None,
) -> ResponsePlan:
    """Return the answer to a GET or HEAD. ``now`` in seconds since 1970.

    ``strict``: a client that refuses every coding we have, identity too, gets 406; else it gets identity, as the
    specification allows (§12.5.3) and every peer does. ``delta``: the asset as ``dcz`` against ``request.dictionary``, for an
    asset that takes deltas. May be repeated: the same arguments, the same answer.
    """
    chosen = responses.select(request.accept_encoding)
    if delta is not None and may_have_delta(responses, request, now=now):
        available = (chosen or responses.asset.representations[0], delta)
        chosen = select_representation(available, parse_accept_encoding(request.accept_encoding))
    if chosen is None:
        if strict:
            return _error(responses, 406)
        chosen = responses.asset.representations[0]
    head = request.method == "HEAD"
    plan = responses.whole(chosen, head=head)
    if request.preconditions is not None:
        outcome = evaluate_preconditions(request.preconditions, _validators(chosen), now=now)
        if outcome is Precondition.FAILED:
            return _error(responses, 412)
        if outcome is Precondition.NOT_MODIFIED:
            plan = responses.not_modified(chosen)
    if plan.status == 200 and request.range is not None and not head:  # noqa: PLR2004 - a status
        plan = _ranged(responses, plan, request, now)
    if request.want_repr_digest is not None:
        plan = _with_digest(plan, request.want_repr_digest)
    return plan


def may_have_delta(responses: AssetResponses, request: AssetRequest, *, now: int) -> bool:
    """Tell whether ``request`` may be answered with a delta, if there is one that it has the dictionary of.

    Not a range: a part of a delta is of use to nobody. Nor what has a condition that plain representations decide: they are
    what most clients have tags of, and 304 is shorter than any delta. Nor HEAD, which may leave out what only GET has (RFC 9110
    §9.3.2): Chromium 156 looks for the dictionary's hash in the content that is not there, and fails.
    """
    offered, given = request.dictionary, request.preconditions
    if offered is None or request.method != "GET" or request.range is not None or not responses.asset.takes_deltas:
        return False
    if not accepts_deltas(parse_accept_encoding(request.accept_encoding)):
        return False
    if given is not None:
        if given.if_match is not None or given.if_unmodified_since is not None:
            return False
        plain = responses.select(request.accept_encoding) or responses.asset.representations[0]
        if evaluate_preconditions(given, _validators(plain), now=now) is Precondition.NOT_MODIFIED:
            return False
    allowed = next((value.decode("latin-1") for name, value in responses.asset.fields if name == _ALLOWED_ORIGIN), None)
    return may_read(offered, allowed)


def respond_missing(responses: AssetResponses, request: AssetRequest, cache_control: str, status: int = 404) -> ResponsePlan:
    """Return the error whose content is an asset (the site's own page): negotiated, but without validators or ranges."""
    chosen = responses.select(request.accept_encoding) or responses.asset.representations[0]
    fields = (
        *((VARY,) if responses.asset.negotiable else ()),  # errors are never deltas
        (b"cache-control", cache_control.encode("latin-1")),
        *responses.asset.fields,
        *content_fields(chosen),
        (b"content-length", b"%d" % chosen.length),
    )
    return ResponsePlan(status, fields, chosen, _NO_BODY if request.method == "HEAD" else _WHOLE)


def content_fields(chosen: Representation) -> Iterator[Field]:
    """Yield the fields that describe the content itself."""
    yield b"content-type", chosen.media_type.encode("latin-1")
    if chosen.coding is not ContentCoding.IDENTITY:
        yield b"content-encoding", chosen.coding.value.encode()


def _validators(chosen: Representation) -> Validators:
    return Validators(chosen.etag, chosen.last_modified)


def _error(responses: AssetResponses, status: int, *fields: Field) -> ResponsePlan:
    """An error that has no content of its own: not to be stored, and no validators that it could be revalidated by."""
    asset = responses.asset
    common = (*fields, *responses.vary, (b"cache-control", ERROR.encode()), *asset.fields)
    return ResponsePlan(status, (*common, (b"content-length", b"0")), asset.representations[0])


def _ranged(responses: AssetResponses, plan: ResponsePlan, request: AssetRequest, now: int) -> ResponsePlan:
    chosen = plan.representation
    if request.if_range is not None and not evaluate_if_range(request.if_range, _validators(chosen), now=now):
        return plan
    ranges = select_ranges(request.range or "", chosen.length)
    if ranges is RangeOutcome.IGNORED:
        return plan
    if ranges is RangeOutcome.UNSATISFIABLE:
        return _error(responses, 416, (b"content-range", b"bytes */%d" % chosen.length))
    if len(ranges) == 1:
        return _single(responses, chosen, ranges[0])
    if chosen.coding is not ContentCoding.IDENTITY or chosen.digest is None:
        # Content-Encoding beside multipart/byteranges reads as if the multipart itself were coded; clients would
        # decode the delimiters. And without the digest a delimiter could be foreseen by whoever wrote the content.
        # Ignoring Range is always allowed (§14.2).
        return plan
    return _multipart(responses, chosen, ranges)


def _single(responses: AssetResponses, chosen: Representation, found: ByteRange) -> ResponsePlan:
    fields = (
        *responses.common_fields(chosen),
        *content_fields(chosen),
        (b"content-length", b"%d" % len(found)),
        (b"content-range", format_content_range(found, chosen.length).encode()),
        (b"accept-ranges", b"bytes"),
    )
    return ResponsePlan(206, fields, chosen, Slice(found))


def _multipart(responses: AssetResponses, chosen: Representation, ranges: tuple[ByteRange, ...]) -> ResponsePlan:
    """Several parts: no Content-Range on the head (§15.3.7.2), one in each part, delimiters with CRLF (RFC 2046 §5.1)."""
    boundary = _boundary(chosen, ranges)
    media_type = chosen.media_type.encode("latin-1")
    parts = tuple(
        (
            b"%s--%s\r\ncontent-type: %s\r\ncontent-range: %s\r\n\r\n"
            % (b"\r\n" if index else b"", boundary, media_type, format_content_range(found, chosen.length).encode()),
            found,
        )
        for index, found in enumerate(ranges)
    )
    body = Parts(parts, b"\r\n--%s--\r\n" % boundary)
    fields = (
        *responses.common_fields(chosen),
        (b"content-type", b"multipart/byteranges; boundary=" + boundary),
        (b"content-length", b"%d" % len(body)),
        (b"accept-ranges", b"bytes"),
    )
    return ResponsePlan(206, fields, chosen, body)


def _boundary(chosen: Representation, ranges: tuple[ByteRange, ...]) -> bytes:
    """A delimiter that the content cannot hold: it is made from the content's own SHA-256.

    While that is not known, only the writer of the file could guess it, and would spoil the writer's own file.
    """
    seed = repr((chosen.digest, chosen.length, chosen.last_modified, ranges)).encode()
    return sha256(seed).hexdigest()[:32].encode()


def _with_digest(plan: ResponsePlan, want: str) -> ResponsePlan:
    """Add ``Repr-Digest`` if ``sha-256`` is wanted: of the whole selected representation, also on 206, 304 and HEAD."""
    digest = plan.representation.digest
    if digest is None or plan.status >= 400 or parse_integer_dictionary(want).get("sha-256", 0) == 0:  # noqa: PLR2004
        return plan
    field = (b"repr-digest", b"sha-256=:" + b64encode(digest) + b":")
    return ResponsePlan(plan.status, (*plan.fields, field), plan.representation, plan.body)
