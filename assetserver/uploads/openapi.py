"""The description of the upload API for programs (OpenAPI 3.1), served at ``/-/api/openapi.json``.

Tests send what it allows, and what it forbids, to a running server: what stands here is kept.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assetserver.access.grants import GrantRequest
from assetserver.problems import SCHEMA

from .answers import PROBLEM_TYPE
from .pictureschema import IMAGE

Json = dict[str, Any]

_PROBLEMS = {
    "400": "The request makes no sense: a field, a name, a length, a digest. Nothing was stored.",
    "401": "No token, or one that does not count. Nothing of the body was read.",
    "403": "The token may not do this.",
    "404": "There is no such upload.",
    "405": "The URL does not take this method.",
    "408": "The body came too slowly.",
    "409": "The offset is not where the upload ends.",
    "410": "The upload was removed, or has expired.",
    "412": "What has the name now is not what the condition asks for.",
    "413": "Too many bytes, files or fields.",
    "415": "Content of this type or coding is not taken.",
    "423": "Another request writes to the upload.",
    "460": "The bytes do not have the checksum that came with them.",
    "503": "Too much at once; Retry-After says when to come again.",
    "507": "The disk is full.",
}
_ANY = ("401", "403", "405", "503")
_INTAKE = ("400", "408", "413", "415", "507", *_ANY)

_TEXT: Json = {"type": "string"}
_INTEGER: Json = {"type": "integer", "minimum": 0}
_BYTES: Json = {"type": "string", "format": "binary"}
_COLLECTION: Json = {"type": "string", "pattern": "^([a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?)?$"}
_NAME: Json = {"type": "string", "minLength": 1, "maxLength": 255}
_DIGEST: Json = {"type": "string", "examples": ["sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:"]}

_UPLOAD: Json = {
    "type": "object",
    "required": [
        "id",
        "state",
        "name",
        "size",
        "offset",
        "sha256",
        "media_type",
        "url",
        "collection",
        "owner",
        "metadata",
        "created",
        "image",
    ],
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,64}$"},
        "state": {"enum": ["uploading", "complete", "failed"]},
        "name": _TEXT,
        "size": {"type": ["integer", "null"], "minimum": 0, "description": "Length in bytes; null while nobody knows it."},
        "offset": {"type": "integer", "minimum": 0, "description": "Bytes that are safely on disk."},
        "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$", "description": "Null until it is complete."},
        "media_type": {"type": "string", "description": "Found by content once it is complete, before that as declared."},
        "url": {"type": "string", "description": "Where it is served once it is complete."},
        "collection": {"type": "string", "description": 'Collection that it is in; "default" where none was named.'},
        "owner": {"type": "string", "description": "Id of the token that it belongs to."},
        "metadata": {
            "type": "object",
            "additionalProperties": _TEXT,
            "description": "What the client said of it: Upload-Metadata of tus, or the fields of a form before the file.",
        },
        "created": {"type": "string", "format": "date-time"},
        "image": IMAGE,
    },
}


def describe_api(public_url: str = "", version: str = "1") -> Json:
    """Return the document; ``public_url`` is the origin that it is served at, "" for the one that it came from."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "assetserver: uploads",
            "version": version,
            "description": "Files come as a form, as they are, or in pieces (tus 1.0). Success means that it is on disk.",
        },
        "servers": [{"url": public_url or "/"}],
        "security": [{"token": []}],
        "paths": {
            "/uploads": {"get": _LIST, "post": _CREATE},
            "/uploads/{id}": {
                "parameters": [_path("id", _TEXT)],
                "get": _SHOW,
                "head": _STATE,
                "patch": _APPEND,
                "delete": _REMOVE,
            },
            "/uploads/{id}/events": {"parameters": [_path("id", _TEXT)], "get": _EVENTS},
            "/uploads/by-name/{name}": {
                "parameters": [_path("name", _NAME), _query("collection", _COLLECTION, "Collection that the name is in.")],
                "get": _SHOW_BY_NAME,
                "put": _PUT,
            },
            "/-/api/grants": {"post": _GRANT},
            "/-/api/collections": {"get": _COLLECTIONS},
        },
        "components": {
            "schemas": {"Upload": _UPLOAD, "Problem": SCHEMA, **_GRANT_SCHEMAS},
            "responses": {status: _describe_problem(text) for status, text in _PROBLEMS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "assetserver token create"}},
        },
    }


