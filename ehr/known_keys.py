"""Which record keys the lake holds, kept beside a connection that lands again and again.

A micro-batch must not read the whole history only to find that nothing of it came before. The keys' 64-bit hashes say so
at once: a hash that is not here is of no row of the lake. One that is may still be another key's: then the lake is asked.
"""

from duckdb import DuckDBPyConnection


class KnownKeys:
    """Hashes of ``record_key``, in temp tables of the connection: 8 bytes a row of each landing table that was asked for.

    Only for whoever holds the lock from `begin` to `remember`.
    """

    def __init__(self, lake: DuckDBPyConnection) -> None:
        self._lake = lake
        self._batch_id = 0
        self._asked: set[str] = set()
        self._through: dict[str, int] = {}  # table -> newest batch whose rows are known

    def begin(self, batch_id: int) -> None:
        """A batch begins. Batches are numbered under the lock, so nothing of an older number lands behind it."""
        self._batch_id = batch_id
        self._asked.clear()

    def may_hold(self, table: str) -> bool:
        """Whether the lake may hold a record key of ``new_{table}``."""
        if self._lake.execute(f"select 1 from new_{table} limit 1").fetchone() is None:
            return False
        self._catch_up(table)
        self._asked.add(table)
        found = self._lake.execute(
            f"select 1 from known_{table} as known semi join "
            f"(select hash(record_key) as short_key from new_{table}) as found using (short_key) limit 1"
        )
        return found.fetchone() is not None

    def remember(self) -> None:
        """What this batch asked about is in the lake now. Tables that it did not ask about catch up when they are."""
        for table in self._asked:
            self._lake.execute(f"insert into known_{table} select hash(record_key) from new_{table}")
            self._through[table] = self._batch_id

    def _catch_up(self, table: str) -> None:
        """Learn what others landed since; files of batches that are known are not opened."""
        if table not in self._through:
            self._lake.execute(f"create or replace temp table known_{table} (short_key ubigint)")
            self._through[table] = -1
        if self._through[table] < self._batch_id - 1:
            self._lake.execute(
                f"insert into known_{table} select hash(record_key) from clinical.raw.{table} "
                f"where batch_id > {self._through[table]} and batch_id < {self._batch_id}"
            )
            self._through[table] = self._batch_id - 1
