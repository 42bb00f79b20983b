"""Who may upload what: called first by every handler, before a byte of the body is read.

In ASGI the first ``receive()`` is what answers ``Expect: 100-continue``: nothing here calls it. Whose an upload is, is asked
on every verb, by every protocol: the way that forgets it is the way in.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection
from typing import Literal

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from assetserver.access.grants import GRANT_PREFIX, Grant, GrantRefusal, is_allowed, parse_grant
from assetserver.access.keys import KeyRing
from assetserver.access.memory import TokenMemory
from assetserver.access.principal import Principal, ScopeName
from assetserver.access.records import AccessRecords
from assetserver.access.tokens import TokenRecord, TokenRefusal, parse_token, verify_token
from assetserver.errors import (
    BadRequestError,
    ForbiddenError,
    OverloadedError,
    SettingsError,
    TooLargeError,
    UnauthorisedError,
    UnsupportedTypeError,
)
from assetserver.storage.pools import FilePool, wait_future

from .crossorigin import CrossOrigin
from .records import NewUpload

logger = logging.getLogger(__name__)

_REALM = 'Bearer realm="assetserver"'
_INVALID = f'{_REALM}, error="invalid_token"'
_MISSING = "this needs a token: send Authorization: Bearer TOKEN (assetserver token create)"
_BEARER = re.compile(r"(?i:bearer) +([!-~]+) *")
_QUERY_GRANT = re.compile(rb"(?:^|&)grant=([^&]*)")
_AUTHORITY = "assetserver.authority"
_CLAIMS = "assetserver.claims"
_FIRST_ERROR = 400
_UNTOLD_TYPES = frozenset({"", "application/octet-stream"})

DEFAULT_COLLECTION = "default"
"""What the settings call the collection of uploads that name none."""

Verb = Literal["read", "write", "remove"]


class Authority:
    """Knows tokens and grants. What it needs is opened on a thread of ``pool``, when the first token is seen.

    ``open_records`` returns None as long as nothing was ever kept: then nobody has a token. ``read_mark`` gives what moves when
    a token is revoked (``access.memory``).
    """

    def __init__(
        self,
        open_records: Callable[[], AccessRecords | None],
        open_keys: Callable[[], KeyRing],
        pool: FilePool,
        now: Callable[[], float] = time.time,
        *,
        collections: Collection[str] = (),
        read_mark: Callable[[], bytes],
    ) -> None:
        self._open_records = open_records
        self._memory = TokenMemory(read_mark)
        self._open_keys = open_keys
        self._pool = pool
        self.now = now
        self._collections = frozenset(collections) - {DEFAULT_COLLECTION}

    async def identify(self, text: str) -> Principal:
        """Return who holds the token or grant ``text``. Raises ``UnauthorisedError``."""
        token = parse_token(text)
        known = None if token is None else self._memory.recall(token.id)
        if token is not None and known is not None:
            found: Principal | GrantRefusal | TokenRefusal = verify_token(token, known, now=self.now())
        else:
            find = self._find_grant if text.startswith(GRANT_PREFIX) else self._find_token
            found = await wait_future(self._pool.submit(find, text))
        if isinstance(found, Principal):
            return found
        raise UnauthorisedError(found.value, f'{_INVALID}, error_description="{found.value}"')

    async def claim(self, grant: Grant) -> bool:
        """Count a use of ``grant``, or return False if it has none left."""
        return await wait_future(self._pool.submit(lambda: self._records().grants.claim(grant)))

    async def release(self, grant: Grant) -> None:
        """Take a use back."""
        await wait_future(self._pool.submit(lambda: self._records().grants.release(grant)))

    async def forget_expired(self) -> int:
        """Forget how often grants were used that can be used no more; return how many."""
        return await wait_future(self._pool.submit(self._forget_expired))

    async def load_keys(self) -> KeyRing:
        """Return the keys that sign. Raises ``OverloadedError`` if they cannot be read; the log says why."""
        return await wait_future(self._pool.submit(self._keys))

    def check_collection(self, name: str) -> str:
        """Return a collection as records have it: "" for the default one.

        Raises ``BadRequestError`` for one that the settings do not name: misspelt, what is private would be public.
        """
        if name in ("", DEFAULT_COLLECTION):
            return ""
        if name in self._collections:
            return name
        raise BadRequestError(f"there is no collection {name[:64]!r}; the settings name them in [[collections]]")

    def close(self) -> None:
        """End the threads. They start anew if they are needed again."""
        self._pool.close()

    def _find_token(self, text: str) -> Principal | TokenRefusal:
        token = parse_token(text)
        if token is None:
            return TokenRefusal.UNKNOWN
        return verify_token(token, self._find_record(token.id), now=self.now())

    def _find_grant(self, text: str) -> Principal | GrantRefusal | TokenRefusal:
        """A grant counts as long as the token that made it: revoking that is how grants are revoked, and it ends with it."""
        grant = parse_grant(self._keys(), text, now=self.now())
        if isinstance(grant, GrantRefusal):
            return grant
        issuer = self._find_record(grant.issuer)
        if issuer is None or issuer.revoked is not None:
            return TokenRefusal.REVOKED
        if issuer.is_expired(self.now()):
            return GrantRefusal.EXPIRED
        return Principal(f"grant:{grant.id}", frozenset({"upload"}), issuer.prefix, grant)

    def _find_record(self, token_id: str) -> TokenRecord | None:
        if (known := self._memory.recall(token_id)) is not None:
            return known
        records = self._open_records()
        return None if records is None else self._memory.look_up(token_id, records.tokens.find)

    def _records(self) -> AccessRecords:
        records = self._open_records()
        if records is None:
            raise UnauthorisedError(TokenRefusal.UNKNOWN.value, _INVALID)
        return records

    def _forget_expired(self) -> int:
        records = self._open_records()
        return 0 if records is None else records.grants.forget_expired(self.now())

    def _keys(self) -> KeyRing:
        try:
            return self._open_keys()
        except (SettingsError, OSError) as error:
            logger.error("no URL can be signed or verified: %s", error)  # noqa: TRY400
            raise OverloadedError("the keys that sign cannot be read") from error


class Guarded:
    """ASGI middleware around the routes that need a token: CORS, and the authority that ``authorise`` asks.

    Uses of grants that were counted for a request are taken back if it fails, or is never answered; not those that are spent
    (``spend``).
    """

    def __init__(self, app: ASGIApp, authority: Authority, origins: tuple[str, ...] = ("*",)) -> None:
        self.app = app
        self._authority = authority
        self._cross_origin = CrossOrigin(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI."""
        if scope["type"] == "websocket":
            scope[_AUTHORITY] = self._authority
            app = self.app if self._cross_origin.lets_connect(scope) else WebSocketClose()
            await app(scope, receive, send)
            return
        if (preflight := self._cross_origin.answer_preflight(scope)) is not None:
            await preflight(scope, receive, send)
            return
        claims: list[Grant] = []
        scope[_AUTHORITY], scope[_CLAIMS] = self._authority, claims

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                self._cross_origin.mark(scope, MutableHeaders(scope=message))
                if message["status"] < _FIRST_ERROR:
                    claims.clear()
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        finally:
            for grant in claims:
                await self._authority.release(grant)


