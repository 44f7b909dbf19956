"""Great Expectations on the lake: a SQLAlchemy dialect over duckdb-engine that leaves transactions alone.

Great Expectations reads results after it has closed its connection. DuckDB drops pending results with the rollback that
comes first, so nothing would be found (`IndexError` in ``resolve_metric_bundle``). Everything here is read-only, so begin,
commit and rollback may do nothing. One physical connection, with its views and settings, serves a whole gate.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from duckdb import DuckDBPyConnection
from duckdb_engine import ConnectionWrapper, Dialect
from sqlalchemy import Pool, StaticPool
from sqlalchemy.dialects import registry

_open: dict[str, DuckDBPyConnection] = {}


class GateDialect(Dialect):
    """Hands out the connection that the URL's database part names."""

    supports_statement_cache = False

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        # The connection itself: a cursor would not see what is registered or temporary.
        return ConnectionWrapper(_open[parameters.get("database") or arguments[0]])

    def do_begin(self, connection: Any) -> None:
        """Nothing to begin: see the module."""

    def do_commit(self, connection: Any) -> None:
        """Nothing to commit."""

    def do_rollback(self, connection: Any) -> None:
        """Nothing to roll back, and results must stay readable."""

    @classmethod
    def get_pool_class(cls, url: Any) -> type[Pool]:
        return StaticPool


registry.register("cufflake", __name__, "GateDialect")


@contextmanager
def engine_url(connection: DuckDBPyConnection) -> Iterator[str]:
    """A SQLAlchemy URL that reaches ``connection`` while the block lasts."""
    name = uuid4().hex
    _open[name] = connection
    try:
        yield f"cufflake:///{name}"
    finally:
        del _open[name]
