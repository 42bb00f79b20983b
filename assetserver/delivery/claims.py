"""Why a rendered answer may be repeated, and for how long that need not be asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from assetserver.errors import AssetServerError

OFFER = "assetserver.offer"
"""Under this name a scope may hold a function that takes a ``Claim``: the answer to come may be repeated."""

TRUST_S = 0.1
"""How long a claim is taken to hold once it was asked. Asking costs 0.5 µs; a tenth of a second later, nobody is wronged."""

_NEVER = float("-inf")


class Standing:
    """Until when claims are taken to hold without being asked, by their clock. Claims that fall together share one."""

    __slots__ = ("until_s",)

    def __init__(self) -> None:
        self.until_s = _NEVER


KindOf = Callable[[bytes], object]
"""Returns what of a target decides the answer, None for one that has an answer of its own."""


class Claim(NamedTuple):
    """Why an answer may be repeated: ``get(path)`` is still ``entry``, and ``clock_s()`` before ``deadline_s``.

    Once asked, it is taken to hold for ``trust_s``, 0 where a change must be seen at once; ``standing`` says so to all that
    share it: nobody is given an old answer after a new one. ``kind_of`` tells of other targets for which the answer is the
    same: those for which it returns the same, and not None, as for this one. It must hold for all that have this Host.
    """

    get: Callable[[Any], object]
    path: str
    entry: object
    clock_s: Callable[[], float]
    deadline_s: float
    trust_s: float = TRUST_S
    standing: Standing | None = None
    kind_of: KindOf | None = None

    def holds(self) -> bool:
        """Tell whether the answer would be the same now."""
        try:
            return self.get(self.path) is self.entry and self.clock_s() < self.deadline_s
        except AssetServerError:  # the slow path says what is wrong
            return False
