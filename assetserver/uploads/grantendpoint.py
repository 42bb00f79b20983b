"""``POST /-/api/grants``: a server of an application asks for a grant, to hand it to a browser."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from assetserver.access.grants import GrantRequest, issue_grant
from assetserver.errors import BadRequestError, ForbiddenError, TooLargeError

from .answers import format_time, render_json
from .authorising import Authority, authorise

LIMIT_BODY_BYTES = 16 << 10


class GrantEndpoint:
    """Issues grants under the keys that ``authority`` knows."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    async def create(self, request: Request) -> Response:
        """Answer 201 with a grant that may do no more than the token that asks for it."""
        principal = await authorise(request, "upload")
        if principal.grant is not None:
            raise ForbiddenError("a grant cannot make grants; this needs a token")
        wanted = _parse(await _read_small(request))
        if not wanted.prefix.startswith(principal.prefix):
            raise ForbiddenError(f"names must begin with {principal.prefix!r} here; the prefix asked for is {wanted.prefix!r}")
        self._authority.check_collection(wanted.collection)
        ring = await self._authority.load_keys()
        now = self._authority.now()
        text, grant = issue_grant(ring, wanted, issuer=principal.id, now=now, issuer_expires=principal.expires)
        content = {"grant": text, "id": grant.id, "expires": format_time(grant.expires), "uses": grant.uses}
        return render_json(content, HTTPStatus.CREATED)


async def _read_small(request: Request) -> bytes:
    content = b""
    async for piece in request.stream():
        content += piece
        if len(content) > LIMIT_BODY_BYTES:
            raise TooLargeError(f"what is asked for has more than {LIMIT_BODY_BYTES} bytes")
    return content


def _parse(content: bytes) -> GrantRequest:
    try:
        return msgspec.json.decode(content or b"{}", type=GrantRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"this is not what a grant is made of: {error}") from error
