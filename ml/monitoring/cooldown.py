"""What keeps retraining and alerts from running in circles."""

from datetime import date

from sqlalchemy import select

from core.settings import Settings
from core.store import Alert, DriftVerdict, store_session


def may_retrain(settings: Settings, as_of: date) -> bool:
    """Whether the last drift that was emitted lies at least ``retrain_cooldown_days`` of data time back."""
    with store_session(settings) as session:
        newest = session.scalars(select(DriftVerdict.as_of).where(DriftVerdict.emitted.is_(True))
                                 .order_by(DriftVerdict.as_of.desc()).limit(1)).first()
    return newest is None or (as_of - newest).days >= settings.retrain_cooldown_days


def alert_is_due(settings: Settings, kind: str, condition: list[str], as_of: date, repeat_after_days: int) -> bool:
    """Whether the condition is new, or was last alerted ``repeat_after_days`` of data time ago or more.

    A condition is the verdict and the features that breached; a metric joining or leaving makes it another one only
    when it was not part of the last alert, so that a look that fades away does not alert again. A verdict of fine in
    between ends the condition.
    """
    with store_session(settings) as session:
        last = session.scalars(select(Alert).where(Alert.kind == kind).order_by(Alert.alert_id.desc()).limit(1)).first()
        if last is None:
            return True
        since = date.fromisoformat(last.detail["as_of"])
        if since > as_of:
            return False
        fine = session.scalars(select(DriftVerdict).where(
            DriftVerdict.verdict == "fine", DriftVerdict.as_of > since, DriftVerdict.as_of < as_of).limit(1)).first()
    return (fine is not None or not set(condition) <= set(last.detail["condition"])
            or (as_of - since).days >= repeat_after_days)
