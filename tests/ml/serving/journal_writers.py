"""Writers of the journal in processes of their own, one of which is killed: the same on each kind of database."""

import asyncio
import multiprocessing
import os
import signal
import time
from typing import NamedTuple

from sqlalchemy import select

from core.audit import AuditRow, ChainReport, verify_chain
from core.serving_tables import ServedPrediction
from core.store import AuditEvent, open_store, store_session
from ml.serving.journal import Journal
from tests.ml.serving.small_api import prediction

_SPAWN = multiprocessing.get_context("spawn")


def answer_without_end(settings, name, answered_file, seconds):
    """Twenty clients at once; each answer is told as it is given, by a write that a kill cannot take back."""

    async def client(journal, nth, told, until):
        count = 0
        while time.monotonic() < until:
            subject = f"{name}-{nth}-{count}"
            await journal.write(AuditRow(name, "POST /v1/risk", subject, "200"), [prediction(name, subject)])
            os.write(told, f"{subject}\n".encode())
            count += 1

    async def run():
        journal = Journal(settings)
        told = os.open(answered_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        until = time.monotonic() + seconds
        await asyncio.gather(*(client(journal, nth, told, until) for nth in range(20)))
        journal.close()

    asyncio.run(run())


class Left(NamedTuple):
    """What two writers left behind, one of them killed: subjects by where they stand."""

    report: ChainReport
    answered: set[str]
    audited: set[str]
    predicted: set[str]
    exit_codes: dict[str, int]


def kill_one_of_two_writers(settings, tmp_path):
    """Two writers at once, each for three seconds, but that one is killed in the middle of its work."""
    open_store(settings)
    files = {name: tmp_path / name for name in ("killed", "other")}
    processes = {
        name: _SPAWN.Process(target=answer_without_end, args=(settings, name, file, 3.0)) for name, file in files.items()
    }
    for process in processes.values():
        process.start()
    _wait_for(files["killed"], lines=200)
    os.kill(processes["killed"].pid, signal.SIGKILL)
    for process in processes.values():
        process.join(60)
    with open_store(settings).connect() as connection:
        report = verify_chain(connection)
    with store_session(settings) as session:
        audited = set(session.scalars(select(AuditEvent.subject)))
        predicted = set(session.scalars(select(ServedPrediction.prediction_id)))
    answered = {line for file in files.values() for line in file.read_text().splitlines()}
    return Left(report, answered, audited, predicted, {name: process.exitcode for name, process in processes.items()})


def check_nothing_is_lost(left):
    """Whatever was answered has its rows, in one unbroken chain, and the other writer went on."""
    assert left.exit_codes == {"killed": -signal.SIGKILL, "other": 0}
    assert left.report.first_broken_row is None
    assert left.report.rows == len(left.audited)
    assert left.audited == left.predicted
    assert left.answered <= left.audited
    assert len(left.audited - left.answered) <= 40  # committed, and killed before the clients were told
    for name in left.exit_codes:
        assert sum(subject.startswith(name) for subject in left.answered) > 100


def _wait_for(file, lines):
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, "the writer did not begin"
        time.sleep(0.02)
