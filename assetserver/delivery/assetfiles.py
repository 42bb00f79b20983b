"""``AssetFiles``: Starlette's ``StaticFiles`` with exact HTTP. Mount it in any Starlette or FastAPI app.

Decides which asset a URL gets: canonical spelling, index pages, clean URLs, fallbacks, listings, the site's own 404 page. What
the answer to an asset is, ``semantics.respond`` decides; what lies on disk, ``LiveFolder`` knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from assetserver.errors import OverloadedError
from assetserver.semantics.caching import ERROR, PAGE, REDIRECT, CacheTable
from assetserver.semantics.negotiation import accepts_compression, parse_accept_encoding
from assetserver.semantics.representation import Asset, Field, Representation
from assetserver.semantics.respond import AssetRequest, AssetResponses, NoBody, ResponsePlan, respond, respond_missing
from assetserver.semantics.targets import AssetPath, RefusedTarget, format_target, is_spelled, parse_target
from assetserver.storage.pools import wait_done, wait_future

from .body import AssetResponse
from .claims import OFFER, TRUST_S, Claim
from .files import read_whole
from .hotpaths import AssetFolder, HotPaths
from .listing import Listings
from .livefolder import FRESH_S, Entry, LiveFolder
from .misses import asks_for_a_file, policy_of_miss
from .probe import Kind, Roots
from .requests import encoded_prefix, first_field, query_suffix, raw_path, read_request, read_target, text_fields, url_of
from .resources import Resources, shared_resources

ALLOW = "GET, HEAD, OPTIONS"

PUBLIC_FIELDS: Mapping[str, str] = {
    "Access-Control-Allow-Origin": "*",
    "Timing-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
"""What public assets want: fonts and modules need CORS, measurements need timing, pages under COEP need CORP."""

_HIT = (b"cache-status", b"assetserver; hit")
_STORED = (b"cache-status", b"assetserver; fwd=miss; stored")
_BYPASS = (b"cache-status", b"assetserver; fwd=bypass")

_ATTEMPTS = 3
_NOT_CALLED = ("file_response", "lookup_path", "is_not_modified", "check_config")


class AssetFiles(StaticFiles):
    """Serves the files of folders and packages, as ``StaticFiles`` does, with exact HTTP.

    Args:
        directory: The folder to serve. Changes in it are seen within a second.
        packages: Package directories to serve as well, as in ``StaticFiles``; the first match wins.
        html: Serve ``index.html`` for folders, and the site's ``404.html`` for what is missing.
        check_dir: Raise ``RuntimeError`` now if ``directory`` is not there; else it is a 404 until it is.
        follow_symlink: Serve what links that leave the folder point to. Links inside it always work.
        cache: The cache policy by path; see ``CacheTable``.
        fields: Response fields for every answer; the default suits public assets.
        fallback: File to serve where nothing is found and the path has no known extension: ``"index.html"`` for single-page
            apps. A missing file (``.js``, ``.css``, a fingerprinted name) stays a 404.
        clean_urls: With ``html``: ``/about`` serves ``about.html``, whose own URL redirects there.
        listing: List folders without an index page, as HTML, or as JSON where ``Accept`` asks for it.
        dotfiles: Serve names that begin with a dot. ``.well-known`` at the root is always served.
        patience_s: How long a first request waits for its compressed form before it gets the file as it is, in seconds.
        strict: Answer 406 where the client refuses every coding, else send the file as it is.
        cache_status: Tell in ``Cache-Status`` (RFC 9211) whether the content came from memory.
        resources: Threads, memory and cache folder to use; by default one set for the whole process.

    Raises:
        RuntimeError: ``directory`` is not there.
        TypeError: A subclass overrides a method of ``StaticFiles`` that this class does not call.
    """

    redirect_cache = REDIRECT
    trust_s = TRUST_S

    def __init__(  # noqa: PLR0913 - Starlette's keywords and ours
        self,
        *,
        directory: PathLike | None = None,
        packages: list[str | tuple[str, str]] | None = None,
        html: bool = False,
        check_dir: bool = True,
        follow_symlink: bool = False,
        cache: CacheTable | None = None,
        fields: Mapping[str, str] = PUBLIC_FIELDS,
        fallback: str | None = None,
        clean_urls: bool = False,
        listing: bool = False,
        dotfiles: bool = False,
        patience_s: float = 0.25,
        strict: bool = False,
        cache_status: bool = True,
        resources: Resources | None = None,
    ) -> None:
        super().__init__(directory=directory, packages=packages, html=html, check_dir=check_dir, follow_symlink=follow_symlink)
        self.cache = cache or CacheTable()
        self.fallback = AssetPath(fallback) if fallback else None
        self.clean_urls = clean_urls
        self.listing = listing
        self.patience_s = patience_s
        self.strict = strict
        self.cache_status = cache_status
        self._own_fields = tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items())
        self._resources = resources or shared_resources()
        self.roots = Roots(tuple(os.path.abspath(folder) for folder in self.all_directories), follow_symlink, dotfiles)
        self.folder = self._open_folder()
        self._listings = Listings(self.folder, self._resources.listings)
        self._hot = self._open_hot_paths((_HIT,) if cache_status else ())
        self._may_be_hot = (type(self).get_response, type(self).get_path) == (AssetFiles.get_response, AssetFiles.get_path)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _NOT_CALLED:
            if getattr(cls, name) is not getattr(StaticFiles, name):
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: override get_response() and change response.headers"
                )

    @property
    def _fields(self) -> tuple[Field, ...]:
        """The fields of every answer."""
        return self._own_fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        hot = None
        try:
            if (hot := self._hot.answer(scope)) is None:
                response = await self._respond(scope)
        except OverloadedError:
            response = self._refuse(scope, _overloaded())
        except HTTPException as error:
            response = self._refuse(scope, error)
        if hot is None:
            await response(scope, receive, send)
            return
        start, content = hot
        await send(start)
        await send({"type": "http.response.body", "body": content})

    def _refuse(self, scope: Scope, error: HTTPException) -> Response:
        """Return the page of an error, or raise it where the app around renders its own."""
        if "starlette.exception_handlers" in scope:
            raise error
        return Response(error.detail + "\n", error.status_code, error.headers, "text/plain")

    def get_path(self, scope: Scope) -> str:
        """Return the path below the mount: decoded, without leading "/", ending in "/" for a folder's URL."""
        target = read_target(scope)
        return "" if isinstance(target, RefusedTarget) else target.path

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the answer for ``path`` (decoded, relative; need not be the one of ``scope``). Override it to change headers.

        Raises ``HTTPException``: 404, 405, or 503 when the process is out of descriptors.
        """
        if scope["method"] == "OPTIONS":
            return self._options(scope)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": ALLOW, "Cache-Control": ERROR})
        try:
            return await self._answer(path, scope)
        except OverloadedError as error:
            raise _overloaded() from error

    async def _answer(self, path: str, scope: Scope) -> Response:
        target = parse_target(format_target("" if path == "." else path))
        found = None if isinstance(target, RefusedTarget) else await self._find(target.path, scope)
        if isinstance(found, Entry):
            found = await self._serve(found, scope)
        return found or await self._missing(path, scope)

    async def _respond(self, scope: Scope) -> Response:
        target = read_target(scope)
        if isinstance(target, RefusedTarget):
            if scope["method"] in ("GET", "HEAD"):
                return await self._missing("", scope)
            return await self.get_response("", scope)
        if not is_spelled(raw_path(scope), target.canonical) and scope["method"] in ("GET", "HEAD"):
            return self._redirect(target.canonical, scope)
        return await self.get_response(self.get_path(scope), scope)

    async def find_source(self, path: AssetPath, scope: Scope) -> tuple[Entry, Asset] | None:
        """Return the file that a GET of ``path`` is answered with, and the asset that it is there; None for all else.

        ``scope`` is that of such a request. Raises ``HTTPException`` as the answer to it would.
        """
        entry = await self._find(path, scope)
        responses = self._responses(entry, scope) if isinstance(entry, Entry) else None
        return (entry, responses.asset) if isinstance(entry, Entry) and responses else None

    async def _find(self, path: AssetPath, scope: Scope) -> Entry | Response | None:
        """Return the file that ``path`` names, or a redirect or listing, or the fallback, or None."""
        found = await self._locate(path, scope)
        return await self._fall_back(path) if found is None else found

    async def _locate(self, path: AssetPath, scope: Scope) -> Entry | Response | None:
        names_folder = path == "" or path.endswith("/")
        return await (self._find_folder(path, scope) if names_folder else self._find_file(path, scope))

    async def _fall_back(self, path: AssetPath) -> Entry | None:
        return await self._file(self.fallback) if self.fallback and not asks_for_a_file(path) else None

    async def _find_folder(self, path: AssetPath, scope: Scope) -> Entry | Response | None:
        if self.html and (index := await self._file(AssetPath(path + "index.html"))):
            return index
        bare = AssetPath(path.rstrip("/"))
        if self.listing and (await self.folder.lookup(bare)).probe.kind is Kind.FOLDER:
            return await self._list(path, scope)
        if self.html and self.clean_urls and bare and await self._file(AssetPath(bare + ".html")):
            return self._redirect(self._url(bare, scope), scope)
        return None

    async def _find_file(self, path: AssetPath, scope: Scope) -> Entry | Response | None:
        entry = await self.folder.lookup(path)
        if entry.probe.kind is Kind.FILE:
            if self.html and self.clean_urls and path.endswith(".html"):
                return self._redirect(self._url(AssetPath(url_of(path, clean_urls=True)), scope), scope)
            return entry
        if entry.probe.kind is Kind.FOLDER:
            index = AssetPath(path + "/index.html")
            if self.listing or (self.html and await self._file(index)):
                return self._redirect(self._url(AssetPath(path + "/"), scope), scope)
        if self.html and self.clean_urls:
            return await self._file(AssetPath(path + ".html"))
        return None

    def _open_hot_paths(self, mark: tuple[Field, ...]) -> HotPaths:
        return HotPaths(self.folder, self._resources.memory, mark, self._claim_entry)

    def _open_folder(self) -> AssetFolder:
        return LiveFolder(
            self.roots,
            self._resources.encodings,
            self._make_asset,
            files=self._resources.files,
            compressors=self._resources.compressors,
        )

    async def _file(self, path: AssetPath) -> Entry | None:
        entry = await self.folder.lookup(path)
        return entry if entry.probe.kind is Kind.FILE else None

    async def _serve(self, entry: Entry | None, scope: Scope) -> Response | None:
        """Return the answer to a file, reading it anew if it changes meanwhile; None if it is gone."""
        request = read_request(scope)
        for _ in range(_ATTEMPTS):
            if entry is None or entry.responses is None:
                return None
            entry = await self._with_codings(entry, request, scope)
            responses = self._responses(entry, scope)
            assert responses is not None  # noqa: S101 - a better entry of a file is a file's
            plan = respond(responses, request, now=int(time.time()), strict=self.strict, delta=entry.delta)
            if response := await self._open(entry, plan):
                self._remember(scope, entry, responses)
                return response
            self.folder.distrust(entry.path)
            entry = await self._file(entry.path)
        raise OverloadedError("a file changes faster than it can be read")

    def _responses(self, entry: Entry, scope: Scope, *, is_error: bool = False) -> AssetResponses | None:
        """Return the answers of ``entry`` at the URL of ``scope``; ``is_error``: as the page of an error."""
        del scope, is_error
        return entry.responses

    async def _with_codings(self, entry: Entry, request: AssetRequest, scope: Scope) -> Entry:
        """Wait a moment for the compressed forms: what is sent now, a CDN may keep for a year."""
        del scope
        if (
            entry.work is None
            or entry.digest is None
            or not accepts_compression(parse_accept_encoding(request.accept_encoding))
        ):
            return entry
        if not entry.work.done():
            with anyio.move_on_after(self.patience_s):
                await wait_done(entry.work)  # how it ended, the entry shows
        better = await self.folder.lookup(entry.path)
        return entry if better.responses is None else better

    async def _open(self, entry: Entry, plan: ResponsePlan) -> AssetResponse | None:
        """Return the response with its bytes at hand, or None if they are no longer what the plan says."""
        if isinstance(plan.body, NoBody):
            return self._response(plan, _HIT)
        source = entry.sources[plan.representation.coding]
        memory = self._resources.memory
        digest = plan.representation.digest
        key = digest or source
        if (content := memory.get(key)) is not None:
            return self._response(plan, _HIT, content)
        if plan.representation.length <= memory.file_limit_bytes:
            content = await wait_future(self._resources.files.submit(read_whole, source.path, source.signature, digest))
            if content is None:
                return None
            memory.put(key, content)
            return self._response(plan, _STORED, content)
        files = self._resources.open_files
        file = files.get(source.path, source.signature)
        if file is None:
            file = await wait_future(self._resources.files.submit(files.open, source.path, source.signature))
        if file is None:
            return None
        return self._response(plan, _BYPASS, file=file, find=files.finder(source.path, source.signature))

    def _response(self, plan: ResponsePlan, status: Field, content: bytes | None = None, **file: Any) -> AssetResponse:
        response = AssetResponse(plan, content, **file)
        if self.cache_status and plan.status < 400:  # noqa: PLR2004 - a status class
            response.raw_headers.append(status)
        return response

    async def _missing(self, path: str, scope: Scope) -> Response:
        """Return the site's own 404 page, or raise the 404 for the app around."""
        policy = policy_of_miss(path)
        self._offer_miss(path, scope)
        if self.html and (page := await self._error_page(AssetPath("404.html"), 404, policy, scope)):
            return page
        raise HTTPException(404, headers={"Cache-Control": policy, **text_fields(self._fields)})

    async def _error_page(self, path: AssetPath, status: int, policy: str, scope: Scope) -> Response | None:
        """Return the file at ``path`` as the page of an error, or None if it is not there."""
        entry = await self._file(path)
        if entry is None or (responses := self._responses(entry, scope, is_error=True)) is None:
            return None
        return await self._open(entry, respond_missing(responses, read_request(scope), policy, status))

    async def _list(self, path: AssetPath, scope: Scope) -> Response:
        as_json = "application/json" in (first_field(scope, b"accept") or "")
        content = await self._listings.render(path, as_json=as_json)
        headers = {"Cache-Control": PAGE, "Vary": "Accept", **text_fields(self._fields)}
        return Response(content, media_type="application/json" if as_json else "text/html", headers=headers)

    def _options(self, scope: Scope) -> Response:
        headers = {"Allow": ALLOW, **text_fields(self._fields)}
        if first_field(scope, b"access-control-request-method") and "access-control-allow-origin" in headers:
            headers["Access-Control-Allow-Methods"] = ALLOW
            headers["Access-Control-Allow-Headers"] = "*"
            headers["Access-Control-Max-Age"] = "86400"
        return Response(None, 204, headers)

    def _redirect(self, location: str, scope: Scope) -> Response:
        return self._redirect_to(308, location + query_suffix(scope), self.redirect_cache)

    def _redirect_to(self, status: int, location: str, policy: str) -> Response:
        return Response(None, status, {"Location": location, "Cache-Control": policy, **text_fields(self._fields)})

    def _url(self, path: AssetPath, scope: Scope) -> str:
        return encoded_prefix(scope) + format_target(path)

    def _make_asset(
        self, path: AssetPath, representations: tuple[Representation, ...], negotiable: bool, proved: bool
    ) -> Asset:
        page = representations[0].media_type.startswith("text/html")
        policy = self.cache.select_policy(path, fingerprinted=proved, page=page)
        return Asset(representations, negotiable, self.cache.fields_of(policy), self._fields)

    def _remember(self, scope: Scope, entry: Entry, responses: AssetResponses) -> None:
        """Let the next requests for this URL take the short way, as long as all that was looked at for it is fresh.

        Not while compressed forms are being made: those requests wait for them.
        """
        if self._may_be_hot and (entry.work is None or entry.work.done()):
            looks = [entry, *self._looks(self.get_path(scope))]
            self._hot.remember(scope, entry, responses, min(one.checked_s for one in looks) + FRESH_S)

    def _looks(self, asked: str) -> list[Entry]:
        """Return what is known of all paths that are looked at for the one that is ``asked`` for."""
        bare = asked.rstrip("/")
        names = {asked, bare, asked + "index.html", bare + ".html"}
        return [one for name in names if (one := self.folder.get(AssetPath(name)))]

    def _offer_miss(self, path: str, scope: Scope) -> None:
        """Let a miss be repeated, as long as all that was looked at for it is fresh."""
        offer, entry = scope.get(OFFER), self.folder.get(AssetPath(path))
        if offer is not None and entry is not None and self._may_be_hot and not self.listing:
            looks = [*self._looks(path), self.folder.get(AssetPath("404.html")) or entry]
            offer(self._claim_entry(entry, min(one.checked_s for one in looks) + FRESH_S))

    def _claim_entry(self, entry: Entry, deadline_s: float) -> Claim:
        return Claim(self.folder.get, entry.path, entry, self.folder.clock_s, deadline_s, self.trust_s)


def _overloaded() -> HTTPException:
    return HTTPException(503, headers={"Retry-After": "1", "Cache-Control": ERROR})
