"""How close the champion comes to the best that can be known: the whole pipeline on a simulated hospital.

Its AUROC on the test landmarks beside that of Framingham and of logistic regression, and beside that of the truth itself
(the simulator's own risk of an onset). The truth is compared on the rows where it means something: people who are free of
hypertension indeed. Among the others, who have it unnoticed, the label says who will be found out, which is easier to
predict and is no onset. ``python -m bench.model --patients 20000``.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.result import Ratio
from core.keys import install_pseudonym_macro, key_bytes
from core.lake import read_lake
from core.publication import finish_build, publish, published, start_build
from core.settings import Settings, load_settings

if TYPE_CHECKING:
    import pandas as pd

PATIENTS = 20_000
SOURCE = "simulated"
AUTHORITY = "SIMHOSP-MRN"
LARGEST_GAP_TO_TRUTH = 0.03


@dataclass(frozen=True)
class ModelBench:
    """AUROC on the test rows, of the champion and the truth also on those truly at risk; and the training's time."""

    rows: int
    events: int
    champion: float
    framingham: float
    logistic_regression: float
    rows_at_risk: int
    events_at_risk: int
    champion_at_risk: float
    truth_at_risk: float
    train_seconds: float

    @property
    def holds(self) -> bool:
        """Within 0.03 of the truth, and above both baselines."""
        near = self.champion_at_risk > self.truth_at_risk - LARGEST_GAP_TO_TRUTH
        return near and self.champion > self.framingham and self.champion > self.logistic_regression


def simulated_hospital(settings: Settings, folder: Path, patients: int) -> Path:
    """Simulate, ingest, build and publish; returns the path of the truth."""
    from core.dbt import manifest_hash, run_dbt
    from ehr.ingest import ingest
    from ehr.simulate import SimulationOptions, simulate_hospital

    options = SimulationOptions(patients=patients, seed=settings.seed, truth_path=folder / "truth.parquet")
    simulate_hospital(folder / SOURCE, options)
    ingest(settings, [folder / SOURCE], as_of=options.end, source_id=SOURCE)
    build = start_build(settings)
    run_dbt(settings, "build", build)
    finish_build(settings, build.build_id, manifest_hash(settings))
    publish(settings, build.build_id, "bench")
    return folder / "truth.parquet"


def measure(settings: Settings, truth_path: Path) -> ModelBench:
    """Train on what is published, and judge the model and the truth on the same test rows."""
    from ml import registry
    from ml.baselines.framingham import framingham_from_features
    from ml.features.training_set import training_set
    from ml.training import train
    from ml.training.split import split_by_time

    started = time.monotonic()
    outcome = train(settings, "bench")
    seconds = time.monotonic() - started
    test = split_by_time(training_set(settings, published(settings))).test
    test["risk"] = registry.load_version(settings, outcome.model_version).predict(test)
    test["framingham"] = framingham_from_features(test, "last")
    at_risk = _with_truth(settings, test, truth_path)
    return ModelBench(
        len(test), int(test["label"].sum()), _area(test, "risk"), _area(test, "framingham"),
        outcome.baselines["logistic_regression"]["auroc"].value, len(at_risk), int(at_risk["label"].sum()),
        _area(at_risk, "risk"), _area(at_risk, "true_risk"), seconds)


def _area(rows: "pd.DataFrame", column: str) -> float:
    import numpy as np

    from ml.evaluation.statistics import auroc

    label, risk = (rows[name].to_numpy(dtype="float64") for name in ("label", column))
    return float(auroc(label, risk)(np.ones((1, len(rows))))[0])


def _with_truth(settings: Settings, test: "pd.DataFrame", truth_path: Path) -> "pd.DataFrame":
    """The test rows of people who are truly free of hypertension, with their ``true_risk`` of an onset."""
    with read_lake(settings, ("clinical",), published(settings).snapshots) as lake:
        install_pseudonym_macro(lake, key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET"))
        lake.register("test", test)
        return lake.execute(
            """
            with persons as (
                select landmark_date, true_risk_12m as true_risk, unnest([
                    pseudonym('person', $source || ':fhir', fhir_id), pseudonym('person', $authority, mrn)]) as person_key
                from read_parquet($truth)
                where is_at_risk
            ),
            patients as (
                select distinct resolved.patient_key, persons.landmark_date, persons.true_risk
                from persons join clinical.intermediate.int_persons__resolved as resolved using (person_key)
            )
            select test.*, patients.true_risk
            from test join patients
                on test.patient_key = patients.patient_key and test.landmark_date::date = patients.landmark_date::date
            """, {"source": SOURCE, "authority": AUTHORITY, "truth": str(truth_path)}).df()


def run() -> list[Ratio]:
    """Simulate, run the pipeline and train, in a house of its own; AUROC over the truth's and over the baselines'."""
    with tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder:
        settings = load_settings(var=Path(folder) / "var")
        return _ratios(measure(settings, simulated_hospital(settings, Path(folder) / "hospital", PATIENTS)))


def _ratios(bench: ModelBench) -> list[Ratio]:
    near = (bench.truth_at_risk - LARGEST_GAP_TO_TRUTH) / bench.truth_at_risk
    everybody = f"{bench.rows} test rows, {bench.events} events, trained in {bench.train_seconds:.0f} s"
    at_risk = f"{bench.rows_at_risk} rows of people truly at risk, {bench.events_at_risk} events"
    return [
        Ratio("model, near the truth", bench.champion_at_risk, bench.truth_at_risk, "AUROC", "the true risk",
              f">= {near:.4f}", at_risk),
        Ratio("model, above Framingham", bench.champion, bench.framingham, "AUROC", "Framingham score", ">= 1.0",
              everybody),
        Ratio("model, above regression", bench.champion, bench.logistic_regression, "AUROC", "logistic regression",
              ">= 1.0", everybody),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=PATIENTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder:
        settings = load_settings(var=Path(folder) / "var")
        bench = measure(settings, simulated_hospital(settings, Path(folder) / "hospital", arguments.patients))
    print(bench)
    return 0 if bench.holds else 1


if __name__ == "__main__":
    sys.exit(main())
