"""What a URL names: an asset and its representations. Values only. Source: RFC 9110 §3.1, §3.2, §8.4.1."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .etags import ETag

Field = tuple[bytes, bytes]
"""One field line as ASGI carries it: lower-case name, value."""


class ContentCoding(Enum):
    """A content coding by its IANA token, in the server's order of preference where weight and size are equal.

    ``DCZ`` is for clients that have a certain dictionary (RFC 9842 §5), and is none of an asset's own representations.
    """

    DCZ = "dcz"
    BR = "br"
    ZSTD = "zstd"
    GZIP = "gzip"
    IDENTITY = "identity"


SUFFIXES = {ContentCoding.BR: ".br", ContentCoding.ZSTD: ".zst", ContentCoding.GZIP: ".gz"}
"""File-name suffix of a sidecar by coding."""


@dataclass(frozen=True, slots=True)
class Representation:
    """One exact byte sequence.

    ``media_type`` is the whole ``Content-Type`` value, ``length`` in bytes; ``digest`` is the SHA-256 of exactly these
    bytes (32 bytes), or None while it is not known yet: then there is no ETag and no ``Repr-Digest``. ``last_modified``
    in seconds since 1970, or None where the file's time says nothing (see ``delivery.probe``).
    """

    coding: ContentCoding
    media_type: str
    length: int
    digest: bytes | None
    last_modified: int | None = None

    @property
    def etag(self) -> ETag | None:
        """The strong tag made from the content: 128 bits of its SHA-256, so different bytes have different tags."""
        return None if self.digest is None else ETag(self.digest.hex()[:32])


@dataclass(frozen=True, slots=True)
class Asset:
    """The resource that a URL names.

    ``representations`` has identity first. ``negotiable`` says that other codings exist or may come to exist, so every
    answer varies on ``Accept-Encoding``; ``takes_deltas``, that it may come as ``dcz``, so every answer varies on
    ``Available-Dictionary`` as well. ``cache_fields`` and ``fields`` go on 200, 206 and 304 alike; ``fields`` on errors as
    well.
    """

    representations: tuple[Representation, ...]
    negotiable: bool = False
    cache_fields: tuple[Field, ...] = ()
    fields: tuple[Field, ...] = ()
    takes_deltas: bool = False
