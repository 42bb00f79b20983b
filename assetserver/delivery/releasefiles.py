"""``ReleaseFiles``: what a site's releases serve, with the HTTP of ``AssetFiles`` and the release's own rules.

Order (Netlify's): rules that force, then files, then the other rules, then the fallback, then the site's 404 page. The header
rules of the URL that was asked for apply to files, rewritten or not, and to error pages; not to redirects.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from assetserver.errors import OverloadedError
from assetserver.metrics.requests import SPARED
from assetserver.releases.headersfile import NO_CHANGES, HeaderChanges, HeaderTable
from assetserver.releases.manifest import SHORT
from assetserver.releases.redirectsfile import Redirection, RedirectKind, RedirectTable
from assetserver.releases.siterules import SiteRules
from assetserver.semantics.caching import IMMUTABLE, PAGE, CachePolicy
from assetserver.semantics.fingerprints import looks_fingerprinted
from assetserver.semantics.representation import Asset, ContentCoding, Field, Representation
from assetserver.semantics.respond import AssetRequest, AssetResponses, ResponsePlan, may_have_delta
from assetserver.semantics.targets import AssetPath, RefusedTarget, parse_target

from .assetfiles import AssetFiles
from .body import AssetResponse
from .claims import OFFER, Claim
from .deltas import DICTIONARY_QUERY, FoundDelta, Lack, SiteDeltas
from .errorpages import NOTHING_YET
from .hotpaths import HotPaths
from .livefolder import FRESH_S, Entry
from .misses import asks_for_a_file, policy_of_miss
from .pins import Pins, keep_private
from .releasefolder import OpenIndex, ReleaseFolder
from .requests import encoded_prefix, read_target

logger = logging.getLogger(__name__)

LIMIT_DRESSED = 4096
TELL_EVERY_S = 60.0
_ATTEMPTS = 3
_PERMANENT = (301, 308)
_MISSING = 404
_PLAIN_TARGET = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}){1,16}")
_ERRORS = 400
_OF_THE_PAGE = frozenset({b"content-type"})
RELEASE = b"x-release"
PERSONAL = "private, no-cache"


class _As(Enum):
    """What a file is served as."""

    FILE = "file"
    ERROR = "error"
    DICTIONARY = "dictionary"


class ReleaseFiles(AssetFiles):
    """Serves what ``open_index`` gives now; blobs are files where ``path_of`` says.

    ``links``: send ``Link`` fields that announce what a page will need. ``deltas``: of its files, for who has dictionaries.
    ``pins``: requests that name another release. ``tells_release``: every answer says in ``X-Release`` of which one it is.
    Other keywords are those of ``AssetFiles``, ``directory`` and ``packages`` aside; ``html`` is on: a release is a site.
    """

    folder: ReleaseFolder
    own_fields: frozenset[bytes] = frozenset()
    """Fields that the rules of a release cannot change."""

    neighbours: frozenset[str] | None = None
    """The first segments of paths that others answer, if this serves all the rest of its hosts; None if that is not known."""

    def __init__(
        self,
        open_index: OpenIndex,
        path_of: Callable[[str], str],
        *,
        links: bool = True,
        deltas: SiteDeltas | None = None,
        pins: Pins | None = None,
        tells_release: bool = False,
        **keywords: Any,
    ) -> None:
        self._open_index = open_index
        self._path_of = path_of
        self._links = links
        self._deltas = deltas
        self._pins = pins
        self._tells_release = tells_release
        self._tables: tuple[SiteRules, HeaderTable, RedirectTable] | None = None
        self._dressed: dict[tuple[AssetPath, HeaderChanges, _As], tuple[AssetResponses, AssetResponses]] = {}
        self.missed_fingerprints = 0
        self._tell_at_s = float("-inf")
        super().__init__(html=True, **keywords)

    def _open_folder(self) -> ReleaseFolder:
        return ReleaseFolder(self._open_index, self._path_of, self._make_asset, self._resources.files, links=self._links)

    def _rules(self) -> tuple[HeaderTable, RedirectTable]:
        """Return the tables of what is served now, made when the rules change."""
        rules = self.folder.rules
        if self._tables is None or self._tables[0] is not rules:
            headers = HeaderTable(rules.headers, rules.dialect)
            self._tables = rules, headers, RedirectTable(rules.redirects, rules.dialect)
            self._dressed.clear()
        return self._tables[1:]

    @property
    def _fields(self) -> tuple[Field, ...]:
        """The fields of every answer, of the release that is served now."""
        fields = self._own_fields
        if self._tells_release and self.folder.release:
            fields = (*fields, (RELEASE, self.folder.release[:SHORT].encode()))
        return (*fields, (b"vary", self._pins.vary)) if self._pins is not None and self._pins.vary else fields

    async def _respond(self, scope: Scope) -> Response:
        pin = self._pins.read(scope) if self._pins is not None else None
        if self._pins is None or pin is None:
            return await super()._respond(scope)
        mark = self.folder.mark
        files: ReleaseFiles | None = self._pins.find(pin, mark)
        if files is None:
            return await super()._respond(scope)
        offer = scope.pop(OFFER, None)  # what the other release would say of it does not count
        response = await files._respond(scope)  # noqa: SLF001 - it is one of us
        if not pin.is_by_url:
            response.raw_headers = keep_private(response.raw_headers)
        elif offer is not None and response.status_code < _ERRORS:
            offer(self._claim(mark))
        return response

    async def _answer(self, path: str, scope: Scope) -> Response:
        """Answer from one release: where another one is served in the end than in the beginning, answer anew."""
        for _ in range(_ATTEMPTS):
            mark = self.folder.mark
            try:
                response = await super()._answer(path, scope)
            except HTTPException as error:
                if self.folder.mark == mark:
                    self._offer(scope, mark, error.status_code)
                    raise
                continue
            if self.folder.mark == mark:
                self._offer(scope, mark, response.status_code)
                return response
        raise OverloadedError("releases change faster than a request can be answered")

    async def _find(self, path: AssetPath, scope: Scope) -> Entry | Response | None:
        redirects = self._rules()[1]
        query = scope.get("query_string", b"").decode("latin-1")
        forced = redirects.select("/" + path, query, forced_only=True)
        if forced is not None:
            return await self._follow(forced, scope)
        found = await self._locate(path, scope)
        if found is not None:
            return found
        rule = redirects.select("/" + path, query)
        return await (self._fall_back(path) if rule is None else self._follow(rule, scope))

    async def _follow(self, rule: Redirection, scope: Scope) -> Entry | Response | None:
        """Return what a redirect rule says: a redirect, the file at another path, or that file as the page of an error."""
        if rule.kind is RedirectKind.REDIRECT:
            location = encoded_prefix(scope) + rule.target if rule.target.startswith("/") else rule.target
            return self._redirect_to(rule.status, location, self.redirect_cache if rule.status in _PERMANENT else PAGE)
        found = await self._file_at(rule.target)
        if rule.kind is RedirectKind.REWRITE:
            return found
        policy = policy_of_miss(self.get_path(scope))
        page = await self._error_page(found.path, rule.status, policy, scope) if found else None
        if page is None:
            raise HTTPException(rule.status, headers={"Cache-Control": policy})
        return page

    async def _file_at(self, target: str) -> Entry | None:
        """Return the file that a rule's ``target`` means: itself, an index page, or a page without its ``.html``."""
        parsed = parse_target(target.partition("?")[0])
        if isinstance(parsed, RefusedTarget):
            return None
        bare = parsed.path.rstrip("/")
        names = (parsed.path, f"{bare}/index.html".lstrip("/"), f"{bare}.html")
        for name in names:
            if name and not name.endswith("/") and (entry := await self._file(AssetPath(name))):
                return entry
        return None

    def _responses(self, entry: Entry, scope: Scope, *, is_error: bool = False) -> AssetResponses | None:
        headers = self._rules()[0]
        if entry.responses is None:
            return None
        changes = headers.select("/" + self.get_path(scope))
        dress = _As.ERROR if is_error else self._dress_of(entry, scope)
        if changes == NO_CHANGES and dress is not _As.DICTIONARY:
            return entry.responses
        key = entry.path, changes, dress
        known = self._dressed.get(key)
        if known is not None and known[0] is entry.responses:
            return known[1]
        dressed = AssetResponses(self._dress(entry, entry.responses.asset, changes, dress))
        while len(self._dressed) >= LIMIT_DRESSED:
            self._dressed.pop(next(iter(self._dressed)))
        self._dressed[key] = entry.responses, dressed
        return dressed

    def _dress_of(self, entry: Entry, scope: Scope) -> _As:
        query = scope.get("query_string", b"")
        is_dictionary = query and self._deltas is not None and self._deltas.names_dictionary(entry, query)
        return _As.DICTIONARY if is_dictionary else _As.FILE

    def _dress(self, entry: Entry, asset: Asset, changes: HeaderChanges, dress: _As) -> Asset:
        """Return ``asset`` with the fields that rules give it, as what it is served as."""
        changed = change_fields(asset, changes, self.own_fields | _OF_THE_PAGE if dress is _As.ERROR else self.own_fields)
        if self._deltas is None or dress is _As.ERROR:
            return changed
        if dress is _As.DICTIONARY:
            return self._deltas.as_dictionary(entry, changed, self.cache.fields_of(CachePolicy(IMMUTABLE)))
        return self._deltas.announce(entry.path, changed, is_fingerprint=entry.proved, clean_urls=self.clean_urls)

    def _make_asset(
        self, path: AssetPath, representations: tuple[Representation, ...], negotiable: bool, proved: bool
    ) -> Asset:
        asset = super()._make_asset(path, representations, negotiable, proved)
        if proved:  # the same in every release
            asset = replace(asset, fields=_without(asset.fields, {b"vary"}))
        if self._deltas is None:
            return asset
        return self._deltas.announce(path, asset, is_fingerprint=proved, clean_urls=self.clean_urls)

    async def _with_codings(self, entry: Entry, request: AssetRequest, scope: Scope) -> Entry:
        """Return ``entry`` with the delta that ``request`` may have. While it is being made, nothing is to be repeated."""
        responses = self._responses(entry, scope)
        if self._deltas is None or request.dictionary is None or responses is None:
            return entry
        if not may_have_delta(responses, request, now=int(time.time())):
            return entry
        found = await self._deltas.find(entry, request.dictionary.digest, self.folder.mark, self.folder.is_dictionary)
        if isinstance(found, FoundDelta):
            plain = min(one.length for one in responses.asset.representations)
            scope[SPARED] = max(0, plain - found.representation.length)
            return replace(entry, delta=found.representation, sources={**entry.sources, ContentCoding.DCZ: found.source})
        if found is Lack.YET:
            scope.pop(OFFER, None)
        return entry

    async def _open(self, entry: Entry, plan: ResponsePlan) -> AssetResponse | None:
        response = await super()._open(entry, plan)
        if response is None and entry.delta is not None and self._deltas is not None:
            self._deltas.distrust(entry.delta)
        return response

    def _open_hot_paths(self, mark: tuple[Field, ...]) -> HotPaths:
        return HotPaths(self.folder, self._resources.memory, mark, lambda *_: self._claim(self.folder.mark), self._reads)

    def _reads(self, scope: Scope) -> bool:
        """Tell whether a request may say which version of a file, or which release, is meant."""
        is_pinned = self._pins is not None and self._pins.read(scope) is not None
        return is_pinned or scope.get("query_string", b"").startswith(DICTIONARY_QUERY.encode())

    def _claim(self, mark: object) -> Claim:
        """All answers of a release stand until another one is served; what entries are in memory does not matter."""
        standing = self.folder.standing_of(mark)
        return Claim(lambda _: self.folder.mark, "", mark, self.folder.clock_s, float("inf"), standing=standing)

    def _offer(self, scope: Scope, mark: object, status: int) -> None:
        """Let an answer be repeated. A miss for a moment only: misses are counted, and a damaged file may be mended."""
        offer = scope.get(OFFER)
        if offer is not None and not self._looks_at_queries():
            claim = self._claim(mark)
            if status >= _ERRORS:
                kind_of = self.kind_of_miss if status == _MISSING and not scope.get("root_path") else None
                deadline_s = self.folder.clock_s() + FRESH_S
                claim = claim._replace(deadline_s=deadline_s, trust_s=0.0, standing=None, kind_of=kind_of)
            offer(claim)

    def kind_of_miss(self, target: bytes) -> object:
        """Return what the answer to a miss depends on, None where something may be there, or misses are counted.

        ``target`` is as sent. Only names that cannot be misunderstood are looked at; all others are left to ``_find``.
        """
        if self.neighbours is None or _PLAIN_TARGET.fullmatch(target) is None:
            return None
        url = target.decode()
        path = url[1:]
        headers, redirects = self._rules()
        if path.partition("/")[0] in self.neighbours or redirects.select(url, "") is not None:
            return None
        is_file = asks_for_a_file(path)
        if (is_file and looks_fingerprinted(path)) or (self.fallback and not is_file):
            return None
        may_have = self.folder.may_have
        if may_have(path) or may_have(path + "/index.html") or (self.clean_urls and may_have(path + ".html")):
            return None
        return is_file, headers.select(url)

    def _offer_miss(self, path: str, scope: Scope) -> None:
        """Offered with all other answers of the release."""

    def _looks_at_queries(self) -> bool:
        return any(rule.query for rule in self.folder.rules.redirects)

    def _remember(self, scope: Scope, entry: Entry, responses: AssetResponses) -> None:
        """Not where rules or we look at the query, nor a delta: the short way does not."""
        if entry.delta is None and not self._reads(scope) and not self._looks_at_queries():
            super()._remember(scope, entry, responses)

    async def _missing(self, path: str, scope: Scope) -> Response:
        if asks_for_a_file(path) and looks_fingerprinted(path):
            self._count_miss(path)
        try:
            return await super()._missing(path, scope)
        except HTTPException as error:
            if path == "" and self.folder.is_empty and not isinstance(read_target(scope), RefusedTarget):
                error.detail = NOTHING_YET
            raise

    def _count_miss(self, path: str) -> None:
        """Count a fingerprinted name that no kept release has: most likely an old tab that waits for it."""
        self.missed_fingerprints += 1
        now_s = time.monotonic()
        if now_s >= self._tell_at_s:
            self._tell_at_s = now_s + TELL_EVERY_S
            text = "fingerprinted files missed so far: %d, the last %r; keep releases longer if these are old tabs"
            logger.warning(text, self.missed_fingerprints, "/" + path)


