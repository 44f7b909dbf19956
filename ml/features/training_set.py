"""The training set: labels joined to what was known of the patient at the landmark, at one published snapshot."""

from typing import TYPE_CHECKING

from core.lake import SnapshotNumbers, read_lake
from core.publication import Published
from core.settings import Settings
from ml.features.catalog import CATEGORICAL, FEATURE_NAMES, LABEL_WINDOW_DAYS
from ml.features.point_in_time import joined_by_time

if TYPE_CHECKING:
    import pandas as pd
    from duckdb import DuckDBPyConnection

# A feature row older than this no longer describes the patient at the landmark.
MAXIMUM_FEATURE_AGE_DAYS = 31


def training_set(settings: Settings, published: Published) -> "pd.DataFrame":
    """Every labelled example whose window has closed by ``published.as_of``, in a fixed order.

    Columns: ``patient_key, landmark_date, label`` (0/1), ``weight`` and the features. A landmark whose window is still open
    is left out whole: by then only its events are labelled, and training on them would overstate the risk.

    For the same reason ``weight`` is above 1 for who stayed without event: an event is known when it happens, its absence
    only when the patient is seen again after the window. Each such row also stands for the censored of its landmark
    (inverse probability of censoring), so that a young landmark does not look riskier than it was. It does not stand for
    the prevalent: they were not at risk.
    """
    with read_lake(settings, ("clinical",), SnapshotNumbers(clinical=published.clinical_snapshot)) as lake:
        return typed(read_training_set(lake, published.as_of.isoformat()))


def read_training_set(lake: "DuckDBPyConnection", as_of: str) -> "pd.DataFrame":
    """The point-in-time join (``feature_date <= landmark_date``) on an attached ``clinical`` catalog."""
    joined = joined_by_time("examples", "landmark_date", "clinical.ml.patient_features", "feature_date",
                            str(MAXIMUM_FEATURE_AGE_DAYS))
    return lake.execute(
        f"""
        with examples as (
            select *, case label when 0 then count(*) filter (where outcome in ('no_event', 'censored')) over landmark
                / count(*) filter (where label = 0) over landmark else 1.0 end as weight
            from clinical.ml.hypertension_examples
            where landmark_date + {LABEL_WINDOW_DAYS} <= $as_of::date
            window landmark as (partition by landmark_date)
        )
        select patient_key, landmark_date, label::integer as label, weight, {', '.join(FEATURE_NAMES)}
        from ({joined})
        where label is not null and feature_date is not null
        order by landmark_date, patient_key
        """,
        {"as_of": as_of},
    ).df()


def typed(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The same rows with categories as str or None and every other feature as float64, missing as NaN."""
    for name in FEATURE_NAMES:
        if name in CATEGORICAL:
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        else:
            frame[name] = frame[name].astype("float64")
    return frame
