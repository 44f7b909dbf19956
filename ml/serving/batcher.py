"""Requests that wait at the same time are looked up, predicted and explained together, in one thread.

CatBoost, SQLite and Redis cost per call what they cost per dozen rows. Nobody waits for a batch to fill: what comes while one
is in hand makes the next. A batch takes the champion once, so an answer is never of two models.
"""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from core.errors import CuffError, ModelError
from ml.features.online import OnlineFeatures, OnlineRow
from ml.serving.metrics import BATCH_PEOPLE
from ml.serving.risk import Assessment, Person, assess

if TYPE_CHECKING:
    from ml.serving.served_champion import ServedChampion

_LARGEST_BATCH = 64  # requests
_MANY_PEOPLE = 250  # enough for one batch: whoever asks for one person does not wait for thousands


@dataclass(frozen=True)
class Found:
    """What the store has of a patient. ``assessment`` is None where the model is not meant for them."""

    row: OnlineRow
    person: Person
    assessment: Assessment | None


@dataclass(frozen=True)
class _Asked:
    """Either people, or a patient of the store with who may see it."""

    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[list[Assessment] | Found | None]"
    persons: Sequence[Person] = ()
    patient_key: str | None = None
    source_ids: frozenset[str] | None = None


class Scorer:
    """One thread; any number of requests of one event loop."""

    def __init__(self, champion: "ServedChampion", features: OnlineFeatures) -> None:
        self._champion, self._features = champion, features
        self._waiting: list[_Asked] = []
        self._work = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="scorer", daemon=True)
        self._thread.start()

    async def score(self, persons: Sequence[Person]) -> list[Assessment]:
        """Errors: `ModelError` without a champion."""
        found = await self._ask(persons=persons)
        assert isinstance(found, list)
        return found

    async def from_store(self, patient_key: str, source_ids: frozenset[str] | None = None) -> Found | None:
        """None for who is unknown, whose row is too old, or of whom none of ``source_ids`` told (None: all may be seen).

        Errors: `ModelError` without a champion; `FeatureStoreError`.
        """
        found = await self._ask(patient_key=patient_key, source_ids=source_ids)
        assert not isinstance(found, list)
        return found

    def close(self) -> None:
        with self._work:
            self._is_closing = True
            self._work.notify()
        self._thread.join(timeout=5)

    async def _ask(self, *, persons: Sequence[Person] = (), patient_key: str | None = None,
                   source_ids: frozenset[str] | None = None) -> list[Assessment] | Found | None:  # fmt: skip
        loop = asyncio.get_running_loop()
        asked = _Asked(loop, loop.create_future(), persons, patient_key, source_ids)
        with self._work:
            self._waiting.append(asked)
            self._work.notify()
        return await asked.answer

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._waiting and not self._is_closing:
                    self._work.wait()
                if self._is_closing and not self._waiting:
                    return
                batch = self._take()
            try:
                answers: list[object] = list(self._answer(batch))
            except Exception as error:
                answers = [error] * len(batch) if len(batch) == 1 else [self._alone(asked) for asked in batch]
            batch[0].loop.call_soon_threadsafe(_tell, batch, answers)

    def _take(self) -> list[_Asked]:
        people = number = 0
        while number < min(len(self._waiting), _LARGEST_BATCH) and people < _MANY_PEOPLE:
            people += len(self._waiting[number].persons) or 1
            number += 1
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        return batch

    def _alone(self, asked: _Asked) -> object:
        """One that fails must not fail those who waited with it."""
        try:
            return self._answer([asked])[0]
        except Exception as error:
            return error

    def _answer(self, batch: Sequence[_Asked]) -> list[list[Assessment] | Found | None]:
        served = self._champion.current
        if served is None:
            raise ModelError("there is no champion to answer with; train one with `cuff train`")
        keys = [asked.patient_key for asked in batch if asked.patient_key is not None]
        rows = dict(zip(keys, self._features.read(keys), strict=True)) if keys else {}
        persons: list[Person] = []
        found: list[OnlineRow | None] = []
        for asked in batch:
            row = rows.get(asked.patient_key) if asked.patient_key else None
            row = row if row is not None and _may_see(asked, row) else None
            found.append(row)
            persons += [Person.of_row(row)] if row is not None and row.is_eligible else asked.persons
        BATCH_PEOPLE.observe(len(persons))
        assessed = iter(zip(persons, assess(served, persons, self._today(), datetime.now(UTC)), strict=True))
        answers: list[list[Assessment] | Found | None] = []
        for asked, row in zip(batch, found, strict=True):
            if asked.patient_key is None:
                answers.append([next(assessed)[1] for _ in asked.persons])
            elif row is None:
                answers.append(None)
            elif row.is_eligible:
                answers.append(Found(row, *next(assessed)))
            else:
                answers.append(Found(row, Person.of_row(row), None))
        return answers

    def _today(self) -> date:
        try:
            return self._features.today()
        except CuffError:  # the store is away: what is given has no day anyway
            return datetime.now(UTC).date()


def _may_see(asked: _Asked, row: OnlineRow) -> bool:
    return asked.source_ids is None or not asked.source_ids.isdisjoint(row.source_ids)


def _tell(batch: Sequence[_Asked], answers: Sequence[object]) -> None:
    for asked, answer in zip(batch, answers, strict=True):
        if asked.answer.done():  # whoever asked has gone
            continue
        if isinstance(answer, Exception):
            asked.answer.set_exception(answer)
        else:
            asked.answer.set_result(answer)  # type: ignore[arg-type]
