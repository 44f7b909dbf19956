"""One hospital for the whole folder: a first night published, a second one published while analysts read."""

import shutil
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from core.publication import published
from core.settings import Settings
from ehr.simulate import SimulationOptions, simulate_hospital
from ehr.simulate.options import MessRates
from tests.conftest import make_settings
from tests.pipeline import planted
from tests.pipeline.house import CUFF, Rows, copy_house, cuff, finish, mart_counts, query, start

PATIENTS, YEARS, RATES = 220, 5, MessRates(swapped=0.01)
FIRST_DAY, SECOND_DAY = date(2026, 1, 1), date(2026, 2, 10)
ANALYST_SQL = "select * from analytics.analytics.hypertension_prevalence_control_monthly order by all"


@dataclass
class Hospital:
    """What happened to one house. ``landed_twice`` is a copy taken when the second night had landed but was not built."""

    house: Settings
    first_counts: dict[str, int]
    first_answer: Rows
    landed_twice: Settings
    printed: Path
    read_while_building: list[Rows] = field(default_factory=list)
    read_by_command: str = ""
    build_seconds: float = 0.0


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    root = tmp_path_factory.mktemp("pipeline")
    settings, delivery, printed = make_settings(root / "var"), root / "delivery" / "simulated", root / "printed.txt"
    world = SimulationOptions(patients=PATIENTS, years=YEARS, end=FIRST_DAY, rates=RATES,
                              truth_path=root / "truth.parquet")  # fmt: skip
    simulate_hospital(delivery / "history", world)
    planted.plant(delivery / "planted")
    _print(printed, cuff(settings, "ingest", str(delivery), "--as-of", f"{FIRST_DAY}"))
    _print(printed, cuff(settings, "build"))
    first_counts, first_answer = mart_counts(settings), query(settings, ANALYST_SQL)
    later = SimulationOptions(patients=PATIENTS, years=YEARS, end=FIRST_DAY, since=FIRST_DAY, until=SECOND_DAY,
                              rates=RATES, truth_path=root / "truth.parquet")  # fmt: skip
    simulate_hospital(delivery / "second night", later)
    _print(printed, cuff(settings, "ingest", str(delivery), "--as-of", f"{SECOND_DAY}"))
    shutil.rmtree(delivery)
    (root / "landed twice").mkdir()
    landed_twice = copy_house(settings, root / "landed twice" / "var")
    hospital = Hospital(settings, first_counts, first_answer, landed_twice, printed)
    _build_while_an_analyst_reads(hospital)
    return hospital


def _build_while_an_analyst_reads(hospital: Hospital) -> None:
    before, started = published(hospital.house), time.monotonic()
    process = start(hospital.house, CUFF, "build", printed=hospital.printed)
    while process.poll() is None and published(hospital.house) == before:
        answer = query(hospital.house, ANALYST_SQL)
        if published(hospital.house) == before:
            hospital.read_while_building.append(answer)
        if not hospital.read_by_command and len(hospital.read_while_building) > 5:
            shown = cuff(hospital.house, "sql", f"select count(*) as n from ({ANALYST_SQL})", "--json")
            hospital.read_by_command = shown if published(hospital.house) == before else ""
        time.sleep(0.2)
    finish(process, hospital.printed)
    hospital.build_seconds = time.monotonic() - started


def _print(printed: Path, text: str) -> None:
    with printed.open("a") as out:
        out.write(text)
