"""Messages of all connections, stored together: while one commit runs the next group gathers.

A commit costs the same few milliseconds for one message and for a thousand, and nobody is answered before it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.exc import InterfaceError, OperationalError, StatementError

from ehr.live.inbox import Received, Stored
from ehr.live.metrics import QUARANTINED, STORE_FAILURES, STORE_SECONDS

logger = logging.getLogger("cuff.live")
Store = Callable[[Sequence[Received]], list[Stored]]
Answer = Callable[[Stored | None], None]  # None: it could not be stored
_LARGEST_GROUP = 2000
_LARGEST_GROUP_BYTES = 64 << 20
_FAILING_SECONDS = 5.0
_STUCK_SECONDS, _REFUSING_SECONDS = 15.0, 0.5  # longer than a busy database is waited for
_PATIENCE_OF_A_COMMIT, _LONGEST_PATIENCE_SECONDS = 0.25, 0.003


class _Waiting(NamedTuple):
    received: Received
    answer: Answer


class GroupCommit:
    """``store`` runs in a thread, one group at a time, in the order of `submit`; answers come in that order too."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inbox")
        self._running: asyncio.Task[None] | None = None
        self._enough: asyncio.Future[None] | None = None
        self._expected = 0
        self._patience_seconds = 0.0
        self._failed_at: float | None = None

    @property
    def is_failing(self) -> bool:
        """Whether a commit failed just now. For a few seconds only: whoever keeps senders away while it is so must let one
        try again, else nobody would learn that it is mended."""
        return self._failed_at is not None and time.monotonic() - self._failed_at < _FAILING_SECONDS

    def submit(self, received: Received, answer: Answer) -> None:
        """Store ``received`` with the next group, then call ``answer`` in the event loop."""
        self._waiting.append(_Waiting(received, answer))
        if self._enough is not None and len(self._waiting) >= self._expected and not self._enough.done():
            self._enough.set_result(None)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def drain(self) -> None:
        """Wait until everything submitted is answered."""
        while self._running is not None:
            await asyncio.shield(self._running)

    def close(self) -> None:
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(0)  # what arrived in the same turn of the loop goes together
            while self._waiting:
                await self._gather()
                group = self._take()
                storing = loop.run_in_executor(self._thread, self._store_group, [w.received for w in group])
                await asyncio.wait([storing], timeout=_STUCK_SECONDS)
                if not storing.done():
                    await self._refuse_until(storing, group)
                    continue
                for waiting, outcome in zip(group, storing.result(), strict=True):
                    self._tell(waiting, outcome)
                self._expected = len(group) + len(self._waiting)
        finally:
            self._running = None

    async def _refuse_until(self, storing: asyncio.Future[list[Stored | None]], group: list[_Waiting]) -> None:
        """A disk or a server hangs: senders are told so. What is stored in the end they send again, and it is known."""
        logger.error("the inbox does not answer; messages are refused until it does")
        STORE_FAILURES.inc()
        while True:
            self._failed_at = time.monotonic()
            for waiting in group:
                self._tell(waiting, None)
            await asyncio.wait([storing], timeout=_REFUSING_SECONDS)
            if storing.done():
                return
            group, self._waiting = self._waiting, []

    async def _gather(self) -> None:
        """Give those who were answered just now the time to send their next: one full commit is worth two half ones."""
        if len(self._waiting) < self._expected and self._patience_seconds > 0:
            self._enough = asyncio.get_running_loop().create_future()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_seconds):
                    await self._enough
            self._enough = None

    def _tell(self, waiting: _Waiting, outcome: Stored | None) -> None:
        try:
            waiting.answer(outcome)
        except Exception as error:  # one who cannot be told must not keep the others from being told
            logger.error("an answer could not be given: %s", type(error).__name__)

    def _take(self) -> list[_Waiting]:
        size = 0
        for number, waiting in enumerate(self._waiting):
            size += len(waiting.received.content)
            if number and (number >= _LARGEST_GROUP or size > _LARGEST_GROUP_BYTES):
                group, self._waiting = self._waiting[:number], self._waiting[number:]
                return group
        group, self._waiting = self._waiting, []
        return group

    def _store_group(self, group: list[Received]) -> list[Stored | None]:
        started = time.perf_counter()
        outcomes = self._attempt(group)
        seconds = time.perf_counter() - started
        STORE_SECONDS.observe(seconds)
        self._patience_seconds = min(_PATIENCE_OF_A_COMMIT * seconds, _LONGEST_PATIENCE_SECONDS)
        for outcome in outcomes:
            if outcome is not None and outcome.outcome == "refused" and outcome.reject is not None:
                QUARANTINED.labels(outcome.reject.reason_code).inc()
        return outcomes

    def _attempt(self, group: list[Received]) -> list[Stored | None]:
        """Never raises: whatever fails is not stored, and is answered so."""
        try:
            stored: list[Stored | None] = list(self._store(group))
        except Exception as error:
            # Only the error's kind: a database likes to quote what it was given.
            logger.error("%d messages could not be stored: %s", len(group), type(error).__name__)
            STORE_FAILURES.inc()
            if len(group) > 1 and _is_of_one_message(error):
                return [outcome for one in group for outcome in self._attempt([one])]
            self._failed_at = time.monotonic()
            return [None] * len(group)
        self._failed_at = None
        return stored


def _is_of_one_message(error: Exception) -> bool:
    """Whether a single message may be what the database does not take. Where the database itself fails (gone, locked,
    full), no smaller group would mend it."""
    is_outage = isinstance(error, OperationalError | InterfaceError)
    return isinstance(error, StatementError | ValueError | TypeError) and not is_outage
