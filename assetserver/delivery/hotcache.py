"""Rendered answers, ready to write: what the slow path sent for a request, repeated for the next ones like it (invariant 4).

Two ways lead to an answer. The bytes of a whole request, seen before: the same bytes are the same request. Or its target, Host
and deciding fields, once they have been read (``leanrequest``). Either way the answer stands only as long as its ``Claim``
holds: that the asset which gave it is still what its folder serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from assetserver.metrics.requests import RequestCounts, Tally
from assetserver.observe import LogWriter, Remembered, RequestIds, tell
from assetserver.semantics.representation import Field

from .claims import Claim, KindOf, Standing
from .forwarding import Proxies
from .leanrequest import OF_HOSTS, WITH_RANGE, Key, LeanReader, Shapes
from .openfiles import Find

HOT = "assetserver.hot"
"""Under this name the lifespan state of an application holds its ``HotCache``."""

LIMIT_ANSWERS = 65_536
LIMIT_OTHERS = 4096
"""Answers that are no file's: redirects and misses, of which anybody can have any number."""

LIMIT_HOSTS = 256
LIMIT_REQUESTS = 8192
LIMIT_REQUEST_BYTES = 1024
LIMIT_BODY_BYTES = 1 << 20
"""Larger bodies are written piece by piece, or by the kernel: one write of them would fill memory for a slow reader."""

SHORT_BYTES = 4 << 10
"""Longer bodies are written as they are, and not copied behind their heads."""

_LINE = b"%b: %b\r\n"
_OVERHEAD_BYTES = 1024
_SHARE_OF_OTHERS = 8


class FileBody(NamedTuple):
    """Bytes of a file that the kernel sends: ``find`` returns the file, if it is open and still the one that was meant."""

    find: Find
    offset: int
    length: int

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> FileBody | None:
        """Return what a message of a file says for those who repeat the answer, or None if its file is found no more."""
        find = message.get("find")
        return cls(find, message["offset"], message["count"]) if find else None


