"""Another server's API of releases, as its client sees it: requests that are repeated until answered, errors in words.

Blocks; any number of threads may use it at once. Closing it ends what waits to be repeated.
"""

from __future__ import annotations

import logging
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from assetserver.errors import (
    AssetServerError,
    ConflictError,
    DictionaryMissingError,
    LockedError,
    PublishError,
    ReleaseMissingError,
    RemoteError,
)
from assetserver.problems import type_of
from assetserver.releases.manifest import SHORT, ReleaseId
from assetserver.releases.publish import PublishOptions

from .finishing import Missing, Ready, Work
from .retrying import ATTEMPTS, RETRIED, delay_s
from .submission import Submission, encode_submission

logger = logging.getLogger(__name__)

TRANSFERS = 8
FIRST_ATTEMPTS = 3
"""How often a server is asked that was never reached: the address may be wrong."""

_NDJSON = "application/x-ndjson"
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_TOKEN = re.compile(r"[!-~]+")
_ERRNO = re.compile(r"\[errno -?\d+\] ")
_SHOWN = 200

T = TypeVar("T")
Body = Callable[[], bytes | Iterable[bytes]]


class SiteInfo(msgspec.Struct, frozen=True):
    """A site of the server: what is active there, whether it is locked, and how it is published."""

    site: str
    active: str | None
    locked: str
    url: str
    options: PublishOptions


class Published(Ready, frozen=True, kw_only=True):
    """A release that the server keeps now, and where. ``previews``: of the release, and of each of its aliases."""

    active: str | None
    url: str
    message: str
    aliases: tuple[str, ...]
    previews: tuple[str, ...]


class Activated(msgspec.Struct, frozen=True):
    """What a site serves now, what it did before, and where."""

    active: str
    before: str | None
    url: str


class _Problem(msgspec.Struct, frozen=True):
    type: str = ""
    detail: str = ""
    missing: tuple[str, ...] = ()
    active: str | None = None


class _Line(msgspec.Struct, frozen=True):
    progress: Work | None = None
    status: int = 0
    answer: msgspec.Raw = msgspec.Raw(b"")


class Answer(msgspec.Struct, frozen=True):
    """A response: its status, its fields and its content."""

    status: int
    fields: Mapping[str, str]
    content: bytes


