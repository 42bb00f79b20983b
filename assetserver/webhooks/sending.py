"""Sending an event: one POST, with a deadline for all of it.

What clients upload decides nothing of where it goes: the address is the operator's, redirects are not followed, and of the
answer only the status is read. The address is in no message: it may hold a secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

import anyio
import msgspec

from assetserver.errors import JobFailedError, JobRefusedError
from assetserver.jobs.attempt import Attempt, Kind, Outcome

from .events import RETRY, Event
from .signing import sign_fields

AT_ONCE = 8
_LONGEST_PAUSE_S = 86_400.0
_MARGIN_S = 60.0
"""How much longer a look at the names of hosts may take, which nothing can end."""


def webhook_kind(url: str, secrets: Sequence[bytes], timeout_s: float, clock: Callable[[], float] = time.time) -> Kind:
    """Return the kind of job that tells ``url`` of events, signed with all of ``secrets``."""

    def handle(attempt: Attempt) -> Outcome:
        event = msgspec.json.decode(attempt.job.payload, type=Event)
        body = event.body.encode()
        fields = sign_fields(secrets, event.id, int(clock()), body)
        if attempt.job.trace:
            fields["traceparent"] = attempt.job.trace
        status, retry_after = anyio.run(_post, url, body, fields, timeout_s)
        check_status(status, retry_after)
        return Outcome.DONE

    return Kind(handle, RETRY, AT_ONCE, timeout_s + _MARGIN_S)


def check_status(status: int, retry_after: str) -> None:
    """Return if ``status`` says that the event was taken. Raises ``JobFailedError``, or ``JobRefusedError`` for 410."""
    answered = f"the receiver answered {status}"
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status == HTTPStatus.GONE:  # Standard Webhooks: it wants no more
        raise JobRefusedError(f"{answered}: it wants no events any more")
    if status < HTTPStatus.BAD_REQUEST:
        raise JobFailedError(f"{answered}: redirects are not followed; set webhooks.url to where it leads")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0
    raise JobFailedError(answered, retry_after_s=min(seconds, _LONGEST_PAUSE_S))


async def _post(url: str, body: bytes, fields: dict[str, str], timeout_s: float) -> tuple[int, str]:
    """Send, and return the status and ``Retry-After``."""
    from importlib.metadata import version  # noqa: PLC0415 - as below

    import httpx  # noqa: PLC0415 - it takes 0.1 s, and a worker may never send

    sent = {"Content-Type": "application/json", "User-Agent": f"assetserver/{version('assetserver')}", **fields}
    try:
        with anyio.fail_after(timeout_s):
            async with (
                httpx.AsyncClient(timeout=None, follow_redirects=False) as client,  # noqa: S113 - one deadline for all of it
                client.stream("POST", url, content=body, headers=sent) as response,
            ):
                return response.status_code, response.headers.get("retry-after", "")
    except TimeoutError as error:
        raise JobFailedError(f"the receiver did not answer within {timeout_s:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error.__cause__ or error) or type(error).__name__
        raise JobFailedError(f"the receiver cannot be reached: {reason}") from error
