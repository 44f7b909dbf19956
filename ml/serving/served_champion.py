"""The champion that answers: loaded by verified digest, tried on golden people, and exchanged while requests go on.

Every few seconds the registry is asked who is champion. A new one is loaded and tried beside the one that answers, in a
thread, and takes its place with one assignment. One that fails (digest, features, golden predictions) is refused: the old one
stays, and a person is told once. A worker that starts while the champion is refused has no old one: it takes the newest
champion before it that passes, so that all workers answer with the same.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from core.alerts import raise_alert
from core.errors import CuffError, ModelError
from core.settings import Settings
from core.store import Alert, ModelEvent, store_session, utc_now
from ml import registry
from ml.features.catalog import feature_hash
from ml.model.golden import check_golden
from ml.model.row_scoring import RowScorer
from ml.serving.metrics import CHAMPION, REFUSED, SWAPS

logger = logging.getLogger("cuff.serving")
AGAIN_SECONDS = 60.0  # what was refused is tried again: its files may have been out of reach, or were restored
_TOLD_ONCE_IN = timedelta(hours=1)
_EARLIER_TRIED = 3


@dataclass(frozen=True)
class Served:
    """A version that passed every check. ``rows`` is for one thread at a time: the scorer's."""

    version: int
    rows: RowScorer
    run_id: str
    tags: dict[str, str]
    feature_hash: str
    label_hash: str


class ServedChampion:
    """``current`` is what answers now; None before the first. ``tells``: whether it raises alerts; one of all workers does."""

    def __init__(self, settings: Settings, tells: bool = True) -> None:
        self._settings, self._tells = settings, tells
        self.current: Served | None = None
        self._refused: int | None = None  # the champion that was refused; tried again when the alias moves
        self._refused_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the champion, or else the last that can be used, and keep looking whether it changes."""
        await self.look()
        if self.current is None and self._refused is not None:
            self.current = await asyncio.to_thread(self._earlier, self._refused)
            if self.current is not None:
                CHAMPION.set(self.current.version)
                logger.warning("version %d answers, a champion before", self.current.version)
        self._looking = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def look(self) -> None:
        """Take the registry's champion if it is another one than answers, and can be used. Never raises."""
        try:
            version = await asyncio.to_thread(registry.champion_version, self._settings)
        except Exception as error:  # the registry is away: what answers goes on
            logger.warning("the registry cannot be asked for the champion: %s", type(error).__name__)
            return
        answering = self.current.version if self.current is not None else None
        if version is None or version == answering:
            self._refused = None  # an alias that moved away and comes back is tried again
            return
        is_known = version == self._refused
        if is_known and time.monotonic() - self._refused_at < AGAIN_SECONDS:
            return
        try:
            served = await asyncio.to_thread(load_served, self._settings, version)
        except Exception as error:
            self._refused, self._refused_at = version, time.monotonic()
            if not is_known:
                await self._refuse(version, answering, error)
            return
        self.current, self._refused = served, None
        CHAMPION.set(version)
        if answering is not None:
            SWAPS.inc()
            logger.warning("version %d answers, in place of %d", version, answering)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._settings.serve_champion_seconds)
            await self.look()

    async def _refuse(self, version: int, answering: int | None, error: Exception) -> None:
        REFUSED.inc()
        why = str(error) if isinstance(error, CuffError) else type(error).__name__
        logger.error("version %d is not served: %s", version, why)
        if self._tells:
            await asyncio.to_thread(self._tell, version, answering, why)

    def _tell(self, version: int, answering: int | None, why: str) -> None:
        stays = f"version {answering} still answers" if answering else "an earlier champion answers, if there is one"
        try:
            if not self._was_told(version):
                raise_alert(self._settings, "critical", "champion_refused",
                            f"version {version} became champion and cannot be served; {stays}",
                            {"version": version, "why": why})  # fmt: skip
        except Exception as failure:
            logger.error("the alert could not be raised: %s", type(failure).__name__)

    def _was_told(self, version: int) -> bool:
        """Whether this was told a short while ago, before this worker started or the alias moved to and fro."""
        with store_session(self._settings) as session:
            told = session.scalars(select(Alert.detail).where(
                Alert.kind == "champion_refused", Alert.raised_at > utc_now() - _TOLD_ONCE_IN))
            return any(detail.get("version") == version for detail in told)

    def _earlier(self, refused: int) -> Served | None:
        """The newest champion before the one refused that passes; None where there is none, or the books are away."""
        try:
            with store_session(self._settings) as session:
                versions = session.scalars(select(ModelEvent.model_version).where(
                    ModelEvent.action.in_(("promoted", "rolled_back"))).order_by(ModelEvent.model_event_id.desc())).all()
        except Exception as error:
            logger.error("earlier champions cannot be asked for: %s", type(error).__name__)
            return None
        for version in list(dict.fromkeys(each for each in versions if each != refused))[:_EARLIER_TRIED]:
            try:
                return load_served(self._settings, version)
            except Exception as error:
                logger.error("version %d is not served either: %s", version, type(error).__name__)
        return None


def load_served(settings: Settings, version: int) -> Served:
    """A version with its digest verified, its features ours, and its golden predictions as registered; warmed up.

    Errors: `ModelError` saying which of these it fails.
    """
    loaded = registry.load_version(settings, version)
    if loaded.tags.get("feature_hash") != feature_hash():
        raise ModelError(f"version {version} was trained on other feature definitions; `cuff rollback`, or train a new one")
    rows = RowScorer(loaded.model)
    check_golden(loaded.model, rows, loaded.folder, loaded.tags)  # which warms it up as well
    return Served(version, rows, loaded.run_id, loaded.tags, loaded.tags["feature_hash"], loaded.tags.get("label_hash", ""))