def _describe_problem(text: str) -> Json:
    return {"description": text, "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: Json, text: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": text}


def _field(name: str, schema: Json, text: str, *, required: bool = False) -> Json:
    return {"name": name, "in": "header", "required": required, "schema": schema, "description": text}


def _answer(text: str, schema: Json | None = None, fields: dict[str, Json] | None = None) -> Json:
    answer: Json = {"description": text}
    if schema is not None:
        answer["content"] = {"application/json": {"schema": schema}}
    if fields:
        answer["headers"] = {name: {"schema": one} for name, one in fields.items()}
    return answer


def _answers(statuses: tuple[str, ...], **own: Json) -> Json:
    """Return the answers of an operation: its ``own`` by ``_status``, and problems by status."""
    own = {status.removeprefix("_"): answer for status, answer in own.items()}
    return own | {status: {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)}


_UPLOAD_REF: Json = {"$ref": "#/components/schemas/Upload"}
_UPLOADS: Json = {
    "type": "object",
    "required": ["uploads"],
    "properties": {"uploads": {"type": "array", "items": _UPLOAD_REF}},
}
_PAGE: Json = {
    "type": "object",
    "required": ["uploads", "next"],
    "properties": {
        "uploads": {"type": "array", "items": _UPLOAD_REF},
        "next": {"type": ["string", "null"], "description": "The cursor of the next page; null on the last."},
    },
}
_DIGESTS = [
    _field("Content-Digest", _DIGEST, "Digests of the body (RFC 9530); verified before it is stored."),
    _field("Repr-Digest", _DIGEST, "Digests of the body (RFC 9530); verified before it is stored."),
]
_LIST: Json = {
    "operationId": "listUploads",
    "summary": "List uploads, the newest first: the token's own, or all of them with the scope read.",
    "parameters": [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Most uploads of a page."),
        _query("cursor", _TEXT, "Where to go on, from the page before."),
    ],
    "responses": _answers(("400", *_ANY), _200=_answer("A page.", _PAGE, {"Link": _TEXT})),
}
_CREATE: Json = {
    "operationId": "createUploads",
    "summary": "Upload the files of a form, or one file as it is; or begin a resumable upload (with Tus-Resumable).",
    "parameters": [
        _query("name", _NAME, "Name of a raw body; else from Content-Disposition."),
        _query("collection", _COLLECTION, "Collection that the files go to."),
        *_DIGESTS,
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "array", "items": _BYTES}}, "required": ["file"]}
            },
            "application/octet-stream": {"schema": _BYTES},
        },
    },
    "responses": _answers(("412", "423", "460", *_INTAKE), _201=_answer("Stored, and on disk.", _UPLOADS, {"Location": _TEXT})),
}
(_GRANT_REF,), _found = msgspec.json.schema_components((GrantRequest,), ref_template="#/components/schemas/{name}")
_GRANT_SCHEMAS: Json = msgspec.json.decode(msgspec.json.encode(_found))
_GRANTED: Json = {
    "type": "object",
    "required": ["grant", "id", "expires", "uses"],
    "properties": {
        "grant": {"type": "string", "description": "For Authorization: Bearer, or ?grant= of /uploads."},
        "id": _TEXT,
        "expires": {"type": "string", "format": "date-time"},
        "uses": _INTEGER,
    },
}
_GRANT: Json = {
    "operationId": "makeGrant",
    "summary": "Make a grant, by which a browser may upload what it says, and nothing else.",
    "requestBody": {"required": False, "content": {"application/json": {"schema": _GRANT_REF}}},
    "responses": _answers(("400", "413", *_ANY), _201=_answer("The grant.", _GRANTED)),
}
_COLLECTIONS: Json = {
    "operationId": "listCollections",
    "summary": "List the collections, and who may read them: everybody, or who has a signed URL.",
    "responses": _answers(
        _ANY,
        _200=_answer(
            "All of them.",
            {
                "type": "object",
                "required": ["collections"],
                "properties": {
                    "collections": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name", "access"],
                            "properties": {"name": _TEXT, "access": {"enum": ["public", "signed"]}},
                        },
                    }
                },
            },
        ),
    ),
}
_MISSING: Json = _describe_problem("There is no such upload. The site answers for a path that can be no upload's.")
_MISSING["content"] |= {"text/html": {}, "text/plain": {}}
_SHOW: Json = {
    "operationId": "showUpload",
    "summary": "Say what is known of an upload.",
    "responses": _answers(("410", *_ANY), _200=_answer("The upload.", _UPLOAD_REF), _404=_MISSING),
}
_EVENTS: Json = {
    "operationId": "followUpload",
    "summary": "Tell what is known of an upload whenever that changes, until nothing more will (server-sent events).",
    "description": "The same is told on the WebSocket /uploads/{id}/live. An event `refused` tells who may listen no more why.",
    "parameters": [_field("Last-Event-ID", _TEXT, "Id of the last event that came: it is not told again.")],
    "responses": _answers(
        ("410", *_ANY),
        _200={"description": "Events whose data are uploads in JSON.", "content": {"text/event-stream": {"schema": _TEXT}}},
        _204=_answer("Nothing more will change."),
        _404=_MISSING,
    ),
}
_STATE: Json = {
    "operationId": "askOffset",
    "summary": "Say where a resumable upload goes on (tus 1.0).",
    "parameters": [_field("Tus-Resumable", {"const": "1.0.0"}, "The protocol's version.", required=True)],
    "responses": _answers(
        ("410", "412", "423", *_ANY),
        _200=_answer("Upload-Offset says where.", None, {"Upload-Offset": _INTEGER}),
        _404=_MISSING,
    ),
}
_APPEND: Json = {
    "operationId": "appendToUpload",
    "summary": "Send the next bytes of a resumable upload (tus 1.0).",
    "parameters": [
        _field("Tus-Resumable", {"const": "1.0.0"}, "The protocol's version.", required=True),
        _field("Upload-Offset", _INTEGER, "Where they belong: what HEAD says.", required=True),
        _field("Upload-Checksum", _TEXT, "Algorithm and base64 of their digest: sha256, sha1 or md5."),
    ],
    "requestBody": {"required": True, "content": {"application/offset+octet-stream": {"schema": _BYTES}}},
    "responses": _answers(
        ("404", "409", "410", "412", "423", "460", *_INTAKE),
        _204=_answer("The bytes are on disk.", None, {"Upload-Offset": _INTEGER}),
    ),
}
_REMOVE: Json = {
    "operationId": "removeUpload",
    "summary": "Remove an upload; it is not served any more.",
    "responses": _answers(("400", "404", "410", "412", "423", *_ANY), _204=_answer("Removed.")),
}
_SHOW_BY_NAME: Json = {
    "operationId": "showUploadByName",
    "summary": "Say what is known of what has this name now.",
    "responses": _answers(("400", "404", *_ANY), _200=_answer("The upload.", _UPLOAD_REF)),
}
_PUT: Json = {
    "operationId": "putByName",
    "summary": "Store a file under a name; /media/by-name/{name} always serves the newest.",
    "parameters": [
        _field("If-None-Match", _TEXT, "* : only if the name is new."),
        _field("If-Match", _TEXT, "Only if what has the name has this ETag."),
        *_DIGESTS,
    ],
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": _BYTES}}},
    "responses": _answers(
        ("412", *_INTAKE),
        _200=_answer("Stored in place of what had the name.", _UPLOADS, {"ETag": _TEXT}),
        _201=_answer("Stored under a new name.", _UPLOADS, {"ETag": _TEXT, "Location": _TEXT}),
    ),
}
