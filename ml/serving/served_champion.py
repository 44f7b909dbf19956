"""The champion that answers: loaded by verified digest, tried on golden people, and exchanged while requests go on.

Every few seconds the registry is asked who is champion. A new one is loaded and tried beside the one that answers, in a
thread, and takes its place with one assignment. One that fails (digest, features, golden predictions) is refused: the old one
stays, and a person is told once.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from core.alerts import raise_alert
from core.errors import CuffError, ModelError
from core.settings import Settings
from ml import registry
from ml.features.catalog import feature_hash
from ml.model.golden import check_golden
from ml.model.row_scoring import RowScorer
from ml.serving.metrics import CHAMPION, REFUSED, SWAPS

logger = logging.getLogger("cuff.serving")


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
        self._refused: int | None = None  # the version that was refused last; told once, tried again when the alias moves
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the champion, if there is one that can be used, and keep looking whether it changes."""
        await self.look()
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
        if version == self._refused:
            return
        try:
            served = await asyncio.to_thread(load_served, self._settings, version)
        except Exception as error:
            self._refused = version
            REFUSED.inc()
            why = str(error) if isinstance(error, CuffError) else type(error).__name__
            logger.error("version %d is not served: %s", version, why)
            if self._tells:
                await asyncio.to_thread(self._tell, version, answering, why)
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

    def _tell(self, version: int, answering: int | None, why: str) -> None:
        try:
            raise_alert(self._settings, "critical", "champion_refused",
                        f"version {version} became champion and cannot be served; "
                        f"{f'version {answering} still answers' if answering else 'nothing answers'}",
                        {"version": version, "why": why})  # fmt: skip
        except Exception as error:
            logger.error("the alert could not be raised: %s", type(error).__name__)


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
