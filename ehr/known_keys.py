"""Which record keys the lake holds, kept beside a connection that lands again and again.

A micro-batch must not read the whole history only to find that nothing of it came before. The keys' 64-bit hashes say so
at once: a hash that is not here is of no row of the lake. One that is may still be another key's: then the lake is asked.
"""

from duckdb import DuckDBPyConnection

TABLES = ("hl7v2_messages", "person_links")


class KnownKeys:
    """Hashes of ``record_key`` of ``TABLES``, in temp tables of the connection: 8 bytes a row of the lake.

    Only for whoever holds the lock from `catch_up` to `remember`.
    """

    def __init__(self, lake: DuckDBPyConnection) -> None:
        self._lake = lake
        self._through = -1  # newest batch whose rows are known
        for table in TABLES:
            lake.execute(f"create or replace temp table known_{table} (short_key ubigint)")

    def catch_up(self, batch_id: int) -> None:
        """Learn what others landed before the batch that begins now. Batches are numbered under the lock, so nothing is
        missed; files of batches that are known are not opened."""
        if batch_id == self._through + 1:
            return
        for table in TABLES:
            self._lake.execute(
                f"insert into known_{table} select hash(record_key) from clinical.raw.{table} "
                f"where batch_id > {int(self._through)} and batch_id < {int(batch_id)}"
            )
        self._through = batch_id - 1

    def may_hold(self, table: str) -> bool:
        """Whether the lake may hold a record key of ``new_{table}``."""
        found = self._lake.execute(
            f"select 1 from known_{table} as known semi join "
            f"(select hash(record_key) as short_key from new_{table}) as found using (short_key) limit 1"
        )
        return found.fetchone() is not None

    def remember(self, batch_id: int) -> None:
        """What is left in ``new_{table}`` is in the lake now."""
        for table in TABLES:
            self._lake.execute(f"insert into known_{table} select hash(record_key) from new_{table}")
        self._through = batch_id
