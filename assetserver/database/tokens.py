"""Tokens and the uses of grants in SQL: the engines of ``access.tokens.TokenRecords`` and ``access.grants.GrantRecords``."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from assetserver.access.grants import SKEW_S, Grant
from assetserver.access.tokens import TokenRecord

from .connections import Database
from .schema import grant_uses, tokens


class SqlTokens:
    """The tokens in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, record: TokenRecord) -> None:
        """Keep a new token; see ``TokenRecords.add``."""
        with self._database.write() as connection:
            connection.execute(insert(tokens).values(_to_row(record)))

    def find(self, token_id: str) -> TokenRecord | None:
        """Return the token with this id, revoked ones too, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).first()
        return None if row is None else _to_record(row)

    def list_all(self) -> list[TokenRecord]:
        """Return all tokens, the oldest first."""
        with self._database.read() as connection:
            return [_to_record(row) for row in connection.execute(select(tokens).order_by(tokens.c.created, tokens.c.id))]

    def revoke(self, token_id: str, now: float) -> bool:
        """Make a token void; see ``TokenRecords.revoke``."""
        with self._database.write() as connection:
            wanted = (tokens.c.id == token_id, tokens.c.revoked.is_(None))
            return connection.execute(update(tokens).where(*wanted).values(revoked=now)).rowcount > 0


class SqlGrants:
    """The uses of grants in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, grant: Grant) -> bool:
        """Count a use of ``grant``; see ``GrantRecords.claim``. Whether one is left is looked at while nobody else writes."""
        if grant.uses == 0:
            return True
        with self._database.write() as connection:
            used = connection.execute(select(grant_uses.c.uses).where(grant_uses.c.id == grant.id)).scalar()
            if used is None:
                connection.execute(insert(grant_uses).values(id=grant.id, uses=1, expires=grant.expires))
            elif used < grant.uses:
                connection.execute(update(grant_uses).where(grant_uses.c.id == grant.id).values(uses=used + 1))
            return used is None or used < grant.uses

    def release(self, grant: Grant) -> None:
        """Take a use back."""
        with self._database.write() as connection:
            wanted = (grant_uses.c.id == grant.id, grant_uses.c.uses > 0)
            connection.execute(update(grant_uses).where(*wanted).values(uses=grant_uses.c.uses - 1))

    def forget_expired(self, now: float) -> int:
        """Forget the grants that can be used no more; see ``GrantRecords.forget_expired``."""
        with self._database.write() as connection:
            return connection.execute(delete(grant_uses).where(grant_uses.c.expires < now - 2 * SKEW_S)).rowcount


def _to_row(record: TokenRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "digest": record.digest,
        "scopes": " ".join(record.scopes),
        "prefix": record.prefix,
        "note": record.note,
        "created": record.created,
        "expires": record.expires,
        "revoked": record.revoked,
    }


def _to_record(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        row.id, row.digest, tuple(row.scopes.split()), row.created, row.prefix, row.note, row.expires, row.revoked
    )
