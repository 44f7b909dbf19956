"""MLflow, made quiet and told where to live; one run per training."""

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "hypertension-risk"
MODEL_NAME = "hypertension-risk"


def mlflow_client(settings: Settings) -> "MlflowClient":
    """A client on the configured store, which is created when it is not there yet. No telemetry, no chatter."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri = settings.mlflow_tracking_uri()
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    if mlflow.get_tracking_uri() != uri:
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def training_run(settings: Settings, tags: dict[str, str]) -> Iterator[str]:
    """An MLflow run in our experiment; yields its id and marks it failed when the block raises."""
    import mlflow

    client = mlflow_client(settings)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(
        EXPERIMENT, artifact_location=settings.mlflow_artifact_root())
    with mlflow.start_run(experiment_id=experiment_id, tags=tags) as run:
        yield run.info.run_id


def log_model(settings: Settings, run_id: str, folder: Path, example: Any, tags: dict[str, str]) -> int:
    """Log the model's files with signature and input example in the active run, register them; returns the version."""
    import mlflow
    from mlflow.models import infer_signature

    from ml.model.golden import GOLDEN_FILE
    from ml.model.risk_model import PARTS_FILE, TREES_FILE

    files = {"trees": TREES_FILE, "parts": PARTS_FILE, "golden": GOLDEN_FILE}
    client = mlflow_client(settings)
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(PROJECT_ROOT / "ml" / "model" / "served_model.py"),  # as code: nothing is pickled
        artifacts={part: str(folder / name) for part, name in files.items()},
        signature=infer_signature(example, [0.05] * len(example)),
        input_example=example,
        pip_requirements=["catboost", "pandas<3", "numpy"],
    )
    if not client.search_registered_models(f"name = '{MODEL_NAME}'"):
        client.create_registered_model(MODEL_NAME, description="One-year risk of hypertension")
    registered = client.create_model_version(
        MODEL_NAME, source=logged.model_uri, run_id=run_id, tags=tags, model_id=logged.model_id)
    return int(registered.version)


def git_commit() -> str:
    """The commit of the code that runs, with ``-dirty`` when files differ from it; ``unknown`` outside a checkout."""
    try:
        return subprocess.run(["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"], cwd=PROJECT_ROOT,
                              capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
