"""Releases over HTTP, the server's side: which requests there are, and what each answers.

    GET  /-/api/releases                    what a site keeps, and how it is published
    POST /-/api/releases                    a submission → 409 with what is missing, or the release, ready
    GET  /-/api/releases/{id}/manifest      the bytes that a signature signs
    PUT  /-/api/releases/{id}/signature     minisign's, of these bytes
    PUT  /-/api/blobs/{sha256}              the bytes of a file
    POST /-/api/activate                    compare and swap

All of them want a token with the scope ``publish``, and nothing of a body is read before it was looked at.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
from msgspec import Meta
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from assetserver.bodies import DEFAULT_PACE, Pace, body_of
from assetserver.complaints import explain
from assetserver.errors import (
    AssetServerError,
    BadRequestError,
    BusyError,
    ConflictError,
    TooLargeError,
)
from assetserver.releases.activation import activate_release
from assetserver.releases.manifest import ReleaseId
from assetserver.releases.sites import SiteState
from assetserver.storage.blobs import Digest
from assetserver.storage.pools import FilePool, wait_done, wait_future

from .answers import BLOBS_MISSING, NO_STORE, answer_error, answer_json, answer_problem, describe_problem, status_of
from .background import Background, Failed, Job, Outcome, Task
from .finishing import Missing
from .home import Home
from .lease import PublishingLease
from .receiving import CODINGS, Arrival, Bound, check_size, receive_blob
from .submission import LIMIT_BYTES, LIMIT_SIZE

Authorise = Callable[[Request], Awaitable[object]]
"""Lets who asks pass if a token of the request has the scope ``publish``, without reading of its body.

Else it raises ``UnauthorisedError`` or ``ForbiddenError``.
"""

Handler = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger(__name__)

THREADS = 8
"""As many as a client has transfers: they wait for the disk, most of the time."""

ARRIVALS = 64
"""Blobs that arrive at once in one process: each holds a batch and a window, about 10 MiB at worst."""

DICTIONARY_ARRIVALS = 2
"""Those with a dictionary, which may hold ten times as much."""

SUBMISSIONS = 4
SOON_S = 0.5
"""Outcomes that come as soon get the status that they have; later ones follow a line of progress, with status 200."""

TICK_S = 1.0
NDJSON = "application/x-ndjson"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LIMIT_JSON_BYTES = 64 << 10
_LIMIT_SIGNATURE_BYTES = 4096
_LIMIT_DIGITS = 20

T = TypeVar("T")


class Activation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``POST /-/api/activate`` takes: a release (an id, its beginning, or an alias).

    ``if_active``: only if this one is active, "" or null for none; without it, whatever is.
    """

    id: Annotated[str, Meta(min_length=1, max_length=128)]
    if_active: str | msgspec.UnsetType | None = msgspec.UNSET
    site: str = ""


