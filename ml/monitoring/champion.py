"""The champion as the monitor needs it: its number, and the data it was trained on."""

from dataclasses import dataclass
from datetime import date

from core.errors import ModelError
from core.settings import Settings
from core.store import Build, store_session

MODEL_NAME = "hypertension-risk"


@dataclass(frozen=True)
class ChampionReference:
    """A champion and its training data: the lake's snapshot number and the last day in it."""

    model_version: int
    clinical_snapshot: int
    as_of: date
    test_auc: float | None = None


def champion_reference(settings: Settings) -> ChampionReference | None:
    """The champion by alias, or None when no model has passed its gates yet.

    Errors: `ModelError` when it carries no build of ours.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = settings.mlflow_tracking_uri()
    if uri.startswith("sqlite:///") and not (settings.var / "mlflow" / "mlflow.db").exists():
        return None
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        version = client.get_model_version_by_alias(MODEL_NAME, "champion")
    except MlflowException:
        return None
    tags = version.tags
    with store_session(settings) as session:
        build = session.get(Build, int(tags.get("build_id", -1)))
    if build is None or "clinical_snapshot" not in tags:
        raise ModelError(f"model version {version.version} names no build of this house; retrain it with `cuff train`")
    metrics = client.get_run(version.run_id).data.metrics if version.run_id else {}
    auc = next((metrics[name] for name in ("test_auroc", "auroc", "test_auc") if name in metrics), None)
    return ChampionReference(int(version.version), int(tags["clinical_snapshot"]), build.as_of, auc)
