"""The champion as the monitor needs it: its number, and the data it was trained on."""

from dataclasses import dataclass
from datetime import date

from core.errors import ModelError
from core.settings import Settings
from core.store import Build, store_session
from ml import registry
from ml.tracking import mlflow_client


@dataclass(frozen=True)
class ChampionReference:
    """A champion and its training data: the lake's snapshot number and the last day in it."""

    model_version: int
    clinical_snapshot: int
    as_of: date
    test_auc: float | None = None


def champion_reference(settings: Settings) -> ChampionReference | None:
    """The registry's champion, or None when no model has passed its gates yet.

    Errors: `ModelError` when it carries no build of ours.
    """
    version = registry.champion_version(settings)
    if version is None:
        return None
    client = mlflow_client(settings)
    found = client.get_model_version(registry.MODEL_NAME, str(version))
    with store_session(settings) as session:
        build = session.get(Build, int(found.tags.get("build_id", -1)))
    if build is None or "clinical_snapshot" not in found.tags:
        raise ModelError(f"model version {version} names no build of this house; retrain it with `cuff train`")
    metrics = client.get_run(found.run_id).data.metrics if found.run_id else {}
    return ChampionReference(version, int(found.tags["clinical_snapshot"]), build.as_of, metrics.get("test_auroc"))
