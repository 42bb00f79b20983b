"""Rendered answers, ready to write: what the slow path sent for a request, repeated for the next ones like it (invariant 4).

Two ways lead to an answer. The bytes of a whole request, seen before: the same bytes are the same request. Or its target, Host
and deciding fields, once they have been read (``leanrequest``). Either way the answer stands only as long as its ``Claim``
holds: that the asset which gave it is still what its folder serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from assetserver.errors import AssetServerError
from assetserver.observe import LogWriter, RequestIds, tell
from assetserver.semantics.representation import Field

from .leanrequest import WITH_RANGE, Key, LeanReader, Shape, Shapes
from .openfiles import Find

HOT = "assetserver.hot"
"""Under this name the lifespan state of an application holds its ``HotCache``."""

OFFER = "assetserver.offer"
"""Under this name a scope may hold a function that takes a ``Claim``: the answer to come may be repeated."""

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

TRUST_S = 0.1
"""How long a claim is taken to hold once it was asked. Asking costs 0.5 µs; a tenth of a second later, nobody is wronged."""

_LINE = b"%b: %b\r\n"
_OVERHEAD_BYTES = 1024
_SHARE_OF_OTHERS = 8
_NEVER = float("-inf")


class Standing:
    """Until when claims are taken to hold without being asked, by their clock. Claims that fall together share one."""

    __slots__ = ("until_s",)

    def __init__(self) -> None:
        self.until_s = _NEVER


KindOf = Callable[[bytes], object]
"""Returns what of a target decides the answer, None for one that has an answer of its own."""


class Claim(NamedTuple):
    """Why an answer may be repeated: ``get(path)`` is still ``entry``, and ``clock_s()`` before ``deadline_s``.

    Once asked, it is taken to hold for ``trust_s``, 0 where a change must be seen at once; ``standing`` says so to all that
    share it: nobody is given an old answer after a new one. ``kind_of`` tells of other targets for which the answer is the
    same: those for which it returns the same, and not None, as for this one. It must hold for all that have this Host.
    """

    get: Callable[[Any], object]
    path: str
    entry: object
    clock_s: Callable[[], float]
    deadline_s: float
    trust_s: float = TRUST_S
    standing: Standing | None = None
    kind_of: KindOf | None = None

    def holds(self) -> bool:
        """Tell whether the answer would be the same now."""
        try:
            return self.get(self.path) is self.entry and self.clock_s() < self.deadline_s
        except AssetServerError:  # the slow path says what is wrong
            return False


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
    ``is_used`` since eviction last passed by.
    """

    __slots__ = (
        "body",
        "claim",
        "clock_s",
        "common",
        "cost_bytes",
        "fields",
        "file",
        "head",
        "is_used",
        "short_body",
        "stamped",
        "standing",
        "status",
        "told",
    )

    def __init__(
        self, claim: Claim, status: int, head: bytes, fields: list[Field], body: bytes, file: FileBody | None = None
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

    def drop(self) -> None:
        """Let go of what it takes; whoever still knows it may not repeat it."""
        self.claim, self.standing, self.body, self.short_body, self.stamped = None, Standing(), b"", b"", b""


class Known(NamedTuple):
    """A request whose bytes were seen before: its answer, and how it was read."""

    answer: Answer
    shape: Shape
    match: re.Match[bytes]


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
    """The rendered answers of one process, ``limit_bytes`` of them: those of files, and apart from them all others."""

    def __init__(
        self,
        ids: RequestIds | None = None,
        writer: LogWriter | None = None,
        limit_bytes: int = 64 << 20,
        *,
        is_behind_proxy: bool = False,
    ) -> None:
        self.shapes = Shapes(is_behind_proxy=is_behind_proxy)
        self.writer = writer
        self.ids = ids or RequestIds()
        self._id_field = b"x-request-id: %b-" % self.ids.prefix if ids else b""
        self._files = Shelf(LIMIT_ANSWERS, limit_bytes)
        self._others = Shelf(LIMIT_OTHERS, limit_bytes // _SHARE_OF_OTHERS)
        self._varying: dict[Key, None] = {}
        self._kinds: dict[bytes | None, KindOf] = {}
        self._requests: dict[bytes, Known] = {}
        self._seen: set[int] = set()

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

    def admit(self, key: Key, answer: Answer, accept: bytes | None = None, *, varies: bool = False) -> None:
        """Keep an answer of the slow path; what is no file's, when it comes a second time: anybody can make that up.

        ``varies``: it is for requests with this value of ``Accept``.
        """
        key_bytes = sum(len(part) for part in (*key, accept) if part)
        is_file = answer.status in _OF_FILES
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
        kind_of = answer.claim.kind_of if answer.claim else None
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
        self._requests[data] = Known(answer, reader.shape, reader.match)

    def _comes_again(self, mark: int) -> bool:
        if mark in self._seen:
            return True
        if len(self._seen) >= LIMIT_REQUESTS:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def render(self, answer: Answer, common: list[Field]) -> bytes:
        """Return the head of an answer as it goes over the connection now, and its body after it unless that is long.

        ``common`` are the fields of all answers, as ``Date``.
        """
        if answer.common is not common:  # a new list every second
            answer.common = common
            answer.stamped = b"".join((answer.head, *map(_LINE.__mod__, common), answer.fields, self._id_field))
        ids = self.ids
        ids.last_number = number = ids.last_number + 1
        if self._id_field:
            return b"%b%x\r\n\r\n%b" % (answer.stamped, number, answer.short_body)
        return b"%b\r\n%b" % (answer.stamped, answer.short_body)


_OF_FILES = frozenset({200, 206, 304})
_REPEATABLE = frozenset({200, 206, 301, 302, 303, 304, 307, 308, 404})
_OWN = frozenset({b"set-cookie", b"connection", b"transfer-encoding"})
_NOT_MODIFIED = 304


_GET = b"GET "


def _kind(kind_of: KindOf, key: Key) -> object:
    """Return what decides the answer to a GET without a range, or None."""
    line = key[0] or b""
    return kind_of(line[len(_GET) :]) if line.startswith(_GET) and len(key) < WITH_RANGE else None


def is_certain(key: Key) -> bool:
    """Tell whether a request with this ``key`` gets the same answer at any time: a date in ``If-Range`` may grow old enough."""
    return len(key) < WITH_RANGE or key[-1] is None or key[-1].startswith(b'"')


def is_repeatable(status: int, fields: Iterable[Field], length: int, *, head: bool = False) -> bool:
    """Tell whether an answer may be kept: whole, of a known length, and setting nothing for one client alone.

    ``length`` of its body is in bytes; ``head``: of an answer to HEAD, that is 0 whatever it says.
    """
    values = dict(fields)
    if status not in _REPEATABLE or not _OWN.isdisjoint(values):
        return False
    return head or status == _NOT_MODIFIED or values.get(b"content-length") == b"%d" % length
