"""What a file of a release says of others: values that are kept per blob, so that no file is looked into twice."""

from __future__ import annotations

import msgspec

FACTS_VERSION = 1
"""Part of where facts are kept: raised whenever `examine` finds something else in the same bytes."""


class Reference(msgspec.Struct, frozen=True, array_like=True):
    """A URL as it is written in a file (character references and escapes undone), and its line, counted from 1."""

    url: str
    line: int


class Preload(msgspec.Struct, frozen=True, array_like=True):
    """What a ``Link`` field could say of one subresource; the attributes are those of the element that asks for it.

    ``crossorigin`` is None where the element has none: a preload in another mode than the request is fetched twice.
    """

    url: str
    rel: str
    destination: str = ""
    crossorigin: str | None = None
    type: str = ""
    integrity: str = ""
    fetchpriority: str = ""
    imagesrcset: str = ""
    imagesizes: str = ""


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What ``examine`` found in a file; depends on its bytes and kind alone, not on its path.

    ``names``: file names that look hashed, sorted. ``preloads``: in the order of the document. ``base``: where relative URLs
    start, as ``<base href>`` writes it.
    """

    references: tuple[Reference, ...] = ()
    names: tuple[str, ...] = ()
    preloads: tuple[Preload, ...] = ()
    base: str = ""
