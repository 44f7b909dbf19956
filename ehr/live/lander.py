"""One micro-batch of live payloads into the lake, by the road that files take: `ehr.batch` under the same lock.

The lake's connection is kept between two micro-batches, the lock is not: whatever another process wrote meanwhile is seen,
because each transaction reads the newest snapshot.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import BinaryIO

from duckdb import DuckDBPyConnection
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from core.feed_tables import InboxEntry
from core.keys import key_bytes
from core.lake import attach, connect, writer_lock
from core.maintenance import tidy_landing
from core.settings import Settings
from core.store import LedgerEntry, Payload, store_session
from ehr import landing
from ehr.batch import BatchRun, complete_landed, open_batch, write_down
from ehr.ingest import ingesting_alone
from ehr.intake import Arrival, payloads_by_id
from ehr.known_keys import KnownKeys
from ehr.live.inbox import unsealed_content
from ehr.live.transport import Announced, Position
from ehr.quarantine import quarantine_rows
from ehr.records import Reject
from ehr.sources import Source, load_sources

_IDS_AT_A_TIME = 500


@dataclass(frozen=True)
class LiveArrival(Arrival):
    """A payload that arrived over the wire, with its bytes."""

    content: bytes = b""

    def open(self) -> BinaryIO:
        return BytesIO(self.content)

    def read_bytes(self) -> bytes:
        return self.content


@dataclass(frozen=True)
class Landed:
    """What one micro-batch brought; ``batch_id`` is None where everything had landed before."""

    batch_id: int | None
    payloads: int
    quarantined: int


class Lander:
    """Lands micro-batches, one after the other. After an error the next one begins with a new connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lake: DuckDBPyConnection | None = None
        self._known: KnownKeys | None = None
        self._sources: dict[str, Source] = {}
        self._sources_read: int | None = None

    def land(self, announced: Sequence[Announced], positions: Sequence[Position] = ()) -> Landed:
        """Land what of ``announced`` is still ``received``, and move ``positions`` with it. Errors: `LakeBusyError`, and
        whatever a lake or an ops database that is away gives."""
        with ingesting_alone(self._settings), self._writing() as lake:
            complete_landed(self._settings, lake)
            arrivals = self._still_waiting(announced)
            if not arrivals:
                if positions:
                    write_down(self._settings, None, [], {}, positions=positions)
                return Landed(None, 0, 0)
            batch_id = open_batch(self._settings, _as_of(arrivals))
            run = BatchRun(self._settings, lake, self._declared(), batch_id, self._known)
            run.read(arrivals)
            outcome, rows = run.land()
            write_down(self._settings, batch_id, outcome.payloads, rows, positions=positions)
            return Landed(batch_id, len(arrivals), sum(map(len, outcome.rejects.values())))

    def tidy(self) -> None:
        """Merge the small files that micro-batches leave, and let go of what the catalog's client keeps of each commit."""
        with ingesting_alone(self._settings), self._writing() as lake:
            tidy_landing(self._settings, lake)
            lake.execute("detach clinical")
            attach(lake, self._settings, "clinical", read_only=False)

    def close(self) -> None:
        if self._lake is not None:
            self._lake.close()
            self._lake = self._known = None

    @contextmanager
    def _writing(self) -> Iterator[DuckDBPyConnection]:
        with writer_lock(self._settings):
            try:
                if self._lake is None:
                    self._lake = connect(self._settings)
                    # No file is read twice here: the cache would only grow with each merge.
                    self._lake.execute("set enable_external_file_cache = false")
                    attach(self._lake, self._settings, "clinical", read_only=False)
                    landing.create_raw_tables(self._lake)
                    self._known = KnownKeys(self._lake)
                yield self._lake
            except BaseException:
                self.close()
                raise

    def _still_waiting(self, announced: Sequence[Announced]) -> list[Arrival]:
        """Those that have not landed, with their bytes, in the order of arrival."""
        known = {each.payload_id: each.content for each in sorted(announced, key=lambda each: each.inbox_sequence)}
        with store_session(self._settings) as session:
            payloads = payloads_by_id(session, list(known))
            waiting = [payloads[payload_id] for payload_id in known
                       if payload_id in payloads and payloads[payload_id].state == "received"]  # fmt: skip
            missing = [payload.payload_id for payload in waiting if known[payload.payload_id] is None]
            contents = known | read_contents(self._settings, session, missing)
        return [LiveArrival(self._settings, payload, content=contents[payload.payload_id] or b"") for payload in waiting]

    def _declared(self) -> dict[str, Source]:
        """What ``sources.toml`` declares, read again when it was changed."""
        file = self._settings.sources_file
        changed_ns = file.stat().st_mtime_ns if file.exists() else 0
        if changed_ns != self._sources_read:
            self._sources, self._sources_read = load_sources(file), changed_ns
        return self._sources

    def set_aside(self, announced: Announced, error: Exception) -> None:
        """Quarantine a payload that the reader cannot even refuse, so that those behind it land. A replay tries it again."""
        with ingesting_alone(self._settings), store_session(self._settings) as session:
            payload = session.get(Payload, announced.payload_id)
            if payload is None or payload.state != "received":
                return
            unit = "resource" if payload.format == "fhir" else "message"
            reject = Reject(unit, "unknown", unit, "reader_failed", f"the reader ended with {type(error).__name__}")
            session.add_all(quarantine_rows([payload], {payload.payload_id: [reject]}))
            session.execute(insert(LedgerEntry), [{
                "payload_id": payload.payload_id, "source_id": payload.source_id, "unit": unit, "type": "unknown",
                "received": 1, "quarantined": 1}])  # fmt: skip
            payload.state = "quarantined"


def read_contents(settings: Settings, session: Session, payload_ids: Sequence[str]) -> dict[str, bytes]:
    """The plain bytes of live payloads, many at once. Errors: `ArchiveError` when they are not what was stored."""
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    found: dict[str, bytes] = {}
    for start in range(0, len(payload_ids), _IDS_AT_A_TIME):
        some = payload_ids[start:start + _IDS_AT_A_TIME]
        for payload_id, sealed in session.execute(
            select(InboxEntry.payload_id, InboxEntry.content).where(InboxEntry.payload_id.in_(some))
        ):
            found[payload_id] = unsealed_content(key, payload_id, sealed)
    return found


def _as_of(arrivals: Sequence[Arrival]) -> date:
    return max(arrival.payload.as_of for arrival in arrivals)
