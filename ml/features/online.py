"""The online features as the API reads them: a patient's newest row, with where it comes from and how old each value is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from core.errors import FeatureStoreError
from core.settings import Settings
from ml.features.catalog import FEATURES
from ml.features.definitions import TIME_TO_LIVE, online_path
from ml.features.online_cells import Materialization, OnlineCells, Row
from ml.features.online_redis import RedisCells
from ml.features.online_sqlite import SqliteCells
from ml.features.wire import decode

Value = float | bool | str | None
_NAMES_AND_DAYS = tuple((feature.name, feature.observed_in) for feature in FEATURES)


@dataclass(frozen=True)
class OnlineRow:
    """One patient's newest row. ``clinical_snapshot`` is one in which exactly this row can be found.

    ``values`` and ``observed_on`` have every feature's name: a missing value is None and has no day; what is worked out on
    the feature date (ages, counts, means, whether there is a diagnosis) was observed then.
    """

    patient_key: str
    feature_date: date
    build_id: int
    clinical_snapshot: int
    is_eligible: bool
    source_ids: tuple[str, ...]
    values: dict[str, Value]
    observed_on: dict[str, date | None]


class OnlineFeatures:
    """Reads the store that `materialize` fills; sees a newer materialisation with the next read. Safe to share between threads.

    Errors of every method but `is_reachable`: `FeatureStoreError` when the store is absent or does not answer.
    """

    def __init__(self, settings: Settings, today: Callable[[], date] | None = None) -> None:
        self._cells: OnlineCells = (
            RedisCells(settings.online_store) if settings.online_store else SqliteCells(online_path(settings)))
        # A simulated hospital lives in its own time.
        self._today = today or (None if settings.environment == "development" else lambda: datetime.now(UTC).date())

    def read(self, patient_keys: Sequence[str]) -> list[OnlineRow | None]:
        """One row per key, in order; None for who is unknown, or whose newest row is beyond the time to live."""
        run, rows = self._cells.fetch(patient_keys)
        oldest = (self._today() if self._today else run.as_of) - TIME_TO_LIVE
        return [_online_row(key, row, run, oldest) if row else None for key, row in zip(patient_keys, rows, strict=True)]

    def patient_of(self, person_key: str) -> str | None:
        """The patient that a person of some source is; None where the store has no such patient."""
        linked = self._cells.patient_of(person_key)
        if linked is not None:
            return linked
        return person_key if self._cells.fetch([person_key])[1][0] else None

    def today(self) -> date:
        """The day against which age is judged: the clock's; in development the day of the newest published data."""
        return self._today() if self._today else self._cells.newest().as_of

    def is_reachable(self) -> bool:
        """Whether a finished materialisation can be read now."""
        try:
            self._cells.newest()
        except FeatureStoreError:
            return False
        return True

    def sample(self, number: int) -> list[str]:
        """Any ``number`` patient keys, for the demonstration page."""
        return self._cells.sample(number)


def _online_row(patient_key: str, cells: Row, run: Materialization, oldest: date) -> OnlineRow | None:
    feature_date = date.fromisoformat(str(decode(cells["feature_date"])))
    if feature_date <= oldest:
        return None
    values: dict[str, Value] = {}
    observed_on: dict[str, date | None] = {}
    days: dict[str, date | None] = {}
    for name, column in _NAMES_AND_DAYS:
        value = values[name] = decode(cells.get(name))
        if value is None:
            observed_on[name] = None
        elif column is None:
            observed_on[name] = feature_date
        else:
            if column not in days:
                day = decode(cells.get(column))
                days[column] = date.fromisoformat(str(day)) if day else None
            observed_on[name] = days[column]
    # A row that this run left as it was is a row of its snapshot too; one with a higher number belongs to a run under way.
    is_newer = _whole(cells, "materialization") > run.number
    build_id, snapshot = ((_whole(cells, "build_id"), _whole(cells, "clinical_snapshot")) if is_newer
                          else (run.build_id, run.clinical_snapshot))
    sources = decode(cells.get("source_ids"))
    return OnlineRow(patient_key, feature_date, build_id, snapshot, decode(cells.get("is_eligible")) is True,
                     tuple(str(sources).split(",")) if sources else (), values, observed_on)


def _whole(cells: dict[str, bytes], column: str) -> int:
    return int(decode(cells.get(column)) or 0)
