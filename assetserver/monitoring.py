"""What people and their tools look at: health, readiness and metrics of one process, joined; who may see them, and where.

Metrics tell how much goes on, and readiness what paths and databases are called: on the listener that visitors use, the first
are for who has a token, and the second says which check failed, and not why. That a request comes from this machine proves
nothing: a proxy does, too, whoever asks it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import count
from typing import Any

import msgspec
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route
from starlette.types import Scope

from .counters import counters_path
from .data import Records, data_folder, served_sites
from .delivery.assetfiles import AssetFiles
from .delivery.gate import Gate
from .delivery.hotcache import HotCache
from .delivery.mediafiles import MediaFiles
from .delivery.previews import Previews
from .delivery.releasefiles import ReleaseFiles
from .errors import AssetServerError
from .jobs.job import STATES
from .metrics.apart import read_board_file
from .metrics.board import Block, Board, Reading
from .metrics.connections import CONNECTIONS, ConnectionCounts
from .metrics.exposition import CONTENT_TYPE, Sample, render
from .metrics.families import family
from .metrics.popular import Day, Kept, Popular, read_days, remove_old, write
from .metrics.pulse import Pulse
from .metrics.requests import QUIET, RequestCounts
from .metrics.work import MasterCounts
from .observe import LogWriter
from .readiness import Readiness, checks_of, free_bytes
from .semantics.caching import ERROR
from .semantics.fingerprints import looks_fingerprinted
from .settings import Settings
from .storage.pools import FilePool, wait_future
from .uploads.authorising import Authority, Guarded, authorise
from .uploads.resource import Resource

READINESS = "assetserver.readiness"
"""Under this name the lifespan state of an application holds its ``Readiness``: who stops it says so there."""

_CONNECTIONS = family("http_connections").slot()
_UNREADY = 503
_WRITE_EVERY = 10
"""In how many seconds what is asked for most is written down once."""

_PREFIXES = (
    ("/-/api", "api"),
    ("/-/console", "console"),
    ("/-/releases", "preview"),
    ("/-/", "admin"),
    ("/uploads", "upload"),
    ("/media", "media"),
    ("/image", "picture"),
    ("/iiif", "picture"),
)
_DROPPED = family("log_lines_dropped_total").slot()
_KINDS: tuple[tuple[type, str], ...] = (
    (MediaFiles, "media"),
    (Previews, "preview"),
    (ReleaseFiles, "site"),
    (AssetFiles, "folder"),
)


class _Lines:
    """Counts what a log lost."""

    def __init__(self, block: Block, log: LogWriter | None) -> None:
        self._block, self._log = block, log
        self._counted = 0

    def count(self) -> None:
        """Count what was lost since the last time."""
        if self._log is not None:
            self._block.slots[_DROPPED] += self._log.dropped - self._counted
            self._counted = self._log.dropped


class Monitoring:
    """Counters and checks of one process; ``records`` if it takes uploads or releases, ``authority`` who knows tokens.

    ``log`` is where requests are logged, if they are.
    """

    def __init__(
        self,
        settings: Settings,
        board: Board,
        records: Records | None,
        authority: Authority | None,
        log: LogWriter | None = None,
    ) -> None:
        self._settings = settings
        self._board = board
        self._records = records
        self._authority = authority
        self._log = log
        if board.descriptor < 0:  # there is no master who would say it
            MasterCounts(board.claim())
        self._handlers: dict[int, str] = {}
        self._pool = FilePool("assetserver-metrics", 1)
        self._readiness = Readiness(checks_of(settings, records, log))
        self.block = self._board.claim()
        self._folder = report_folder(settings)
        self._popular = Popular(self.block, self._folder)
        self.counts = RequestCounts(self.block, self._handlers, is_hashed=looks_fingerprinted, interest=self._popular)

    def name_handlers(self, routes: Iterable[BaseRoute]) -> None:
        """Learn under which names requests to ``routes`` are counted."""
        for path, endpoint in _endpoints(routes):
            self._handlers[id(endpoint)] = _name(path, endpoint)

    def routes(self, *, is_apart: bool) -> list[BaseRoute]:
        """Return the routes of health, readiness and metrics; ``is_apart``: of a listener that visitors do not reach."""
        shown = [
            self._route(path, show, is_apart=is_apart)
            for path, show in (("/-/metrics", self._show_metrics), ("/-/popular", self._show_popular))
        ]
        ready = self._tell_all if is_apart else self._tell_names
        return [
            Route("/-/healthy", answer_healthy, methods=["GET"]),
            Route("/-/ready", ready, methods=["GET"]),
            *shown,
        ]

    def _route(self, path: str, show: Callable[[Request], Any], *, is_apart: bool) -> Route:
        """Return the route of what is not for everybody."""
        if is_apart:
            return Route(path, show, methods=["GET"])
        if self._authority is None:
            return Route(path, _refuse_metrics, methods=["GET"])
        return Route(path, Resource({"GET": _with_token(show)}), middleware=[Middleware(Guarded, self._authority, ())])

    def state(self) -> dict[str, Any]:
        """Return what the protocol and the server are to know."""
        return {READINESS: self._readiness, CONNECTIONS: ConnectionCounts(self.block)}

    def tells_timing(self) -> Callable[[Scope], bool] | None:
        """Return who is told how long the server took, None for nobody."""
        return (lambda _: True) if self._settings.headers.server_timing == "on" else None

    def pulse(self, hot: HotCache, gate: Gate) -> Pulse:
        """Return the timer of one process that serves: what was repeated is counted each second."""
        seconds, lines = count(1), _Lines(self.block, self._log)

        def each_second() -> None:
            hot.count_repeats()
            lines.count()
            self.block.slots[_CONNECTIONS] = gate.inside
            if next(seconds) % _WRITE_EVERY == 0 and (taken := self._popular.take()) is not None:
                self._pool.submit(_write, taken, self._folder)

        return Pulse(self.block, each_second)

    def close(self) -> None:
        """Write what was counted last, and end the threads."""
        self._readiness.close()
        self._pool.close()
        _write(self._popular.take(), self._folder)

    async def _show_metrics(self, request: Request) -> Response:
        request.scope[QUIET] = True
        samples, apart = await wait_future(self._pool.submit(self._look))
        text = render(self._board, _version(), samples, apart)
        return Response(text, headers={"Cache-Control": ERROR, "Content-Type": CONTENT_TYPE})

    async def _show_popular(self, request: Request) -> Response:
        """Answer with what was asked for most today, of all processes."""
        request.scope[QUIET] = True
        taken, own = self._popular.take(), self._popular.today()
        today = await wait_future(self._pool.submit(self._merge, taken, own))
        content = msgspec.json.encode({"assets": _rows(today.assets), "missing": _rows(today.missing)})
        return Response(content, headers={"Cache-Control": ERROR}, media_type="application/json")

    def _merge(self, taken: tuple[str, bytes] | None, own: Day) -> Day:
        """Return the day of all processes, where they write it down; else that of this one. Blocks."""
        _write(taken, self._folder)
        return read_days(self._folder, 1, time.time()) if os.path.isdir(self._folder) else own

    def _look(self) -> tuple[list[Sample], list[Reading]]:
        """Return what is looked at rather than counted, and what workers counted that run apart; blocks."""
        return list(self._samples()), read_board_file(counters_path(self._settings)) if self._folder else []

    def _samples(self) -> Iterator[Sample]:
        free = free_bytes(data_folder(self._settings))
        if free is not None:
            yield Sample("assetserver_disk_free_bytes", "gauge", "Free space under the data folder.", {}, free)
        records = self._records
        if records is None or not records.are_there():
            return
        try:
            jobs = records.jobs()
            counts, oldest_s = jobs.count(), jobs.oldest_s()
        except AssetServerError:  # readiness says so
            return
        for state in STATES:
            yield Sample("assetserver_jobs", "gauge", "Background jobs.", {"state": state}, counts.get(state, 0))
        yield Sample(
            "assetserver_jobs_oldest_seconds", "gauge", "How long the oldest job that is due has waited.", {}, oldest_s
        )

    async def _tell_all(self, request: Request) -> Response:
        """Answer with what is wrong."""
        found = await self._find(request)
        return _answer(found, {name: problem or "ok" for name, problem in found.items()})

    async def _tell_names(self, request: Request) -> Response:
        """Answer with what fails, and not why."""
        found = await self._find(request)
        return _answer(found, {name: "failed" if problem else "ok" for name, problem in found.items()})

    async def _find(self, request: Request) -> dict[str, str]:
        request.scope[QUIET] = True
        return await self._readiness.find()


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version  # noqa: PLC0415 - a start need not wait for it

    return version("assetserver")


def report_folder(settings: Settings) -> str:
    """Return where it is kept what was asked for, "" where only folders are served: their server keeps nothing."""
    return os.path.join(data_folder(settings), "reports") if served_sites(settings) or settings.data.path else ""


def _write(taken: tuple[str, bytes] | None, folder: str) -> None:
    if taken is not None:
        write(*taken)
        remove_old(folder, time.time())


def _rows(kept: Kept) -> list[dict[str, Any]]:
    return [{"path": one.name, "requests": one.times, "error": one.error} for one in kept.rows]


async def answer_healthy(request: Request) -> Response:
    """Say that the process lives: who is answered knows that its loop turns."""
    request.scope[QUIET] = True
    return PlainTextResponse("ok\n", headers={"Cache-Control": ERROR})


def _answer(found: dict[str, str], checks: dict[str, Any]) -> Response:
    is_ready = not any(found.values())
    content = msgspec.json.encode({"ready": is_ready, "checks": checks}) + b"\n"
    return Response(content, 200 if is_ready else _UNREADY, {"Cache-Control": ERROR}, "application/json")


def _with_token(show: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        request.scope[QUIET] = True
        await authorise(request, "metrics")
        shown: Response = await show(request)
        return shown

    return answer


async def _refuse_metrics(request: Request) -> Response:
    request.scope[QUIET] = True
    text = 'metrics are shown apart from what visitors see: set [admin] listen, such as "127.0.0.1:9000"\n'
    return PlainTextResponse(text, 403, {"Cache-Control": ERROR})


def _endpoints(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, object]]:
    for route in routes:
        if isinstance(route, Host | Mount) and route.routes:
            yield from _endpoints(route.routes)
        elif isinstance(route, Route):
            yield route.path, route.endpoint
        elif isinstance(route, Host | Mount):
            yield getattr(route, "path", ""), route.app


def _name(path: str, endpoint: object) -> str:
    for kind, name in _KINDS:
        if isinstance(endpoint, kind):
            return "console" if path.startswith("/-/console") else name
    return next((name for prefix, name in _PREFIXES if path.startswith(prefix)), "site")
