"""Was everything served as it was published? What the API logged of the store's rows against the same rows of the lake."""

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import func, select

from core.alerts import raise_alert
from core.keys import key_bytes, unseal
from core.lake import SnapshotNumbers, read_lake
from core.serving_tables import ServedPrediction, SkewCheck
from core.settings import Settings
from core.store import store_session, utc_now
from ml.features.catalog import FEATURE_NAMES, FEATURES, OBSERVED_COLUMNS
from ml.monitoring.rules import SkewRule, load_rules
from ml.monitoring.skew_record import keep_rates
from ml.monitoring.windows import has_snapshot

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_AT_A_TIME = 10_000
# A prediction is numbered shortly before it is committed: younger ones may still be joined by lower numbers.
_GRACE = timedelta(seconds=60)


@dataclass
class SkewOutcome:
    """Predictions compared, how many of them differ, and how many could not be compared (snapshot gone, seal broken)."""

    through_prediction_number: int
    compared: int = 0
    mismatched: int = 0
    unreadable: int = 0
    by_feature: Counter[str] = field(default_factory=Counter)
    breached: list[str] = field(default_factory=list)


def check_skew(settings: Settings, grace: timedelta = _GRACE) -> SkewOutcome:
    """Compare what was served from the store since the last check; nothing is written when there is nothing new.

    A prediction differs when any feature, or the day on which it was observed, is not that of its row of
    ``clinical.ml.patient_features`` at the snapshot it names, to the last bit; or when there is no such row. Killed and run
    again, it compares the same predictions again and replaces what it had written.
    """
    since, through = _unchecked(settings, grace)
    outcome = SkewOutcome(through)
    for snapshot in _snapshots(settings, since, through):
        _compare(settings, snapshot, since, outcome)
    if outcome.compared + outcome.unreadable == 0:
        return outcome
    rule = load_rules().skew
    if outcome.compared:
        outcome.breached = [name for name in FEATURE_NAMES if outcome.by_feature[name] / outcome.compared > rule.mismatch_rate]
    check = SkewCheck(through_prediction_number=through, compared=outcome.compared, mismatched=outcome.mismatched,
                      unreadable=outcome.unreadable, by_feature=dict(outcome.by_feature), checked_at=utc_now())
    keep_rates(settings, check, outcome.by_feature, rule.mismatch_rate, tell=lambda: _tell(settings, outcome, rule))
    return outcome


def _unchecked(settings: Settings, grace: timedelta) -> tuple[int, int]:
    """(the newest prediction that was checked, the newest that can be now)."""
    with store_session(settings) as session:
        since = session.scalar(select(func.max(SkewCheck.through_prediction_number))) or 0
        through = session.scalar(select(func.max(ServedPrediction.prediction_number))
                                 .where(ServedPrediction.served_at <= utc_now() - grace)) or 0
        return since, max(since, through)


def _snapshots(settings: Settings, since: int, through: int) -> list[int | None]:
    with store_session(settings) as session:
        return list(session.scalars(
            select(ServedPrediction.clinical_snapshot).distinct().order_by(ServedPrediction.clinical_snapshot)
            .where(ServedPrediction.source == "store", ServedPrediction.prediction_number > since,
                   ServedPrediction.prediction_number <= through)))


def _compare(settings: Settings, snapshot: int | None, since: int, outcome: SkewOutcome) -> None:
    """Add the predictions that name ``snapshot``, all with one connection to the lake."""
    with read_lake(settings, ("clinical",)) as newest:
        if snapshot is None or not has_snapshot(newest, snapshot):  # expired: nobody can say any more what it held
            for predictions in _predictions(settings, snapshot, since, outcome.through_prediction_number):
                outcome.unreadable += len(predictions)
            return
    with read_lake(settings, ("clinical",), SnapshotNumbers(clinical=snapshot)) as lake:
        for predictions in _predictions(settings, snapshot, since, outcome.through_prediction_number):
            rows = _rows(lake, predictions)
            for prediction in predictions:
                _add(settings, prediction, rows, outcome)


def _predictions(settings: Settings, snapshot: int | None, since: int, through: int) -> Iterator[list[ServedPrediction]]:
    while True:
        with store_session(settings) as session:
            some = list(session.scalars(
                select(ServedPrediction).order_by(ServedPrediction.prediction_number).limit(_AT_A_TIME)
                .where(ServedPrediction.source == "store", ServedPrediction.clinical_snapshot == snapshot,
                       ServedPrediction.prediction_number > since, ServedPrediction.prediction_number <= through)))
        if not some:
            return
        yield some
        since = some[-1].prediction_number


def _rows(lake: "DuckDBPyConnection", predictions: list[ServedPrediction]) -> dict[tuple[str, date], dict[str, Any]]:
    """The rows that these predictions say they were made from, by patient and day."""
    import pandas as pd

    named = {(each.patient_key, each.feature_date) for each in predictions}
    lake.register("named", pd.DataFrame(list(named), columns=["patient_key", "feature_date"]).astype(
        {"feature_date": "datetime64[s]"}))
    columns = ("patient_key", "feature_date", *FEATURE_NAMES, *OBSERVED_COLUMNS)
    found = lake.execute(f"""
        select {', '.join(columns)} from clinical.ml.patient_features
        where (patient_key, feature_date) in (select (patient_key, feature_date::date) from named)""").fetchall()
    lake.unregister("named")
    return {(row[0], row[1]): dict(zip(columns, row, strict=True)) for row in found}


def _add(settings: Settings, prediction: ServedPrediction, rows: dict[tuple[str, date], dict[str, Any]],
         outcome: SkewOutcome) -> None:
    from cryptography.exceptions import InvalidTag

    try:
        sealed = unseal(key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY"), prediction.features_sealed,
                        prediction.prediction_id)
        served = orjson.loads(sealed)
    except (InvalidTag, ValueError):
        outcome.unreadable += 1
        return
    row = rows.get((prediction.patient_key or "", prediction.feature_date or date.min))
    different = list(FEATURE_NAMES) if row is None else [
        feature.name for feature in FEATURES
        if not _is_same(served["features"].get(feature.name), row[feature.name])
        or served["observed_on"].get(feature.name) != _day(row, feature.name, feature.observed_in)]
    outcome.compared += 1
    outcome.mismatched += bool(different)
    outcome.by_feature.update(different)


def _is_same(served: Any, published: Any) -> bool:
    """Equal to the last bit: 0.0 is not -0.0, 1.0 is not 1 is not true."""
    if type(served) is not type(published):
        return False
    if isinstance(served, float):
        return struct.pack("<d", served) == struct.pack("<d", published)
    return bool(served == published)


def _day(row: dict[str, Any], name: str, observed_in: str | None) -> str | None:
    day = None if row[name] is None else row[observed_in or "feature_date"]
    return None if day is None else day.isoformat()


def _tell(settings: Settings, outcome: SkewOutcome, rule: SkewRule) -> None:
    total = outcome.compared + outcome.unreadable
    if outcome.breached:
        raise_alert(settings, "critical", "feature_skew",
                    f"{outcome.mismatched} of {outcome.compared} predictions were not made from the features as published",
                    {"features": {name: outcome.by_feature[name] for name in outcome.breached},
                     "through_prediction_number": outcome.through_prediction_number})
    if outcome.unreadable / total > rule.unreadable_rate:
        raise_alert(settings, "warning", "feature_skew_unknown",
                    f"{outcome.unreadable} of {total} predictions could not be compared with the features as published",
                    {"through_prediction_number": outcome.through_prediction_number})