async def authorise(request: HTTPConnection, *scopes: ScopeName) -> Principal:
    """Return who asks, if one of ``scopes`` is theirs.

    Raises ``UnauthorisedError`` without a token that counts, ``ForbiddenError`` without the scope. Reads nothing of the body.
    """
    text = read_credentials(request.scope)
    if text is None:
        raise UnauthorisedError(_MISSING, _REALM)
    authority: Authority = request.scope[_AUTHORITY]
    principal = await authority.identify(text)
    if principal.has_scope(*scopes):
        return principal
    wanted = " or ".join(scopes)
    raise ForbiddenError(f"this needs the scope {wanted}; yours: {', '.join(sorted(principal.scopes)) or 'none'}")


def read_credentials(scope: Scope) -> str | None:
    """Return the token or grant that came with a request, or None: ``Authorization: Bearer …``, or ``?grant=…`` for grants.

    A token in a query would be in the logs and histories of all on the way: it is not looked for there. Raises
    ``UnauthorisedError`` for a field that is there and cannot be read, or stands twice.
    """
    fields = Headers(scope=scope).getlist("authorization")
    if len(fields) > 1:
        raise UnauthorisedError("there are several Authorization fields; send one", _INVALID)
    if fields:
        match = _BEARER.fullmatch(fields[0])
        if match is None:
            raise UnauthorisedError("Authorization is not Bearer TOKEN", _INVALID)
        return match[1]
    found = _QUERY_GRANT.search(scope.get("query_string", b""))
    text = found[1].decode("latin-1") if found else ""
    return text if text.startswith(GRANT_PREFIX) else None


