"""What the access log knows of a request: of one that the application answered, and of one whose answer was repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from starlette.types import Scope

from assetserver.semantics.tracecontext import TraceParent

Address = tuple[str, int]


class Record(NamedTuple):
    """One request as it went; times in seconds, ``sent`` and ``received`` in bytes of body. ``status`` is 0 if none was sent.

    ``started`` is since 1970, ``first_s`` how long it took until the answer began. ``peer`` passed on what ``client`` asked.
    """

    started: float
    duration_s: float
    scope: Scope
    client: Address | None
    status: int
    sent: int
    fields: list[tuple[bytes, bytes]]
    request_id: str
    received: int = 0
    first_s: float = 0.0
    trace: TraceParent | None = None
    peer: Address | None = None


class Told(NamedTuple):
    """What the log tells of an answer that is given many times: status, bytes of body, and the fields it looks at.

    ``combined`` is how the combined format writes the first two.
    """

    status: int
    sent: int
    fields: tuple[tuple[bytes, bytes], ...]
    combined: bytes


def tell(status: int, sent: int, fields: Iterable[tuple[bytes, bytes]] = ()) -> Told:
    """Return what the log tells of an answer."""
    told = tuple(field for field in fields if field[0] in LOGGED)
    return Told(status, sent, told, b"%d %d" % (status, sent) if sent else b"%d -" % status)


ASKED = (b"host", b"referer", b"user-agent", b"range", b"traceparent", b"x-forwarded-for", b"forwarded", b"x-request-id")
"""Fields of requests that the log looks at. The last three count where a trusted proxy sent them."""

LOGGED = frozenset({*ASKED, b"content-encoding", b"cache-status"})

Asked = tuple[bytes, bytes, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None, bytes | None]
"""What the log tells of a request: method and target, then the values of ``ASKED``; None for a field that is not there."""


class Remembered:
    """A request whose bytes are known to come again: ``said`` is how a format writes it with the answer ``told``.

    ``describe_match`` describes it when it is given ``match``.
    """

    __slots__ = ("describe_match", "match", "said", "told")

    def __init__(self, describe_match: Callable[[Any], Asked], match: Any) -> None:
        self.describe_match = describe_match
        self.match = match
        self.told: Told | None = None
        self.said = b""

    def describe(self) -> Asked:
        """Return what the log tells of it."""
        return self.describe_match(self.match)


class Peer:
    """Who has a connection: its address, and how lines about it begin where it asks for itself (see ``BriefFormatter``)."""

    __slots__ = ("address", "opening")

    def __init__(self, address: Address | None, opening: bytes) -> None:
        self.address = address
        self.opening = opening


Line = tuple[bytes, ...]
"""A record as it is written, in pieces: those that many lines share are not copied for each."""
