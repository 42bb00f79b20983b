"""Who asks, once that is known, and what they may: a value.

Scopes: ``upload`` creates uploads and does everything with its own; ``read`` sees all uploads; ``publish`` publishes releases;
``metrics`` sees what is counted; ``admin`` may all of that, with everything of everybody.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from .grants import Grant

ScopeName = Literal["upload", "publish", "read", "metrics", "admin"]
SCOPES: tuple[ScopeName, ...] = get_args(ScopeName)


class Principal(msgspec.Struct, frozen=True):
    """Who asks. ``id`` is the owner of what they upload; names of what they upload must begin with ``prefix``.

    ``grant`` is there for who came with one instead of a token. ``expires``: when their token ends (seconds since 1970), None
    for one that does not.
    """

    id: str
    scopes: frozenset[str]
    prefix: str = ""
    grant: Grant | None = None
    expires: float | None = None

    @property
    def account(self) -> str:
        """Whose quota counts what they upload: that of the token which made their grant, or "" for their own."""
        return "" if self.grant is None else self.grant.issuer

    def has_scope(self, *names: ScopeName) -> bool:
        """Tell whether one of the scopes is theirs; ``admin`` is all of them."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(names)

    def owns(self, owner: str) -> bool:
        """Tell whether what belongs to ``owner`` is theirs."""
        return self.id == owner