class Remote:
    """The API of releases at ``url``, for who has ``token``.

    Raises ``PublishError`` for a URL or a token that cannot be one. ``transport``: instead of the network.
    """

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = _check_url(url)
        if _TOKEN.fullmatch(token) is None:
            raise PublishError("the token is none: it is one word of letters, digits and signs; copy it again")
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {token}", "User-Agent": f"assetserver/{version('assetserver')}"},
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=TRANSFERS, max_keepalive_connections=TRANSFERS),
            transport=transport,
        )
        self._was_reached = False
        self.closing = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what waits to be repeated, and close all connections."""
        self.closing.set()
        self._client.close()

    def describe_site(self, site: str) -> SiteInfo:
        """Return what the server says of ``site``, "" for the only one."""
        return self._read(self._ask("GET", "releases", {"site": site}), SiteInfo)

    def submit(self, submission: Submission, site: str, tell: Callable[[Work], None]) -> Missing | Published:
        """Ask the server to publish, and wait until it has; ``tell`` hears how far it is.

        Where blobs are ``Missing``, nothing was published. Raises ``PublishError`` for what the server's checks stop.
        """
        content = encode_submission(submission)
        fields = {"Content-Type": "application/json", "Accept": f"{_NDJSON}, application/json"}
        answer = self._ask("POST", "releases", {"site": site}, lambda: content, fields, tell)
        if answer.status == HTTPStatus.CONFLICT or submission.dry_run:
            return Missing(self._read(answer, _Problem).missing)
        return self._read(answer, Published)

    def send_blob(self, digest: str, size: int, body: Body, fields: Mapping[str, str]) -> None:
        """Send the bytes of a file, which ``body`` gives, anew for each attempt; ``fields`` say how they are coded."""
        headers = {"Content-Type": "application/octet-stream", **fields}
        self._ask("PUT", f"blobs/{digest}", {"size": str(size)}, body, headers)

    def activate(self, release: str, site: str) -> Activated:
        """Make ``release`` what ``site`` serves. Raises ``LockedError`` and ``SignatureError``."""
        content = msgspec.json.encode({"id": release, "site": site})
        return self._read(self._ask("POST", "activate", {}, lambda: content, {"Content-Type": "application/json"}), Activated)

    def fetch_manifest(self, release: ReleaseId) -> bytes:
        """Return the bytes of a kept release's manifest, as the server sends them."""
        return self._ask("GET", f"releases/{release}/manifest", {}).content

    def send_signature(self, release: ReleaseId, text: str) -> None:
        """Send a signature of the manifest. Raises ``SignatureError`` if the server does not trust it."""
        self._ask("PUT", f"releases/{release}/signature", {}, text.encode, {"Content-Type": "text/plain"})

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Body = bytes,
        fields: Mapping[str, str] | None = None,
        tell: Callable[[Work], None] | None = None,
    ) -> Answer:
        """Return the answer to a request, which is repeated until it is one; raises what an error's answer means."""
        attempt = 0
        while True:
            attempt += 1
            answer: Answer | None = None
            try:
                url = f"{self.url}/-/api/{path}"
                params = {name: value for name, value in query.items() if value}
                content = body() if method != "GET" else None
                request = self._client.build_request(method, url, params=params, content=content, headers=fields)
                answer = self._send(request, tell)
                self._was_reached = True
                if answer.status not in RETRIED or attempt == ATTEMPTS:
                    return self._check(answer)
            except httpx.TransportError as error:
                if attempt == (ATTEMPTS if self._was_reached else FIRST_ATTEMPTS) or _is_hopeless(error):
                    tried = f"; tried {attempt} times" if attempt > 1 else ""
                    raise RemoteError(f"{self.url} cannot be reached: {_explain(error)}{tried}") from error
                logger.debug("attempt %d of %s %s: %s", attempt, method, path, error)
            retry_after = answer.fields.get("retry-after") if answer else None
            if self.closing.wait(delay_s(attempt, retry_after, random.random(), time.time())):  # noqa: S311 - jitter
                raise RemoteError("stopped")

    def _send(self, request: httpx.Request, tell: Callable[[Work], None] | None) -> Answer:
        response = self._client.send(request, stream=True)
        with closing(response):
            fields = {name.lower(): value for name, value in response.headers.items()}
            if fields.get("content-type", "").startswith(_NDJSON):
                return self._follow(response.iter_lines(), fields, tell)
            return Answer(response.status_code, fields, response.read())

    def _follow(self, lines: Iterator[str], fields: Mapping[str, str], tell: Callable[[Work], None] | None) -> Answer:
        """Read lines of progress to the last, which is the answer. Raises ``httpx.TransportError`` if they end before."""
        for text in lines:
            line = self._read(Answer(HTTPStatus.OK, fields, text.encode()), _Line)
            if line.status:
                return Answer(line.status, fields, bytes(line.answer))
            if line.progress is not None and tell is not None:
                tell(line.progress)
        raise httpx.RemoteProtocolError("the answer was cut")

    def _check(self, answer: Answer) -> Answer:
        """Return an answer that says yes, or what is missing; raise what others mean."""
        status, content = answer.status, answer.content
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            where = answer.fields.get("location", "nowhere")
            raise RemoteError(f"{self.url} redirects to {where[:_SHOWN]}; give the URL that it should be: --url")
        problem = _decode_problem(content)
        if problem is None and status in _OF_PROXIES:
            problem = _Problem(detail=HTTPStatus(status).phrase)
        if problem is None:
            raise self._not_ours(f"status {status}")
        if status == HTTPStatus.CONFLICT and problem.missing:
            return answer
        if problem.type == type_of(DictionaryMissingError()):
            raise DictionaryMissingError(problem.detail)
        raise _ERRORS.get(status, RemoteError)(_told(self.url, status, problem.detail))

    def _read(self, answer: Answer, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=shape)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise self._not_ours(str(error)) from error

    def _not_ours(self, why: str) -> RemoteError:
        remedy = "is the URL right, and publish.remote on?"
        return RemoteError(f"{self.url} answers, but not as an assetserver that takes releases ({why}); {remedy}")


_OF_PROXIES = RETRIED | {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
"""What may be said by something before the server, in its own words."""

_ERRORS: dict[int, type[AssetServerError]] = {
    HTTPStatus.NOT_FOUND: ReleaseMissingError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.UNPROCESSABLE_ENTITY: PublishError,
    HTTPStatus.LOCKED: LockedError,
}


def _told(url: str, status: int, detail: str) -> str:
    """Return what the server's ``detail`` says, for who only sees the client."""
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{url} does not accept the token: {detail}"
    if status == HTTPStatus.FORBIDDEN:
        return f"{url} does not let this token publish: {detail}"
    return detail if status in _ERRORS else f"{url} answers {status}: {detail}"


def _decode_problem(content: bytes) -> _Problem | None:
    try:
        found: Any = msgspec.json.decode(content)
        return msgspec.convert(found, _Problem) if isinstance(found, dict) and "detail" in found else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _check_url(text: str) -> str:
    """Return the base URL, without a slash at the end. Raises ``PublishError`` for what is none."""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url:
        raise PublishError(f"--url {text!r} is no URL of a server; write it as https://www.example.com")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PublishError(f"--url {text!r} is more than where a server is; write it as https://www.example.com")
    return text.rstrip("/")


def is_in_the_clear(url: str) -> bool:
    """Tell whether everybody on the way to ``url`` can read the token."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "http" and host not in ("localhost", "::1") and not host.startswith("127.")


def _is_hopeless(error: httpx.TransportError) -> bool:
    """Tell whether asking again cannot help: a certificate that is not trusted, a scheme that is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return isinstance(error, httpx.UnsupportedProtocol)


def _explain(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"no answer in time ({type(error).__name__})"
    return _ERRNO.sub("", (str(error) or type(error).__name__).lower())


def short(release: str | None) -> str:
    """Return an id as people write it."""
    return release[:SHORT] if release else "nothing"
