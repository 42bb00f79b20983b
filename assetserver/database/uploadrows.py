"""Uploads as rows of their table, and back."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row

from assetserver.uploads.records import Upload

from .schema import uploads

COLUMNS = [column for column in uploads.c if column.name not in ("number", "gone")]
ALIVE = uploads.c.gone.is_(None)


class _Terms(msgspec.Struct, frozen=True):
    expected: dict[str, bytes]
    max_size: int | None
    types: tuple[str, ...]


_FIELDS = tuple(key for key in Upload.__struct_fields__ if key not in _Terms.__struct_fields__)


def to_row(upload: Upload) -> dict[str, object]:
    """Return the values of an upload's row."""
    row: dict[str, object] = {key: getattr(upload, key) for key in _FIELDS}
    row["metadata"] = msgspec.json.encode(upload.metadata).decode()
    row["terms"] = msgspec.json.encode(_Terms(upload.expected, upload.max_size, upload.types)).decode()
    return row


def to_upload(row: Row[*tuple[Any, ...]]) -> Upload:
    """Return the upload of a row that has ``COLUMNS``."""
    values = {column.name: getattr(row, column.name) for column in COLUMNS}
    terms = msgspec.json.decode(values.pop("terms"), type=_Terms)
    values["metadata"] = msgspec.json.decode(values["metadata"], type=dict[str, str])
    return Upload(**values, expected=terms.expected, max_size=terms.max_size, types=terms.types)