async def restrict(request: Request, principal: Principal, new: NewUpload) -> NewUpload:
    """Return ``new`` as ``principal`` may have it: theirs, within the limits of their grant, whose use is counted.

    Raises ``BadRequestError`` for a collection that is not there, ``ForbiddenError`` for a name or collection that is not
    theirs to use, and for a grant that is used up; ``TooLargeError`` and ``UnsupportedTypeError`` for what the grant
    does not cover.
    """
    authority: Authority = request.scope[_AUTHORITY]
    new = msgspec.structs.replace(new, collection=authority.check_collection(new.collection))
    _check_prefix(new.name, principal.prefix)
    if new.by_name:
        _check_prefix(new.by_name, principal.prefix)
    grant = principal.grant
    if grant is None:
        return msgspec.structs.replace(new, owner=principal.id)
    granted = _narrow(grant, authority.check_collection(grant.collection), new)
    if not await authority.claim(grant):
        raise ForbiddenError("the grant has been used as often as it may be; ask for a new one")
    request.scope[_CLAIMS].append(grant)
    return msgspec.structs.replace(granted, owner=principal.id, account=principal.account)


def spend(request: Request) -> None:
    """Keep the uses of grants that were counted for ``request``, however it ends: an upload is there to go on with."""
    request.scope[_CLAIMS].clear()


def read_collection(request: Request, principal: Principal | None = None) -> str:
    """Return the collection that ``?collection=`` names, or the grant of ``principal``.

    Raises what ``Authority.check_collection`` does, also for a grant's: the settings may have changed since it was made.
    """
    authority: Authority = request.scope[_AUTHORITY]
    if principal is not None and principal.grant is not None:
        return authority.check_collection(principal.grant.collection)
    return authority.check_collection(request.query_params.get("collection", ""))


def check_owner(principal: Principal, owner: str, verb: Verb) -> None:
    """Raise ``ForbiddenError`` unless ``principal`` may do ``verb`` with what belongs to ``owner``.

    One's own, or everything with ``admin``; ``read`` reads everything.
    """
    if principal.owns(owner) or principal.has_scope("admin") or (verb == "read" and principal.has_scope("read")):
        return
    raise ForbiddenError(f"this upload belongs to another token; to {verb} it needs that one, or the scope admin")


def _narrow(grant: Grant, collection: str, new: NewUpload) -> NewUpload:
    _check_prefix(new.name, grant.prefix)
    if new.by_name and not grant.prefix:
        raise ForbiddenError("the grant has no prefix: by name, it could replace anything")
    _check_prefix(new.by_name or new.name, grant.prefix)
    if new.collection not in ("", collection):
        raise ForbiddenError(f"the grant is for the collection {collection!r}, not {new.collection!r}")
    if grant.max_size is not None and new.length is not None and new.length > grant.max_size:
        raise TooLargeError(f"the grant is for {grant.max_size} bytes at most; this has {new.length}")
    if new.declared_type not in _UNTOLD_TYPES and not is_allowed(new.declared_type, grant.types):
        raise UnsupportedTypeError(f"the grant is for {', '.join(grant.types)}, not {new.declared_type}")
    limits = [size for size in (new.max_size, grant.max_size) if size is not None]
    return msgspec.structs.replace(new, collection=collection, types=grant.types, max_size=min(limits) if limits else None)


def _check_prefix(name: str, prefix: str) -> None:
    if not name.startswith(prefix):
        raise ForbiddenError(f"names must begin with {prefix!r} here; this is {name!r}")
