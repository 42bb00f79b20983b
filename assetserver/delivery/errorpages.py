"""Error responses in the form that the client reads: a page, problem details (RFC 9457), or a line of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from assetserver.semantics.caching import ERROR

NOTHING_YET = "Nothing is published here yet."
"""What the root of an empty site says: whoever set it up looks there first."""


def render_error(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for an error; ``detail`` says what was wrong. Varies on ``Accept``."""
    accept = request.headers.get("accept", "")
    title = HTTPStatus(status).phrase
    if "text/html" in accept:
        body, media_type = _PAGE.format(status=status, title=escape(title), detail=escape(_advice(status, detail))), "text/html"
    elif "json" in accept:
        problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        body, media_type = json.dumps(problem, ensure_ascii=False) + "\n", "application/problem+json"
    else:
        body, media_type = f"{status} {detail}\n", "text/plain"
    fields = {"Cache-Control": ERROR, **(headers or {}), "Vary": "Accept"}
    return Response(body, status, fields, media_type)


def _advice(status: int, detail: str) -> str:
    if status == HTTPStatus.NOT_FOUND and detail != NOTHING_YET:
        return "There is nothing at this address."
    return detail


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>{status} {title}</title>
<style>
body {{ font: 18px/1.5 system-ui, sans-serif; display: grid; place-content: center; min-height: 90vh; margin: 1rem }}
h1 {{ font-size: 1.5rem; margin: 0 }}
p {{ margin: .25rem 0; opacity: .75 }}
</style>
<h1>{status} {title}</h1>
<p>{detail}</p>
"""
