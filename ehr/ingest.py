"""Extracts in: receive, parse, scrub, land. One function, for the command line, the DAG and the tests."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from core.errors import InputError
from core.lake import locked_lake, writer_lock
from core.settings import Settings
from core.store import Payload, open_store, utc_now
from ehr import landing
from ehr.archive import sweep_partials
from ehr.batch import BatchRun, CountRow, complete_landed, open_batch, write_down
from ehr.intake import Arrival, Delivered, deliver, find_files, in_groups, left_over, register
from ehr.ledger import LedgerLine, sum_up
from ehr.sources import Source, load_sources

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class IngestSummary:
    """What one run took in. ``batch_id`` is None when nothing was new. ``ledger`` is this run's."""

    batch_id: int | None
    files: int
    new_payloads: int
    duplicate_files: int
    size_bytes: int
    seconds: float
    ledger: list[LedgerLine]

    @property
    def balanced(self) -> bool:
        return all(line.balances for line in self.ledger)


def ingest(
    settings: Settings,
    paths: Sequence[Path],
    as_of: date | None = None,
    source_id: str | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Take in every file under ``paths`` and whatever an earlier run left behind.

    ``as_of`` is the business day of the delivery (default today). ``progress`` is told (step, done, total). Errors:
    `InputError` for paths that hold nothing, files that cannot be opened or a source that is not declared,
    `LakeBusyError`; what a file holds never raises.
    """
    started = time.monotonic()
    sources = load_sources(settings.sources_file)
    if source_id is not None and source_id not in sources:
        raise InputError(f"source '{source_id}' is not declared in {settings.sources_file.name}")
    files = find_files(paths)
    run = _Run(settings, sources, source_id, as_of or utc_now().date(), progress or (lambda _step, _done, _total: None))
    run.take_in(files)
    size = sum(arrival.payload.size_bytes for arrival in run.arrivals)
    summary = IngestSummary(run.batch_id, len(files), len(run.arrivals), len(run.again), size,
                            time.monotonic() - started, run.ledger)  # fmt: skip
    if run.unreadable:
        raise InputError(f"{run.unreadable} of {len(files)} files could not be opened (the others landed); "
                         "check that they are still there and may be read, and run again")  # fmt: skip
    return summary


@dataclass
class _Run:
    settings: Settings
    sources: dict[str, Source]
    source_id: str | None
    as_of: date
    tell: Progress

    def __post_init__(self) -> None:
        self.arrivals: list[Arrival] = []
        self.again: list[Payload] = []
        self.ledger: list[LedgerLine] = []
        self.batch_id: int | None = None
        self.unreadable = 0

    def take_in(self, files: Sequence[Path]) -> None:
        with ingesting_alone(self.settings), writer_lock(self.settings), self._archiving(files) as groups, \
                locked_lake(self.settings) as lake:  # fmt: skip
            landing.create_raw_tables(lake)
            completed = complete_landed(self.settings, lake)
            batch: BatchRun | None = None
            self.tell("archiving", 0, len(files))
            for arrivals in self._arriving(groups, completed):
                if arrivals and batch is None:
                    batch = BatchRun(self.settings, lake, self.sources, open_batch(self.settings, self.as_of))
                if batch is not None:
                    self.tell("reading", min(self._done, len(files)), len(files))
                    batch.read(arrivals)
                self.arrivals += arrivals
                self.tell("archiving", min(self._done, len(files)), len(files))
            rows: dict[str, list[CountRow]] = {}
            if batch is not None:
                self.tell("landing", len(files), len(files))
                self.batch_id = batch.batch_id
                outcome, rows = batch.land()
                write_down(self.settings, batch.batch_id, outcome.payloads, rows, self.again)
            elif self.again:
                write_down(self.settings, None, [], {}, self.again)
        self.ledger = sum_up([(a.payload, rows[a.payload.payload_id]) for a in self.arrivals], self.again)

    @property
    def _done(self) -> int:
        return len(self.arrivals) + len(self.again)

    @contextmanager
    def _archiving(self, files: Sequence[Path]) -> Iterator[list[list[Future[Delivered]]]]:
        """Groups of files on their way into the archive: one thread works ahead, also while the lake opens."""
        sweep_partials(self.settings)
        with ThreadPoolExecutor(1, thread_name_prefix="archive") as archivist:
            try:
                yield [[archivist.submit(deliver, self.settings, file) for file in group] for group in in_groups(files)]
            finally:
                archivist.shutdown(cancel_futures=True)

    def _arriving(self, groups: list[list[Future[Delivered]]], completed: set[str]) -> Iterator[list[Arrival]]:
        """Group after group, archived and written down."""
        seen: set[str] = set()
        for group in groups:
            delivered = [item for future in group if (item := self._delivered(future)) is not None]
            arrivals, again = register(self.settings, delivered, self.sources, self.source_id, self.as_of)
            # A file that a killed run had landed is this delivery, not a second one; likewise within the run.
            for payload in again:
                if payload.payload_id in completed and payload.payload_id not in seen:
                    seen.add(payload.payload_id)
                else:
                    self.again.append(payload)
            self.again += [a.payload for a in arrivals if a.payload.payload_id in seen]
            arrivals = [a for a in arrivals if a.payload.payload_id not in seen]
            seen |= {a.payload.payload_id for a in arrivals}
            yield arrivals
        yield left_over(self.settings, seen)

    def _delivered(self, future: Future[Delivered]) -> Delivered | None:
        try:
            return future.result()
        except (PermissionError, FileNotFoundError):  # the latter: taken away since the folder was listed
            self.unreadable += 1
            return None


@contextmanager
def ingesting_alone(settings: Settings) -> Iterator[None]:
    """One ingesting process at a time, also where the lake itself takes several writers."""
    engine = open_store(settings)
    if engine.dialect.name != "postgresql":
        yield
        return
    with engine.connect() as connection:
        connection.exec_driver_sql("select pg_advisory_lock(7307)")
        try:
            yield
        finally:
            connection.exec_driver_sql("select pg_advisory_unlock(7307)")
