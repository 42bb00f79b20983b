"""Which content coding to send. Source: RFC 9110 §12.5.3.

Highest weight wins; equal weights go to the smaller representation, then to the order br, zstd, gzip, identity. ``dcz`` has
a weight only where it is named: ``*`` says nothing of a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from .fields import parse_weighted_list
from .representation import ContentCoding, Representation

LIMIT_BYTES = 1024
"""Longest ``Accept-Encoding`` that is read; a longer one counts as empty: identity."""

Weights = tuple[int, ...]
"""Weight in thousandths for each ``ContentCoding``, in its order; -1 for one that the client did not name."""

_UNNAMED = -1
_CODINGS = tuple(ContentCoding)
_POSITION = {coding: index for index, coding in enumerate(_CODINGS)}
_ALIASES = {"x-gzip": "gzip"}
"""``x-gzip`` is to be taken as ``gzip`` (RFC 9110 §8.4.1.3)."""


def parse_accept_encoding(text: str | None) -> Weights:
    """Return the weight that an ``Accept-Encoding`` value gives each coding.

    None (no such field) and "" both come to identity: the first allows every coding, yet a client that says nothing
    cannot be trusted to decode. ``*`` covers the codings that are not named.
    """
    if not text or len(text) > LIMIT_BYTES:  # before the cache: it would keep 512 values of any length
        return (0, 0, 0, 0, _UNNAMED)
    return _parse_weights(text)


@lru_cache(maxsize=512)
def _parse_weights(text: str) -> Weights:
    named: dict[str, int] = {}
    for name, weight in parse_weighted_list(text):
        token = _ALIASES.get(name, name)
        named[token] = max(weight, named.get(token, 0))
    wildcard = named.get("*")
    others = 0 if wildcard is None else wildcard
    weights = [named.get(coding.value, others) for coding in _CODINGS[1:-1]]
    identity = named.get("identity", _UNNAMED if wildcard is None else wildcard)
    return (named.get(ContentCoding.DCZ.value, 0), *weights, identity)


def accepts_compression(weights: Weights) -> bool:
    """Tell whether any coding is acceptable that needs no dictionary, but identity."""
    return any(weight > 0 for weight in weights[1:-1])


def accepts_deltas(weights: Weights) -> bool:
    """Tell whether ``dcz`` is acceptable."""
    return weights[0] > 0


def select_representation(available: Sequence[Representation], weights: Weights) -> Representation | None:
    """Return the best acceptable of ``available`` (identity first), or None if the client refuses them all.

    Identity that is not named stays acceptable, behind every coding that was asked for.
    """
    if len(available) == 1 and weights[-1]:
        return available[0]
    best = None
    best_rank: tuple[int, int, int] | None = None
    for candidate in available:
        position = _POSITION[candidate.coding]
        weight = weights[position]
        if weight == 0:
            continue
        rank = (-weight, candidate.length, position)
        if best_rank is None or rank < best_rank:
            best, best_rank = candidate, rank
    return best
