"""Disks that fail, fill up and lose power under the listener; `make chaos` does the same for every N."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos import failing_disk, full_disk
from bench.chaos.faulty_disk import FaultyDisk, missing

WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in ("pragma journal_mode = wal", "pragma synchronous = " + sys.argv[2], "create table kept (number)"):
    database.execute(statement)
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    try:
        database.execute("begin immediate")
        database.execute("insert into kept values (?)", (number,))
        database.execute("commit")
        print("kept", number, flush=True)
    except sqlite3.OperationalError:
        if database.in_transaction:
            database.execute("rollback")
        print("refused", number, flush=True)
print("end", flush=True)
sys.stdin.readline()
"""
needs_gcc = pytest.mark.skipif(bool(missing()), reason=missing() or "gcc is there")


def promises_broken(folder: Path, synchronous: str, nth: int) -> tuple[int, int]:
    """(rows promised and gone after the power cut, rows refused) of a small writer whose every nth operation fails."""
    (folder / "disk").mkdir(parents=True)
    disk = FaultyDisk(folder / "disk", folder / "notes")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder / "disk" / "kept.db"), synchronous], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | disk.environment)  # fmt: skip
    assert writer.stdin
    assert writer.stdout
    assert writer.stdout.readline() == "ready\n"
    disk.fail(nth, again=True)
    writer.stdin.write("\n")
    writer.stdin.flush()
    told = [line.split() for line in iter(writer.stdout.readline, "end\n")]
    writer.kill()
    writer.communicate()
    disk.cut_power(folder / "after")
    disk.close()
    with sqlite3.connect(folder / "after" / "kept.db") as database:
        try:
            kept = {row[0] for row in database.execute("select number from kept")}
        except sqlite3.OperationalError:  # not even the table reached the disk
            kept = set()
    promised = {int(number) for word, number in told if word == "kept"}
    return len(promised - kept), len(told) - len(promised)


@needs_gcc
def test_the_faulty_disk_tells_a_durable_writer_from_one_that_is_not(tmp_path):
    for nth in (5, 7):
        broken, refused = promises_broken(tmp_path / f"full-{nth}", "full", nth)
        assert (broken, refused > 0) == (0, True)
    broken, _refused = promises_broken(tmp_path / "normal", "normal", 1000)
    assert broken == 20, "without a sync at each commit a power cut takes them all"


@needs_gcc
@pytest.mark.slow
def test_nothing_is_acknowledged_falsely_while_writes_and_syncs_fail():
    for figure in failing_disk.run("small"):
        assert figure.is_met, figure


@pytest.mark.slow
def test_a_full_disk_is_told_and_outlived():
    for figure in full_disk.run("small"):
        assert figure.is_met, figure
