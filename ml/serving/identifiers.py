"""A hospital's number for a person → the pseudonym, known to the vault or not. The number itself goes nowhere."""

from functools import lru_cache

from sqlalchemy import Engine, column, inspect, select, table
from sqlalchemy.exc import DBAPIError

from core.keys import key_bytes, pseudonym
from core.settings import Settings
from core.store import make_engine

_IDENTITIES = table("sealed_identities", column("key"))


def person_key_of(settings: Settings, system: str, value: str) -> str | None:
    """The pseudonym of the person with this number, None where the vault does not know it. Errors: what the vault's
    database raises."""
    key = pseudonym(key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET"), "person", system, value)
    engine = _engine(settings.vault_database_url())
    try:
        with engine.connect() as vault:
            known = vault.execute(select(_IDENTITIES.c.key).where(_IDENTITIES.c.key == key).limit(1)).scalar()
    except DBAPIError:
        if inspect(engine).has_table(_IDENTITIES.name):
            raise
        return None  # nothing was ever ingested here, so nobody is known
    return key if known else None


@lru_cache(maxsize=4)
def _engine(url: str) -> Engine:
    return make_engine(url)
