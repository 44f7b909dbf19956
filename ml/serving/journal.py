"""The journal: what was asked, by whom, and what was answered, durable before the answer goes out.

A commit costs the same few milliseconds for one request and for a hundred: what comes while one runs goes with the next.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.exc import InterfaceError, OperationalError, StatementError

from core.audit import AuditRow
from core.errors import CuffError
from core.settings import Settings
from ml.serving.journal_rows import JournalRows, Prediction

logger = logging.getLogger("cuff.serving")
_LARGEST_GROUP = 1000  # requests
_STUCK_SECONDS = 5.0  # longer than a busy database is waited for
_LOOK_SECONDS = 0.5  # how often the stuck are looked for, and a journal that failed is tried again
_PROBE_SECONDS = 2.0  # how old an answer of `is_writable` may be before the next is prepared
_US = "cuff serve"


class JournalUnavailable(CuffError):
    """What was to be logged could not be; the request must not be answered."""


class _Waiting(NamedTuple):
    audit: AuditRow
    predictions: Sequence[Prediction]
    answer: "asyncio.Future[None]"
    since: float  # monotonic seconds


class Journal:
    """One thread that writes, for one event loop that waits. Recovers by itself once the database does."""

    def __init__(self, settings: Settings) -> None:
        self._rows = JournalRows(settings)
        self._waiting: list[_Waiting] = []
        self._work = threading.Condition()
        self._is_closing = False
        self._probe_wanted = True
        self._is_writable = False
        self._looked_at = 0.0
        self._refused = 0  # requests whose rows could not be written since it failed
        self._in_hand: list[_Waiting] = []
        self._watch: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def write(self, audit: AuditRow, predictions: Sequence[Prediction] = ()) -> None:
        """Returns when the rows are committed and synced. Errors: `JournalUnavailable`; they may yet be written then."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(audit, predictions, loop.create_future(), time.monotonic())
        with self._work:
            if self._is_closing:
                raise JournalUnavailable("the journal is closed")
            self._waiting.append(waiting)
            self._work.notify()
        if self._watch is None:
            self._watch = loop.call_later(_LOOK_SECONDS, self._refuse_stuck, loop)
        await waiting.answer

    def is_writable(self) -> bool:
        """Whether the last write or look succeeded; a look that has become old is repeated meanwhile."""
        if time.monotonic() - self._looked_at > _PROBE_SECONDS:
            with self._work:
                self._probe_wanted = True
                self._work.notify()
        return self._is_writable

    def close(self) -> None:
        """Write what waits, then end."""
        with self._work:
            self._is_closing = True
            self._work.notify()
        self._thread.join(timeout=_STUCK_SECONDS)

    def _run(self) -> None:
        while True:
            with self._work:
                while not (self._waiting or self._probe_wanted or self._is_closing):
                    if not self._work.wait(_LOOK_SECONDS if self._refused else None):
                        break
                group = self._in_hand = self._waiting[:_LARGEST_GROUP]
                del self._waiting[: len(group)]
                self._probe_wanted = False
                if self._is_closing and not group:
                    break
            if group:
                self._tell(group, self._attempt(group))
            else:
                self._probe()
        self._rows.close()

    def _attempt(self, group: list[_Waiting]) -> list[bool]:
        """Write a group; for each of it whether it is written. Never raises."""
        try:
            self._rows.write([one.audit for one in group], [row for one in group for row in one.predictions])
        except Exception as error:
            # Only the error's kind: a database likes to quote what it was given.
            logger.error("%d requests could not be logged: %s", len(group), type(error).__name__)
            if _is_of_one_row(error):
                return [False] if len(group) == 1 else [done for one in group for done in self._attempt([one])]
            self._looked(False)
            with self._work:
                self._refused += len(group)
            return [False] * len(group)
        self._looked(True)
        if self._refused:
            self._probe()
        return [True] * len(group)

    def _probe(self) -> None:
        """Try without a request. After a failure with a row, as a full disk takes an empty transaction; it tells the
        auditor how many requests were refused unlogged."""
        refused = self._refused
        row = AuditRow(_US, "journal recovered", "-", f"{refused} requests were refused and are not logged")
        try:
            self._rows.write([row] if refused else [], [])
        except Exception as error:
            if self._is_writable or not self._looked_at:
                logger.error("the journal cannot be written: %s", type(error).__name__)
            self._looked(False)
        else:
            with self._work:
                self._refused -= refused
            self._looked(True)

    def _looked(self, is_writable: bool) -> None:
        if is_writable and not self._is_writable and self._looked_at:
            logger.warning("the journal can be written again")
        self._is_writable, self._looked_at = is_writable, time.monotonic()

    def _tell(self, group: list[_Waiting], written: list[bool]) -> None:
        loop = group[0].answer.get_loop()
        try:
            loop.call_soon_threadsafe(_answer, group, written)
        except RuntimeError:
            return  # the loop is gone, and with it whoever waited

    def _refuse_stuck(self, loop: asyncio.AbstractEventLoop) -> None:
        """A disk or a server hangs: who waits is told so. What the thread holds may be written in the end."""
        self._watch = None
        before = time.monotonic() - _STUCK_SECONDS
        with self._work:
            stuck = [one for one in self._waiting if one.since < before]
            del self._waiting[: len(stuck)]
            stuck_in_hand = [one for one in self._in_hand if one.since < before and not one.answer.done()]
            if stuck or stuck_in_hand:
                self._is_writable = False
                self._refused += len(stuck)
            is_busy = bool(self._waiting) or any(not one.answer.done() for one in self._in_hand)
        if stuck or stuck_in_hand:
            logger.error("the journal does not answer; %d requests are refused", len(stuck) + len(stuck_in_hand))
            _answer(stuck + stuck_in_hand, [False] * (len(stuck) + len(stuck_in_hand)))
        if is_busy:
            self._watch = loop.call_later(_LOOK_SECONDS, self._refuse_stuck, loop)


def _answer(group: list[_Waiting], written: list[bool]) -> None:
    for one, done in zip(group, written, strict=True):
        if one.answer.done():  # whoever waited went away
            continue
        if done:
            one.answer.set_result(None)
        else:
            one.answer.set_exception(JournalUnavailable("the journal cannot be written; see the ops database"))


def _is_of_one_row(error: Exception) -> bool:
    """Whether a single row may be what the database does not take. Where the database itself fails (gone, locked, full),
    no smaller group would mend it."""
    is_outage = isinstance(error, OperationalError | InterfaceError)
    return isinstance(error, StatementError | ValueError | TypeError | KeyError) and not is_outage
