"""A simulated hospital and a house that takes in what it sends: the pipeline's own functions, night after night."""

import shutil
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from core.dbt import manifest_hash, run_dbt
from core.publication import finish_build, publish, start_build
from core.settings import Settings
from ehr.ingest import ingest
from ehr.simulate import SimulationOptions, simulate_windows
from ml import registry
from ml.monitoring import DriftOutcome, check_drift
from ml.scoring import score
from ml.training import train
from tests.conftest import make_settings

SOURCE = "simulated"


@dataclass(frozen=True)
class House:
    """Settings of a house, and the world outside; ``day`` is the day of its newest delivery."""

    settings: Settings
    world: SimulationOptions
    day: date

    def take_in(self, extract: Path, *command: str) -> None:
        """Ingest, build and publish one delivery."""
        ingest(self.settings, [extract], as_of=self.day, source_id=SOURCE)
        build = start_build(self.settings)
        run_dbt(self.settings, command[0], build, "--quiet", *command[1:])
        finish_build(self.settings, build.build_id, manifest_hash(self.settings))
        publish(self.settings, build.build_id, "test")

    def night(self, extract: Path) -> tuple["House", DriftOutcome]:
        """A day later: take in what was sent that day, score, judge.

        Left out is what no verdict rests on: dbt's tests and the seeds (``run``), the analysts' marts, Evidently's report.
        """
        later = replace(self, day=self.day + timedelta(1))
        later.take_in(extract, "run", "--exclude", "marts.analytics", "marts.ops")
        score(self.settings)
        return later, check_drift(self.settings, with_report=False)

    def branch(self, var: Path) -> "House":
        """A house of the same past with a future of its own.

        Parquet files of a lake are named at random and never change, so branches share the folder they lie in; what
        names them (the catalogs) is copied, as are the ops database, the vault and the registry.
        """
        lake, artifacts = self.settings.lake_dir, Path(self.settings.mlflow_artifact_root())
        shutil.copytree(self.settings.var, var, ignore=lambda folder, names: (
            [name for name in names if (lake / name).is_dir()] if Path(folder) == lake
            else names if Path(folder) == artifacts else []))
        return replace(self, settings=make_settings(var, lake_data=str(lake), mlflow_artifacts=str(artifacts)))


def found_house(var: Path, world: SimulationOptions, nights: int) -> House:
    """A house with the world's history, a champion trained on it, everybody scored and a first verdict given.

    What the hospital sends in the ``nights`` after it lies beside ``var``, see `extracts`: it is written in the same pass.
    """
    house = reopen_house(var, world)
    history = var.parent / "history"
    simulate_windows([(history, world), *_windows(var.parent, world, nights)])
    house.take_in(history, "build")
    trained = train(house.settings, "test")
    if registry.champion_version(house.settings) is None:
        registry.promote(house.settings, trained.model_version, "test", "few events: what is tested is the watching")
    score(house.settings)
    check_drift(house.settings)
    return house


def reopen_house(var: Path, world: SimulationOptions) -> House:
    """The house that `found_house` left under ``var``."""
    return House(make_settings(var), world, world.end)


def extracts(folder: Path, world: SimulationOptions, nights: int) -> list[Path]:
    """Where `found_house` and `simulate_nights` put what is sent on each of the days from ``world.end`` on."""
    return [out for out, _options in _windows(folder, world, nights)]


def simulate_nights(folder: Path, world: SimulationOptions, nights: int) -> list[Path]:
    """Write what the hospital sends on each of the days from ``world.end`` on, one folder a day."""
    simulate_windows(_windows(folder, world, nights))
    return extracts(folder, world, nights)


def _windows(folder: Path, world: SimulationOptions, nights: int) -> list[tuple[Path, SimulationOptions]]:
    days = [world.end + timedelta(night) for night in range(nights)]
    return [(folder / day.isoformat(), replace(world, since=day, until=day + timedelta(1))) for day in days]