def change_fields(asset: Asset, changes: HeaderChanges, own: frozenset[bytes] = frozenset()) -> Asset:
    """Return ``asset`` with the fields of header rules in the place of the server's own; ``Link`` and ``Vary`` add up.

    ``own``: fields that rules cannot change. What sets a cookie, and says nothing of caches, is for nobody else.
    """
    wanted = [field for field in changes.set if field[0] not in own]
    named = {name for name, _ in wanted} - {b"link", b"vary"} | (changes.unset - own)
    cache = [(name, value) for name, value in wanted if name == b"cache-control"]
    if not cache and any(name == b"set-cookie" for name, _ in wanted):
        cache = [(b"cache-control", PERSONAL.encode())]
        named |= {name for name, _ in asset.cache_fields if name.endswith((b"cache-control", b"surrogate-control"))}
    kinds = [value for name, value in wanted if name == b"content-type"]
    others = [field for field in wanted if field[0] not in (b"cache-control", b"content-type")]
    representations = asset.representations
    if kinds:
        representations = tuple(replace(one, media_type=kinds[-1].decode("latin-1")) for one in representations)
    return replace(
        asset,
        representations=representations,
        cache_fields=(*_without(asset.cache_fields, named), *cache),
        fields=(*_without(asset.fields, named), *others),
    )


def _without(fields: tuple[Field, ...], names: set[bytes] | frozenset[bytes]) -> tuple[Field, ...]:
    return tuple(field for field in fields if field[0] not in names)
