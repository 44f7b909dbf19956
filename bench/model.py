"""How close the champion comes to the best that can be known: the whole pipeline on a simulated hospital.

Its AUROC on the test landmarks beside that of the truth itself (the simulator's own risk), of Framingham and of logistic
regression, all on the same rows. ``python -m bench.model --patients 20000``.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.result import Ratio
from core.keys import install_pseudonym_macro, key_bytes
from core.lake import read_lake
from core.publication import finish_build, publish, published, start_build
from core.settings import Settings, load_settings

PATIENTS = 20_000
SOURCE = "simulated"
AUTHORITY = "SIMHOSP-MRN"
LARGEST_GAP_TO_TRUTH = 0.03


@dataclass(frozen=True)
class ModelBench:
    """AUROC on the same test rows, and how long the training took."""

    rows: int
    events: int
    champion: float
    truth: float
    framingham: float
    logistic_regression: float
    train_seconds: float

    @property
    def holds(self) -> bool:
        """Within 0.03 of the truth, and above both baselines."""
        near = self.champion > self.truth - LARGEST_GAP_TO_TRUTH
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
    import numpy as np

    from ml import registry
    from ml.baselines.framingham import framingham_from_features
    from ml.evaluation.statistics import auroc
    from ml.features.training_set import training_set
    from ml.training import train
    from ml.training.split import split_by_time

    started = time.monotonic()
    outcome = train(settings, "bench")
    seconds = time.monotonic() - started
    test = split_by_time(training_set(settings, published(settings))).test
    test["risk"] = registry.load_version(settings, outcome.model_version).predict(test)
    test["framingham"] = framingham_from_features(test, "last")
    known = _with_truth(settings, test, truth_path)
    label, once = known["label"].to_numpy(dtype="float64"), np.ones((1, len(known)))

    def area(column: str) -> float:
        return float(auroc(label, known[column].to_numpy(dtype="float64"))(once)[0])

    return ModelBench(len(known), int(label.sum()), area("risk"), area("true_risk"), area("framingham"),
                      outcome.baselines["logistic_regression"]["auroc"].value, seconds)


def _with_truth(settings: Settings, test: "object", truth_path: Path) -> "object":
    """The test rows whose patient the simulator knows, with ``true_risk``."""
    with read_lake(settings, ("clinical",), published(settings).snapshots) as lake:
        install_pseudonym_macro(lake, key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET"))
        lake.register("test", test)
        return lake.execute(
            """
            with persons as (
                select landmark_date, true_risk_12m as true_risk, unnest([
                    pseudonym('person', $source || ':fhir', fhir_id), pseudonym('person', $authority, mrn)]) as person_key
                from read_parquet($truth)
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
    near = (bench.truth - LARGEST_GAP_TO_TRUTH) / bench.truth
    note = f"{bench.rows} test rows, {bench.events} events, trained in {bench.train_seconds:.0f} s"
    return [
        Ratio("model, near the truth", bench.champion, bench.truth, "AUROC", "the true risk", f">= {near:.4f}", note),
        Ratio("model, above Framingham", bench.champion, bench.framingham, "AUROC", "Framingham score", ">= 1.0", note),
        Ratio("model, above regression", bench.champion, bench.logistic_regression, "AUROC", "logistic regression",
              ">= 1.0", note),
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
