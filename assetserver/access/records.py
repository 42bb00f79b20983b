"""What is kept of access, in one place: the interfaces that a database engine implements."""

from __future__ import annotations

from typing import NamedTuple

from .grants import GrantRecords
from .tokens import TokenRecords


class AccessRecords(NamedTuple):
    """Where tokens and the uses of grants are kept."""

    tokens: TokenRecords
    grants: GrantRecords
