"""The registered model `hypertension-risk`: who is champion, who was, and how that changes.

MLflow holds the versions and the aliases ``champion`` and ``challenger``; every change is also a row of ``model_events``
and an audit event, written in the same transaction that sets the alias.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from core.audit import record_audit
from core.errors import ModelError
from core.settings import Settings
from core.store import ModelEvent, store_session
from ml.evaluation.bootstrap import Floats
from ml.features.catalog import feature_hash
from ml.model.risk_model import RiskModel, load_risk_model
from ml.tracking import MODEL_NAME, mlflow_client

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

Action = Literal["registered", "promoted", "held", "rolled_back"]


@dataclass(frozen=True)
class LoadedModel:
    """A registered version whose digest was verified."""

    version: int
    run_id: str
    tags: dict[str, str]
    model: RiskModel
    folder: Path  # its files

    def predict(self, frame: "pd.DataFrame", threads: int = 1) -> Floats:
        """One-year risk of each row of ``patient_features``, shape (n,)."""
        return self.model.predict(frame, threads)


@dataclass(frozen=True)
class ModelSummary:
    """One line of `cuff models`."""

    version: int
    aliases: list[str]
    created_at: datetime
    run_id: str
    tags: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)


def list_models(settings: Settings) -> list[ModelSummary]:
    """Every registered version with its metrics, newest first."""
    client = mlflow_client(settings)
    aliases = _aliases(settings)
    versions = client.search_model_versions(f"name = '{MODEL_NAME}'")
    return [
        ModelSummary(
            int(version.version),
            sorted(alias for alias, number in aliases.items() if number == int(version.version)),
            datetime.fromtimestamp(version.creation_timestamp / 1000, UTC), version.run_id or "", dict(version.tags),
            dict(client.get_run(version.run_id).data.metrics) if version.run_id else {},
        )
        for version in sorted(versions, key=lambda version: -int(version.version))
    ]


def has_champion(settings: Settings) -> bool:
    """Whether a model may score."""
    return champion_version(settings) is not None


def champion_version(settings: Settings) -> int | None:
    """The champion's number, without loading it."""
    return _aliases(settings).get("champion")


def champion(settings: Settings) -> LoadedModel | None:
    """The champion, verified and loaded; None before the first. Errors: `ModelError` when its digest differs."""
    version = champion_version(settings)
    return load_version(settings, version) if version is not None else None


def load_version(settings: Settings, version: int) -> LoadedModel:
    """Any version, verified and loaded. Errors: `ModelError` when absent or its files are not those registered."""
    found = _find(settings, version)
    folder = _model_files(settings, found)
    return LoadedModel(version, found.run_id or "", dict(found.tags),
                       load_risk_model(folder, found.tags.get("model_digest", "")), folder)


def promote(settings: Settings, version: int, actor: str, why: str, evidence: dict[str, Any] | None = None) -> ModelEvent:
    """Make a version champion. Errors: `ModelError` when it already is, is absent, tampered with, or of other features."""
    current = champion_version(settings)
    if current == version:
        raise ModelError(f"version {version} is the champion already; `cuff models` shows the others")
    loaded = load_version(settings, version)
    if loaded.tags.get("feature_hash") != feature_hash():
        raise ModelError(f"version {version} was trained on other feature definitions; train a new one with `cuff train`")
    return _crown(settings, "promoted", version, current, actor, why, evidence or {})


def rollback(settings: Settings, actor: str, why: str) -> ModelEvent:
    """Return to the champion before this one; again, to the one before that. Errors: `ModelError` when there is none."""
    current = champion_version(settings)
    if current is None:
        raise ModelError("there is no champion to roll back from; train one with `cuff train`")
    with store_session(settings) as session:
        promoted = session.scalars(
            select(ModelEvent).where(ModelEvent.action == "promoted", ModelEvent.model_version == current)
            .order_by(ModelEvent.model_event_id.desc()).limit(1)
        ).first()
    if promoted is None or promoted.previous_version is None:
        raise ModelError(f"version {current} is the first champion, so there is none to return to; "
                         "choose another with `cuff promote VERSION`")
    load_version(settings, promoted.previous_version)  # verified before anybody depends on it
    return _crown(settings, "rolled_back", promoted.previous_version, current, actor, why, {})


def note(settings: Settings, action: Action, version: int, actor: str, why: str, evidence: dict[str, Any]) -> ModelEvent:
    """Record what happened to a version that did not become champion (``registered``, ``held``)."""
    current = champion_version(settings)
    with store_session(settings) as session:
        event = ModelEvent(action=action, model_version=version, previous_version=current, actor=actor, why=why,
                           evidence=evidence)
        session.add(event)
        record_audit(session, actor, f"model {action}", f"{MODEL_NAME} {version}", "ok")
        return event


def _crown(settings: Settings, action: Action, version: int, previous: int | None, actor: str, why: str,
           evidence: dict[str, Any]) -> ModelEvent:
    client = mlflow_client(settings)
    if not why.strip():
        raise ModelError("a change of champion needs a reason; give one with --why")
    with store_session(settings) as session:
        event = ModelEvent(action=action, model_version=version, previous_version=previous, actor=actor, why=why,
                           evidence=evidence)
        session.add(event)
        record_audit(session, actor, f"model {action}", f"{MODEL_NAME} {version}", "ok")
        client.set_registered_model_alias(MODEL_NAME, "champion", str(version))
        if _aliases(settings).get("challenger") == version:
            client.delete_registered_model_alias(MODEL_NAME, "challenger")
        return event


def _aliases(settings: Settings) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    try:
        found = mlflow_client(settings).get_registered_model(MODEL_NAME)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    return {alias: int(number) for alias, number in found.aliases.items()}


def _find(settings: Settings, version: int) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    try:
        return mlflow_client(settings).get_model_version(MODEL_NAME, str(version))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise ModelError(f"model version {version} does not exist; `cuff models` lists those that do") from None
        raise


def _model_files(settings: Settings, version: "ModelVersion") -> Path:
    import mlflow

    mlflow_client(settings)
    try:
        folder = mlflow.artifacts.download_artifacts(artifact_uri=f"models:/{MODEL_NAME}/{version.version}")
    except (OSError, mlflow.exceptions.MlflowException) as error:
        raise ModelError(f"the files of model version {version.version} cannot be read ({type(error).__name__}); "
                         "restore the artifact store, or `cuff rollback`") from error
    return Path(folder) / "artifacts"
