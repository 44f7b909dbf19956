"""The vault: a database of its own that maps pseudonyms back to sealed identifiers. Nothing downstream reads it."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, LargeBinary, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from core.keys import key_bytes, seal, unseal
from core.settings import Settings
from core.store import UtcDateTime, make_engine, utc_now
from ehr.records import VaultEntry


class VaultBase(DeclarativeBase):
    pass


class SealedIdentity(VaultBase):
    """One thing a pseudonym stands for, as one source told it. Different content of one key gives several rows."""

    __tablename__ = "sealed_identities"
    key: Mapped[str] = mapped_column(primary_key=True)
    content_digest: Mapped[str] = mapped_column(primary_key=True)  # keyed by the vault key
    kind: Mapped[str]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    first_seen_at: Mapped[datetime] = mapped_column(UtcDateTime(), default=utc_now)


@lru_cache(maxsize=8)
def _engine(url: str) -> Engine:
    engine = make_engine(url)
    VaultBase.metadata.create_all(engine)
    return engine


def keep_identities(settings: Settings, entries: Iterable[VaultEntry]) -> int:
    """Seal and store what is not there yet; returns how many rows were new. Safe to repeat."""
    key = key_bytes(settings.vault_key, "CUFF_VAULT_KEY")
    found: dict[tuple[str, str], tuple[str, bytes]] = {}
    for entry in entries:
        content = json.dumps(entry.content, sort_keys=True, ensure_ascii=False).encode()
        digest = hashlib.blake2b(content, key=key, digest_size=16).hexdigest()
        found[entry.key, digest] = (entry.kind, content)
    if not found:
        return 0
    settings.var.mkdir(parents=True, exist_ok=True)
    with Session(_engine(settings.vault_database_url())) as session, session.begin():
        known: set[tuple[str, str]] = set()
        keys = sorted({key for key, _digest in found})
        for start in range(0, len(keys), 500):
            rows = session.execute(
                select(SealedIdentity.key, SealedIdentity.content_digest).where(
                    SealedIdentity.key.in_(keys[start : start + 500])
                )
            )
            known |= {(row[0], row[1]) for row in rows}
        new = [
            SealedIdentity(key=name, content_digest=digest, kind=kind, sealed=seal(key, content, name))
            for (name, digest), (kind, content) in found.items()
            if (name, digest) not in known
        ]
        session.add_all(new)
    return len(new)


def reveal(settings: Settings, pseudonym: str) -> list[dict[str, Any]]:
    """What a pseudonym stands for, oldest first. For the privacy officer's tools only; callers audit it."""
    key = key_bytes(settings.vault_key, "CUFF_VAULT_KEY")
    with Session(_engine(settings.vault_database_url())) as session:
        rows = session.scalars(
            select(SealedIdentity).where(SealedIdentity.key == pseudonym).order_by(SealedIdentity.first_seen_at)
        )
        return [json.loads(unseal(key, row.sealed, row.key)) for row in rows]
