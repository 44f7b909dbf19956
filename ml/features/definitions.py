"""The feature view `blood_pressure_risk` as Feast knows it, derived from the catalog. Feast is used as a library."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.settings import Settings
from ml.features.catalog import FEATURES

if TYPE_CHECKING:
    from feast import FeatureStore

PROJECT = "cuff"
FEATURE_VIEW = "blood_pressure_risk"
FEATURE_SERVICE = "hypertension_risk"
ENTITY_KEY = "patient_key"
TIMESTAMP = "feature_timestamp"
OWNER = "ml"
# Older values are not served: by then the patient has not been looked at by two landmarks.
TIME_TO_LIVE = timedelta(days=400)


def features_dir(settings: Settings) -> Path:
    """Where exported features, the online store and Feast's registry lie."""
    return settings.var / "features"


def export_path(settings: Settings) -> Path:
    """The Parquet file of the newest materialised build."""
    return features_dir(settings) / "patient_features.parquet"


def open_feature_store(settings: Settings, online: Path | None = None) -> "FeatureStore":
    """The feature store under ``var/features``; ``online`` names another online database than the one that serves."""
    import os

    os.environ["FEAST_USAGE"] = "False"
    from feast import FeatureStore, RepoConfig

    folder = features_dir(settings)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return FeatureStore(config=RepoConfig(
        project=PROJECT, provider="local", repo_path=folder,
        registry={"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.db'}", "cache_ttl_seconds": 60},
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": str(online or folder / "online.db")},
        entity_key_serialization_version=3,
    ))


def definitions(settings: Settings) -> list[Any]:
    """Entity, source, feature view and feature service, for ``FeatureStore.apply``."""
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Bool, Float64, String

    types = {"number": Float64, "boolean": Bool, "category": String}
    patient = Entity(name="patient", join_keys=[ENTITY_KEY], value_type=ValueType.STRING, owner=OWNER,
                     description="A person, by pseudonym")
    source = FileSource(name="patient_features", path=str(export_path(settings)), timestamp_field=TIMESTAMP, owner=OWNER,
                        description="clinical.ml.patient_features at the published snapshot")
    view = FeatureView(
        name=FEATURE_VIEW, entities=[patient], ttl=TIME_TO_LIVE, source=source, online=True, owner=OWNER,
        description="What is known of a patient's blood pressure and circumstances on a day",
        schema=[Field(name=f.name, dtype=types[f.dtype], description=f"{f.description} [{f.unit or '-'}]",
                      tags={"unit": f.unit, "direction": str(f.direction)}) for f in FEATURES],
    )
    service = FeatureService(name=FEATURE_SERVICE, features=[view], owner=OWNER,
                             description="The inputs of the model hypertension-risk, in its order")
    return [patient, source, view, service]
