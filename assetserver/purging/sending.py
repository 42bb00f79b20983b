"""Sending what a connector asks for: one deadline for each request, redirects not followed, any answer but 2xx a failure.

What is sent twice is purged twice, which does no harm: a job that failed halfway begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import msgspec

from assetserver.errors import JobFailedError
from assetserver.jobs.attempt import Attempt, Kind, Outcome

from .connectors import Connector, PurgeRequest
from .orders import RETRY, PurgeOrder

if TYPE_CHECKING:
    import httpx

AT_ONCE = 2
"""The limits of APIs are for all of an account: more at once would only be refused sooner."""
LIMIT_ANSWER_BYTES = 64 << 10
_LIMIT_S = 900.0
_LONGEST_PAUSE_S = 86_400.0
_LONGEST_REASON = 300
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def purge_kind(connectors: Mapping[str, tuple[Connector, float]]) -> Kind:
    """Return the kind of job that purges: ``connectors`` by name, with how long a request of each may take, in seconds."""

    def handle(attempt: Attempt) -> Outcome:
        order = msgspec.json.decode(attempt.job.payload, type=PurgeOrder)
        if order.connector not in connectors:
            known = ", ".join(sorted(connectors)) or "none"
            raise JobFailedError(f"[[purge]] names no {order.connector!r} any more; it names {known}")
        connector, timeout_s = connectors[order.connector]
        anyio.run(_send_all, attempt, list(connector.make_requests(order)), timeout_s)
        return Outcome.DONE

    return Kind(handle, RETRY, AT_ONCE, _LIMIT_S)


async def _send_all(attempt: Attempt, requests: list[PurgeRequest], timeout_s: float) -> None:
    from importlib.metadata import version  # noqa: PLC0415 - as below

    import httpx  # noqa: PLC0415 - it takes 0.1 s, and a worker may never send

    own = {"User-Agent": f"assetserver/{version('assetserver')}"}
    async with httpx.AsyncClient(timeout=None, follow_redirects=False, headers=own) as client:  # noqa: S113 - one for each request
        for done, request in enumerate(requests):
            attempt.progress(done / len(requests))
            try:
                with anyio.fail_after(timeout_s):
                    async with client.stream(
                        request.method, request.url, content=request.body, headers=dict(request.fields)
                    ) as response:
                        body = await _read(response)
                        check_answer(response.status_code, response.headers.get("retry-after", ""), body)
            except TimeoutError as error:
                raise JobFailedError(f"the cache did not answer within {timeout_s:g} s") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = str(error.__cause__ or error) or type(error).__name__
                raise JobFailedError(f"the cache cannot be reached: {reason}") from error


async def _read(response: httpx.Response) -> bytes:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > LIMIT_ANSWER_BYTES:
            break
    return body


def check_answer(status: int, retry_after: str, body: bytes) -> None:
    """Return if an answer says that it was purged. Raises ``JobFailedError``, with what the API says of it."""
    told = _read_errors(body)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and not told:
        return
    remedy = "; look at its token" if status in _REFUSED else ""
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
    raise JobFailedError(f"the cache answered {status}{told}{remedy}", retry_after_s=min(seconds, _LONGEST_PAUSE_S))


def _read_errors(body: bytes) -> str:
    """Return what an API says went wrong: ``errors`` of Cloudflare, where ``success`` is false, or ``msg`` of Fastly."""
    try:
        content = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(content, dict):
        return ""
    if content.get("success") is False:
        errors = content.get("errors")
        told = "; ".join(str(one.get("message")) for one in errors if isinstance(one, dict)) if isinstance(errors, list) else ""
        return f": {told or 'no success'}"[:_LONGEST_REASON]
    if content.get("status", "ok") != "ok" and "msg" in content:
        return f": {content['msg']}"[:_LONGEST_REASON]
    return ""
