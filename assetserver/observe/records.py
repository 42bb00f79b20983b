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


class Told:
    """What the log tells of an answer that is given many times: status, bytes of body, and the fields it looks at.

    ``said`` is how the format in use writes it, b"" until it does.
    """

    __slots__ = ("fields", "said", "sent", "status")

    def __init__(self, status: int, sent: int, fields: tuple[tuple[bytes, bytes], ...]) -> None:
        self.status = status
        self.sent = sent
        self.fields = fields
        self.said = b""


def tell(status: int, sent: int, fields: Iterable[tuple[bytes, bytes]] = ()) -> Told:
    """Return what the log tells of an answer."""
    return Told(status, sent, tuple(field for field in fields if field[0] in LOGGED))


ASKED = (b"host", b"referer", b"user-agent", b"range", b"traceparent")
"""Fields of requests that the log looks at."""

PASSED_ON = (b"x-forwarded-for", b"forwarded", b"x-request-id")
"""Those that it looks at, too, where a trusted proxy sent them."""

LOGGED = frozenset({*ASKED, b"content-encoding", b"cache-status"})

Asked = tuple[bytes | None, ...]
"""What the log tells of a request: method and target, then the values of ``ASKED``, and of ``PASSED_ON`` where a trusted proxy
sent it; None for a field that is not there."""

Describe = Callable[[Any], Asked]


class Remembered:
    """A request whose bytes are known to come again: ``said`` is how a format writes it with the answer ``told``.

    ``describe_match`` describes it when it is given ``match``.
    """

    __slots__ = ("describe_match", "match", "said", "told")

    def __init__(self, describe_match: Describe, match: Any) -> None:
        self.describe_match = describe_match
        self.match = match
        self.told: Told | None = None
        self.said = b""

    def describe(self) -> Asked:
        """Return what the log tells of it."""
        return self.describe_match(self.match)


class Peer:
    """Who has a connection: its address, and how lines about it begin where it asks for itself (see ``briefs``)."""

    __slots__ = ("address", "opening")

    def __init__(self, address: Address | None, opening: bytes) -> None:
        self.address = address
        self.opening = opening


Entry = tuple[float, Peer, Told | None, Any, int]
"""A request whose answer was repeated: when, in seconds of the event loop's clock (``time.monotonic``); over whose connection;
with which answer; the request, as ``Asked`` or ``Remembered``; and the number of its identifier. Without an answer, the fourth
is a line that is written already."""
