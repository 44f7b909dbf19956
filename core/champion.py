"""The champion as the ops database remembers it: enough to know whether there is one, without opening the registry."""

from sqlalchemy import select

from core.settings import Settings
from core.store import ModelEvent, ScoringRun, store_session

_ENTHRONING = ("promoted", "rolled_back")


def champion_version(settings: Settings) -> int | None:
    """The version that the newest change made champion, or None before the first."""
    with store_session(settings) as session:
        return session.scalars(
            select(ModelEvent.model_version).where(ModelEvent.action.in_(_ENTHRONING))
            .order_by(ModelEvent.model_event_id.desc()).limit(1)
        ).first()


def is_champion_unscored(settings: Settings) -> bool:
    """Whether there is a champion that the newest scoring was not made with."""
    champion = champion_version(settings)
    with store_session(settings) as session:
        newest = session.scalars(
            select(ScoringRun.model_version).order_by(ScoringRun.scoring_run_id.desc()).limit(1)
        ).first()
    return champion is not None and champion != newest