class ReleasesApi:
    """The API of releases. ``resources`` are for the application; ``close`` ends what goes on, at shutdown.

    ``pace``: how slowly bodies may come.
    """

    def __init__(self, home: Home, authorise: Authorise, pace: Pace = DEFAULT_PACE) -> None:
        self._home = home
        self._pace = pace
        self._authorise = authorise
        self._pool = FilePool("assetserver-remote", THREADS)
        self._background = Background()
        self._lease = PublishingLease(home.library.folder)
        self._arrivals = _Limit(ARRIVALS)
        self._with_dictionary = _Limit(DICTIONARY_ARRIVALS)
        self._submissions = _Limit(SUBMISSIONS)

    def resources(self) -> dict[str, ASGIApp]:
        """Return what answers, by paths below ``/-/api/`` as Starlette's routes have them."""
        table: dict[str, dict[str, Handler]] = {
            "releases": {"GET": self._list, "POST": self._submit},
            "releases/{id}/manifest": {"GET": self._manifest},
            "releases/{id}/signature": {"PUT": self._sign},
            "blobs/{digest}": {"PUT": self._receive},
            "activate": {"POST": self._activate},
        }
        return {path: _Resource(self._guarded, handlers) for path, handlers in table.items()}

    def close(self) -> None:
        """End what goes on: children are killed, threads waited for."""
        self._background.close()
        self._pool.close()
        self._lease.close()

    async def _guarded(self, handler: Handler, request: Request) -> Response:
        """Return what ``handler`` answers who may, with errors as problem details."""
        try:
            await self._authorise(request)
            return await handler(request)
        except AssetServerError as error:
            return answer_error(error)
        except ClientDisconnect:
            return answer_problem(HTTPStatus.BAD_REQUEST, "the body was cut")
        except OSError as error:
            logger.exception("%s %s failed", request.method, request.url.path)
            return answer_problem(*status_of(error))

    async def _list(self, request: Request) -> Response:
        site = self._home.choose_site(request.query_params.get("site") or None)
        state = await self._work(self._home.library.site(site).read)
        releases = [
            {
                "id": one.id,
                "published": one.published,
                "message": one.message,
                "active": one.id == state.active,
                "aliases": _aliases(one.id, state),
            }
            for one in reversed(state.releases)
        ]
        options = self._home.options_of(site)
        told = self._tell_state(site, state)
        return answer_json({**told, "releases": releases, "options": options})

    async def _submit(self, request: Request) -> Response:
        site = self._home.choose_site(request.query_params.get("site") or None)
        with self._submissions.taken():
            content = await self._read_body(request, LIMIT_BYTES)
        async with self._lease.held():
            task = self._background.start(Job(self._home.library, site, self._home.options_of(site), content))
            with anyio.move_on_after(SOON_S):
                await wait_done(task.done)
            if not task.done.done() and NDJSON in request.headers.get("accept", ""):
                return StreamingResponse(self._stream(task, site), headers=NO_STORE, media_type=NDJSON)
            status, told = await self._describe(await wait_future(task.done), site)
        self._let_go(status)
        return answer_json(told, status)

    async def _stream(self, task: Task, site: str) -> AsyncIterator[bytes]:
        """Yield how far a publish is, a line a second, so that no proxy thinks it dead, and the outcome as the last line."""
        async with self._lease.held():
            while not task.done.done():
                yield _line({"progress": task.work})
                with anyio.move_on_after(TICK_S):
                    await wait_done(task.done)
            try:
                outcome = await wait_future(task.done)
            except AssetServerError as error:
                outcome = Failed(error.status, str(error), error.retryable)
            status, told = await self._describe(outcome, site)
        self._let_go(status)
        yield _line({"status": status, "answer": told})

    def _let_go(self, status: int) -> None:
        """Let ``gc`` run at once where a release is complete: no blob of it will come any more."""
        if status < HTTPStatus.BAD_REQUEST:
            self._lease.let_go()

    async def _describe(self, outcome: Outcome, site: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the content of the answer to a submission."""
        if outcome == Missing(()):  # of a dry run
            return HTTPStatus.OK, {"missing": []}
        if isinstance(outcome, Missing):
            detail = f"{len(outcome.digests):,} blobs are missing: PUT /-/api/blobs/DIGEST, then ask again"
            return HTTPStatus.CONFLICT, describe_problem(
                HTTPStatus.CONFLICT, detail, type=BLOBS_MISSING, missing=outcome.digests
            )
        if isinstance(outcome, Failed):
            return outcome.status, describe_problem(outcome.status, outcome.detail)
        state = await self._work(self._home.library.site(site).read)
        told = msgspec.to_builtins(outcome)
        told |= self._tell_state(site, state)
        kept = next((one for one in state.releases if one.id == outcome.id), None)
        told["message"] = kept.message if kept else ""
        told["aliases"] = _aliases(outcome.id, state)
        told["previews"] = [self._home.preview_url(site, ReleaseId(outcome.id), alias) for alias in ("", *told["aliases"])]
        return HTTPStatus.OK if outcome.existed else HTTPStatus.CREATED, told

    def _tell_state(self, site: str, state: SiteState) -> dict[str, Any]:
        return {
            "site": site,
            "active": state.active,
            "generation": state.generation,
            "locked": state.lock,
            "url": self._home.live_url(site),
        }

    async def _receive(self, request: Request) -> Response:
        digest = _parse_digest(request.path_params["digest"])
        coding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
        size = _parse_size(request, coding)
        check_size(size, self._home.blob_limit_bytes)
        bound = Bound(coding, size, self._home.blob_limit_bytes)
        bound.check(body_of(request).length)
        chunks = bound.hold(body_of(request).chunks(self._pace))
        limit = self._with_dictionary if coding == CODINGS[-1] else self._arrivals
        with limit.taken():
            async with self._lease.held():
                arrival = await self._work(partial(self._expect, digest, coding, size))
                if arrival is not None:
                    is_new = await receive_blob(arrival, chunks, self._pool)
                else:
                    async for _ in chunks:  # a client that is cut off would send it again
                        pass
                    is_new = False
        return answer_json({"sha256": digest}, HTTPStatus.CREATED if is_new else HTTPStatus.OK)

    def _expect(self, digest: Digest, coding: str, size: int | None) -> Arrival | None:
        """Return what takes a blob, or None if it is there, durably whoever stored it. Raises ``NoSpaceError``."""
        blobs = self._home.library.blobs
        if blobs.size_of(digest) is not None:
            blobs.confirm([digest])
            return None
        self._home.check_room(size or 0)
        limit_bytes, keeps_secrets = self._home.blob_limit_bytes, self._home.keeps_secrets
        return Arrival(blobs, digest, coding, size, limit_bytes, keeps_secrets=keeps_secrets)

    async def _activate(self, request: Request) -> Response:
        wanted = _decode(await self._read_body(request, _LIMIT_JSON_BYTES), Activation)
        site = self._home.library.site(self._home.choose_site(wanted.site or None))
        if_active = None if wanted.if_active is msgspec.UNSET else wanted.if_active or ""

        def activate() -> tuple[SiteState, SiteState]:
            release = site.read().resolve(wanted.id)
            home = self._home
            return activate_release(
                home.library, site, release, if_active=if_active, check=home.check, owes_purge=home.owes_purge
            )

        try:
            before, after = await self._work(activate)
        except ConflictError as error:
            state = await self._work(site.read)
            return answer_error(error, active=state.active, generation=state.generation)
        return answer_json({**self._tell_state(site.name, after), "before": before.active})

    async def _manifest(self, request: Request) -> Response:
        release = ReleaseId(_parse_digest(request.path_params["id"]))
        manifest = await self._work(partial(self._home.library.load_manifest, release))
        return Response(manifest.encode(), 200, {"Cache-Control": "no-store"}, "application/json")

    async def _sign(self, request: Request) -> Response:
        release = ReleaseId(_parse_digest(request.path_params["id"]))
        content = await self._read_body(request, _LIMIT_SIGNATURE_BYTES)
        await self._work(partial(self._home.keep_signature, release, content))
        return answer_json({"id": release})

    async def _read_body(self, request: Request, limit_bytes: int) -> bytes:
        """Return the body. Raises ``TooLargeError`` as soon as it is longer than ``limit_bytes``, or says that it will be."""
        body = body_of(request)
        refusal = TooLargeError(f"the body is longer than {limit_bytes:,} bytes")
        if body.length is not None and body.length > limit_bytes:
            raise refusal
        content = bytearray()
        async for chunk in body.chunks(self._pace):
            content += chunk
            if len(content) > limit_bytes:
                raise refusal
        return bytes(content)

    async def _work(self, function: Callable[[], T]) -> T:
        done: Future[T] = self._pool.submit(function)
        return await wait_future(done)


class _Resource:
    """What is at one URL: an ASGI application that gives ``handlers``, by method, to ``guarded``."""

    def __init__(self, guarded: Callable[[Handler, Request], Awaitable[Response]], handlers: Mapping[str, Handler]) -> None:
        self._guarded = guarded
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(sorted(self._handlers))
            answer = answer_problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{allowed} it is here", {"Allow": allowed})
        else:
            answer = await self._guarded(handler, Request(scope, receive))
        await answer(scope, receive, send)


class _Limit:
    """At most ``count`` at once."""

    def __init__(self, count: int) -> None:
        self._left = count

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Count as one. Raises ``BusyError`` if there are as many as may be."""
        if not self._left:
            raise BusyError("too much arrives at once; try again in a moment")
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


def _decode(content: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadRequestError(f"the body is not what is asked for here: {explain(error, shape)}") from error


def _parse_digest(text: str) -> Digest:
    if _DIGEST.fullmatch(text) is None:
        raise BadRequestError(f"{text[:80]!r} is not a SHA-256: 64 lower-case hexadecimal digits")
    return Digest(text)


def _parse_size(request: Request, coding: str) -> int | None:
    """Return how many bytes the file will have: as the query says, or the body's length, where nothing is to be decoded."""
    text = request.query_params.get("size")
    if text is None and coding == "identity":
        text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LIMIT_DIGITS and int(text) <= LIMIT_SIZE):
        raise BadRequestError(f"{text[:80]!r} is not a size in bytes")
    return int(text)


def _aliases(release: str, state: SiteState) -> list[str]:
    return sorted(alias for alias, meant in state.aliases.items() if meant == release)


def _line(content: object) -> bytes:
    return msgspec.json.encode(content) + b"\n"
