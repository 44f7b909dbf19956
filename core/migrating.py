"""Bringing the ops database to the newest Alembic revision, whoever comes first."""

from pathlib import Path

from sqlalchemy import Engine

from core.settings import PROJECT_ROOT

_migrated: set[str] = set()


def migrate(engine: Engine) -> None:
    """Bring the ops database to the newest Alembic revision; safe when several processes start at once."""
    key = str(engine.url)
    if key in _migrated and (engine.dialect.name != "sqlite" or _file_exists(engine)):
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(PROJECT_ROOT / "core" / "migrations"))
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("select pg_advisory_lock(7305)")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if engine.dialect.name != "sqlite":
            connection.exec_driver_sql("select pg_advisory_unlock(7305)")
        connection.commit()
    _migrated.add(key)


def _file_exists(engine: Engine) -> bool:
    return engine.url.database is not None and Path(engine.url.database).exists()