class Answer:
    """One rendered answer: ``head`` is all before the date, ``fields`` all after it, but for the request's id.

    ``stamped`` holds both, and between them the ``common`` fields; ``standing`` is how long its claim need not be asked again;
    ``is_used`` since eviction last passed by. ``number`` is that of its latest identifier; each time it is repeated takes one
    more, so that those since ``counted``, and ``uncounted`` earlier ones, are what ``tally`` does not count yet.
    """

    __slots__ = (
        "body",
        "claim",
        "clock_s",
        "common",
        "cost_bytes",
        "counted",
        "fields",
        "file",
        "head",
        "is_used",
        "number",
        "short_body",
        "stamped",
        "standing",
        "status",
        "tally",
        "told",
        "uncounted",
    )

    def __init__(
        self,
        claim: Claim,
        status: int,
        head: bytes,
        fields: list[Field],
        body: bytes,
        file: FileBody | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.claim: Claim | None = claim
        self.clock_s = claim.clock_s
        self.standing = claim.standing or Standing()
        self.status = status
        self.told = tell(status, file.length if file else len(body), fields)
        self.head = head
        self.fields = b"".join(map(_LINE.__mod__, fields))
        self.body = body
        self.short_body = body if len(body) <= SHORT_BYTES else b""
        self.file = file
        self.common: list[Field] = []
        self.stamped = b""
        self.is_used = False
        self.cost_bytes = 0
        self.tally = tally
        self.number = self.counted = self.uncounted = 0

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return _OVERHEAD_BYTES + len(self.body) + 2 * len(self.fields)

    def holds(self) -> bool:
        """Tell whether it may be repeated now, and for the next moments without asking."""
        self.is_used = True
        if self.claim is None or not self.claim.holds():
            return False
        self.standing.until_s = min(self.claim.deadline_s, self.clock_s() + self.claim.trust_s)
        return True

    def renumber(self, number: int) -> None:
        """Give identifiers behind ``number`` from now on."""
        self.uncounted += self.number - self.counted
        self.number = self.counted = number

    def take_repeats(self) -> int:
        """Return how often it was repeated since the last time."""
        repeats = self.uncounted + self.number - self.counted
        self.counted, self.uncounted = self.number, 0
        return repeats

    def drop(self) -> None:
        """Let go of what it takes; whoever still knows it may not repeat it."""
        self.claim, self.standing, self.body, self.short_body, self.stamped = None, Standing(), b"", b"", b""


class Known(NamedTuple):
    """A request whose bytes were seen before: its answer, and what the log tells of it."""

    answer: Answer
    asked: Remembered


class Shelf:
    """Answers by what they are for, at most ``limit`` of them, and ``limit_bytes``. What was not used of late goes first."""

    def __init__(self, limit: int, limit_bytes: int) -> None:
        self.answers: dict[object, Answer] = {}
        self.size_bytes = 0
        self._limit = limit
        self._limit_bytes = limit_bytes

    def put(self, key: object, answer: Answer, key_bytes: int) -> None:
        """Add an answer, in the place of an older one; ``key_bytes`` is what its key takes."""
        self.remove(key)
        self.answers[key] = answer
        answer.cost_bytes = answer.size + key_bytes
        self.size_bytes += answer.cost_bytes
        while self.size_bytes > self._limit_bytes or len(self.answers) > self._limit:
            first = next(iter(self.answers))
            if self.answers[first].is_used:  # a second chance, at the end
                self.answers[first].is_used = False
                self.answers[first] = self.answers.pop(first)
            else:
                self.remove(first)

    def remove(self, key: object) -> None:
        """Drop an answer, if it is there."""
        answer = self.answers.pop(key, None)
        if answer is not None:
            self.size_bytes -= answer.cost_bytes
            answer.drop()


class HotCache:
    """The rendered answers of one process, ``limit_bytes`` of them: those of files, and apart from them all others.

    ``shapes`` are those of requests of clients, ``proxied_shapes`` of those that trusted ``proxies`` pass on.
    """

    def __init__(
        self,
        ids: RequestIds | None = None,
        writer: LogWriter | None = None,
        limit_bytes: int = 64 << 20,
        *,
        proxies: Proxies | None = None,
        counts: RequestCounts | None = None,
    ) -> None:
        self.shapes = Shapes()
        self.proxies = proxies or Proxies()
        self.proxied_shapes = Shapes(is_behind_proxy=True, left=OF_HOSTS if self.proxies.believes_host else frozenset())
        self.writer = writer
        self.ids = ids or RequestIds()
        self._id_field = b"x-request-id: %b-" % self.ids.prefix if ids else b""
        self._files = Shelf(LIMIT_ANSWERS, limit_bytes)
        self._others = Shelf(LIMIT_OTHERS, limit_bytes // _SHARE_OF_OTHERS)
        self._varying: dict[Key, None] = {}
        self._kinds: dict[bytes | None, KindOf] = {}
        self._requests: dict[bytes, Known] = {}
        self._seen: set[int] = set()
        self._counts = counts
        self._repeated: set[Answer] = set()
        self._is_closed = False

    def close(self) -> None:
        """Repeat nothing from now on: what is answered then differs, and the slow path says so."""
        self._is_closed = True
        for shelf in (self._files, self._others):
            for key in list(shelf.answers):
                shelf.remove(key)
        self._requests.clear()

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._files.answers) + len(self._others.answers)

    def find(self, key: Key, reader: LeanReader) -> Answer | None:
        """Return what a request with this ``key`` gets, or None; ``reader`` has read it."""
        if key in self._files.answers:
            return self.find_file(key)
        if key not in self._varying:
            return self._find_other(key)
        varied = key, reader.value(b"accept")
        return self.find_file(varied) or self._find_other(varied)

    def find_file(self, key: object) -> Answer | None:
        """Return the answer of a file that is kept under ``key``, or None."""
        answer = self._files.answers.get(key)
        if answer is None or answer.clock_s() < answer.standing.until_s or answer.holds():
            return answer
        self._files.remove(key)
        return None

    def find_alike(self, key: Key, reader: LeanReader) -> Answer | None:
        """Return what a GET gets whose target is of a kind that was answered before, or None; ``reader`` has read it."""
        kind_of = self._kinds.get(key[1])
        if kind_of is None or (kind := _kind(kind_of, key)) is None:
            return None
        return self._find_other((kind, *key[1:], reader.value(b"accept")))

    def _find_other(self, key: object) -> Answer | None:
        answer = self._others.answers.get(key)
        if answer is None or answer.clock_s() < answer.standing.until_s or answer.holds():
            return answer
        self._others.remove(key)
        return None

    def find_request(self, data: bytes) -> Known | None:
        """Return what a request with exactly these bytes gets, or None."""
        known = self._requests.get(data)
        if known is None:
            return None
        if known.answer.clock_s() < known.answer.standing.until_s or known.answer.holds():
            return known
        del self._requests[data]
        return None

    def admit(
        self, key: Key, answer: Answer, accept: bytes | None = None, *, varies: bool = False, is_any: bool = False
    ) -> None:
        """Keep an answer of the slow path; what is no file's, when it comes a second time: anybody can make that up.

        ``varies``: it is for requests with this value of ``Accept``. ``is_any``: it is a file's, but anybody can make up the
        request, which offers a dictionary of no use.
        """
        if self._is_closed:
            return
        key_bytes = sum(len(part) for part in (*key, accept) if part)
        is_file = answer.status in _OF_FILES and not is_any
        if not is_file and not self._comes_again(hash((key, accept))):
            return
        self._varying.pop(key, None)
        if varies:
            while len(self._varying) >= LIMIT_OTHERS:
                self._varying.pop(next(iter(self._varying)))
            self._varying[key] = None
        (self._files if is_file else self._others).put((key, accept) if varies else key, answer, key_bytes)

    def comes_again(self, key: Key) -> bool:
        """Tell whether a request with this ``key`` was seen before; from now on it was."""
        return self._comes_again(hash(key))

    def admit_alike(self, key: Key, answer: Answer, accept: bytes | None) -> bool:
        """Keep an answer for all requests of its kind, when it comes a second time; return False if it has none."""
        kind_of = answer.claim.kind_of if answer.claim and not self._is_closed else None
        if kind_of is None or (kind := _kind(kind_of, key)) is None:
            return False
        if self._comes_again(hash(common := (kind, *key[1:], accept))):
            if len(self._kinds) >= LIMIT_HOSTS:
                self._kinds.pop(next(iter(self._kinds)))
            self._kinds[key[1]] = kind_of
            self._others.put(common, answer, sum(len(part) for part in (*key, accept) if part))
        return True

    def admit_request(self, data: bytes, answer: Answer, reader: LeanReader) -> None:
        """Keep what a request of these bytes gets, if it comes a second time; ``reader`` has read it."""
        if len(data) > LIMIT_REQUEST_BYTES or not self._comes_again(hash(data)):
            return
        if len(self._requests) >= LIMIT_REQUESTS:
            self._requests.pop(next(iter(self._requests)))
        self._requests[data] = Known(answer, Remembered(reader.shape.describe, reader.match))

    def _comes_again(self, mark: int) -> bool:
        if mark in self._seen:
            return True
        if len(self._seen) >= LIMIT_REQUESTS:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def render(self, answer: Answer, common: list[Field], given: bytes | None = None) -> bytes:
        """Return the head of an answer as it goes over the connection now, and its body after it unless that is long.

        ``common`` are the fields of all answers, as ``Date``; ``given`` is the identifier that the request came with.
        """
        if answer.common is not common:  # a new list every second
            self._stamp(answer, common)
        answer.number = number = answer.number + 1
        if self._id_field:
            if given is not None:
                return b"%b%b\r\n\r\n%b" % (answer.stamped[: -len(self.ids.prefix) - 1], given, answer.short_body)
            return b"%b%x\r\n\r\n%b" % (answer.stamped, number, answer.short_body)
        return b"%b\r\n%b" % (answer.stamped, answer.short_body)

    def _stamp(self, answer: Answer, common: list[Field]) -> None:
        answer.common = common
        answer.renumber(self.ids.take_block())
        if self._counts is not None and answer.tally is not None:
            self._repeated.add(answer)
        answer.stamped = b"".join((answer.head, *map(_LINE.__mod__, common), answer.fields, self._id_field))

    def count_repeats(self) -> None:
        """Count what was repeated since the last time; to be called each second, and once more at the end."""
        for answer in tuple(self._repeated):
            repeats = answer.take_repeats()
            if not repeats or answer.tally is None or self._counts is None:  # it is looked at again when it is stamped anew
                self._repeated.discard(answer)
                answer.common = []
                continue
            sent = 0 if answer.file is not None else repeats * answer.told.sent
            self._counts.repeat(answer.tally, repeats, sent)

    def count_bytes(self, answer: Answer, sent: int) -> None:
        """Count bytes of a file that was sent as the content of ``answer``."""
        if self._counts is not None and answer.tally is not None:
            self._counts.add_bytes(answer.tally, sent)


_OF_FILES = frozenset({200, 206, 304})


_GET = b"GET "


def _kind(kind_of: KindOf, key: Key) -> object:
    """Return what decides the answer to a GET without a range, or None."""
    line = key[0] or b""
    return kind_of(line[len(_GET) :]) if line.startswith(_GET) and len(key) < WITH_RANGE else None
