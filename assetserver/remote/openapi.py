"""The description of the API of releases for programs (OpenAPI 3.1): the paths, to be put into a document.

Tests send what it allows, and what it forbids, to a running server: what stands here is kept.
"""

from __future__ import annotations

from typing import Any

from assetserver.problems import SCHEMA

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_RELEASE: Json = {"type": ["string", "null"]}
_FILE: Json = {
    "type": "object",
    "required": ["sha256", "size"],
    "properties": {"sha256": _DIGEST, "size": {**_COUNT, "maximum": 1 << 50}},
    "additionalProperties": False,
}
_SUBMISSION: Json = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {"type": "object", "additionalProperties": _FILE, "description": "By path below the folder."},
        "message": {"type": "string", "maxLength": 4096},
        "alias": {"type": "string", "maxLength": 128},
        "left_out": {"type": "array", "items": _TEXT, "maxItems": 10_000, "description": "Names that begin with a dot."},
        "dry_run": {"type": "boolean", "description": "Only say what is missing."},
    },
    "additionalProperties": False,
}
_ACTIVATION: Json = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 128, "description": "An id, its beginning, or an alias."},
        "if_active": {"type": ["string", "null"], "description": "Only if this release is active; null or empty: none."},
        "site": _TEXT,
    },
    "additionalProperties": False,
}
_STATE: Json = {
    "type": "object",
    "required": ["site", "active", "generation", "locked", "url"],
    "properties": {"site": _TEXT, "active": _RELEASE, "generation": _COUNT, "locked": _TEXT, "url": _TEXT},
}
_READY: Json = {
    "type": "object",
    "properties": {"id": _DIGEST, "existed": {"type": "boolean"}, "missing": {"type": "array", "items": _DIGEST}},
}
_MISSING: Json = {**SCHEMA, "properties": {**SCHEMA["properties"], "missing": {"type": "array", "items": _DIGEST}}}

_PROBLEMS = {
    "400": "The request makes no sense.",
    "401": "No token, or one that does not count. Nothing of the body was read.",
    "403": "The token has not the scope publish.",
    "404": "There is no such site or release.",
    "409": "Blobs are missing, or another release is active.",
    "413": "Too many bytes.",
    "415": "The body is in a coding that is not decoded here.",
    "422": "This cannot be published, or is not what it says that it is.",
    "423": "The site is locked.",
    "503": "Too much at once, or gc is running; Retry-After says when to come again.",
    "507": "The disk is full.",
}
_ANY = ("400", "401", "403", "404", "503")
_SITE: Json = {"name": "site", "in": "query", "schema": _TEXT, "description": "Which site, where there are several."}


def describe_releases() -> dict[str, Json]:
    """Return the paths of the API of releases, complete in themselves."""
    digest = {"name": "digest", "in": "path", "required": True, "schema": _DIGEST}
    release = {"name": "id", "in": "path", "required": True, "schema": _DIGEST}
    return {
        "/-/api/releases": {"parameters": [_SITE], "get": _LIST, "post": _SUBMIT},
        "/-/api/releases/{id}/manifest": {"parameters": [release], "get": _MANIFEST},
        "/-/api/releases/{id}/signature": {"parameters": [release], "put": _SIGN},
        "/-/api/blobs/{digest}": {"parameters": [digest], "put": _PUT},
        "/-/api/activate": {"post": _ACTIVATE},
    }


def _json(text: str, schema: Json) -> Json:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _problems(*statuses: str) -> Json:
    return {
        status: {
            "description": _PROBLEMS[status],
            "content": {"application/problem+json": {"schema": _MISSING if status == "409" else SCHEMA}},
        }
        for status in sorted({*statuses, *_ANY})
    }


def _body(media_type: str, schema: Json) -> Json:
    return {"required": True, "content": {media_type: {"schema": schema}}}


_LIST: Json = {
    "operationId": "listReleases",
    "summary": "Say what a site keeps, the newest first, what is active, and how it is published.",
    "responses": {"200": _json("The site.", _STATE), **_problems()},
}
_SUBMIT: Json = {
    "operationId": "submitRelease",
    "summary": "Make a release of these files and keep it; or say what is missing. May be repeated.",
    "requestBody": _body("application/json", _SUBMISSION),
    "responses": {
        "200": _json("The release was there; or, of a dry run, nothing is missing.", _READY),
        "201": _json("The release is kept.", _READY),
        **_problems("409", "413", "422", "507"),
    },
}
_MANIFEST: Json = {
    "operationId": "readManifest",
    "summary": "Read the bytes that a signature signs.",
    "responses": {"200": _json("The manifest.", {"type": "object"}), **_problems("422")},
}
_SIGN: Json = {
    "operationId": "signRelease",
    "summary": "Keep a signature of the manifest, as minisign makes it.",
    "requestBody": _body("text/plain", _TEXT),
    "responses": {"200": _json("It is kept.", {"type": "object"}), **_problems("413", "422")},
}
_PUT: Json = {
    "operationId": "putBlob",
    "summary": "Store the bytes of a file under their SHA-256.",
    "parameters": [
        {"name": "size", "in": "query", "schema": _COUNT, "description": "Length of the file, once decoded."},
        {"name": "Content-Encoding", "in": "header", "schema": {"enum": ["identity", "zstd", "dcz"]}},
    ],
    "requestBody": _body("application/octet-stream", {"type": "string", "format": "binary"}),
    "responses": {
        "200": _json("It was there, and is on disk.", {"type": "object"}),
        "201": _json("It is on disk.", {"type": "object"}),
        **_problems("413", "415", "422", "507"),
    },
}
_ACTIVATE: Json = {
    "operationId": "activateRelease",
    "summary": "Serve a release from now on, in one step.",
    "requestBody": _body("application/json", _ACTIVATION),
    "responses": {"200": _json("It is active.", _STATE), **_problems("409", "413", "422", "423")},
}
