"""Tables of the ops database for the inference API: every prediction as it was answered, with what it was made from."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from core.store import Base, row_number, utc_now


class ServedPrediction(Base):
    """One answer of the API, written before it was given. ``features_sealed`` is JSON, sealed under CUFF_ARCHIVE_KEY with
    ``prediction_id`` as context: ``{"features": {name: value}, "observed_on": {name: date}}``, exactly as the model got it."""

    __tablename__ = "served_predictions"
    prediction_number: Mapped[int] = row_number()
    prediction_id: Mapped[str] = mapped_column(unique=True)  # UUID 7, hex: the answer names it
    served_at: Mapped[datetime] = mapped_column(default=utc_now)
    client: Mapped[str]  # `sub` of the token
    source: Mapped[str]  # store | given | cds
    patient_key: Mapped[str | None]  # null where the values were given without a person
    feature_date: Mapped[date | None]  # of the row of the store
    build_id: Mapped[int | None]  # the published build and snapshot that the row of the store came from
    clinical_snapshot: Mapped[int | None]
    model_version: Mapped[int]
    risk: Mapped[float]
    band: Mapped[str]  # low | moderate | high
    features_sealed: Mapped[bytes] = mapped_column(LargeBinary)


class SkewCheck(Base):
    """One comparison of what the API served from the store with the same rows recomputed offline."""

    __tablename__ = "skew_checks"
    skew_check_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    through_prediction_number: Mapped[int] = mapped_column(BigInteger())  # the newest prediction that has been compared
    compared: Mapped[int]
    mismatched: Mapped[int]  # predictions with at least one feature that differs
    unreadable: Mapped[int]  # whose snapshot is gone
    by_feature: Mapped[dict[str, Any]]  # feature -> predictions in which it differs; those in which none does are left out
    checked_at: Mapped[datetime] = mapped_column(default=utc_now)
