"""The feature views as Feast knows them, derived from the catalog. Feast is used as a library.

`blood_pressure_risk` holds, by patient, the features and beside them what says where they come from. `patient_of_person` says
which patient a person is that a source names, where that is not the person's own key (merged records).
"""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from core.errors import ConfigurationError
from core.settings import Settings
from ml.features.catalog import FEATURE_NAMES, FEATURES, OBSERVED_COLUMNS

if TYPE_CHECKING:
    from feast import FeatureStore

PROJECT = "cuff"
FEATURE_VIEW = "blood_pressure_risk"
LINK_VIEW = "patient_of_person"
FEATURE_SERVICE = "hypertension_risk"
ENTITY_KEY = "patient_key"
PERSON_KEY = "person_key"
TIMESTAMP = "feature_timestamp"
OWNER = "ml"
# Older values are not served: by then the patient has not been looked at by two landmarks.
TIME_TO_LIVE = timedelta(days=400)
# What a row says of itself: its day, whether the patient is eligible, who told of them, when each value was observed.
DESCRIBING = ("feature_date", "is_eligible", "source_ids", *OBSERVED_COLUMNS)
# What wrote it: the published build and snapshot, the number of the materialisation, and a digest of all the rest.
STAMP = ("build_id", "clinical_snapshot", "materialization", "row_digest")


def features_dir(settings: Settings) -> Path:
    """Where exported features, the online store and Feast's registry lie."""
    return settings.var / "features"


def export_path(settings: Settings) -> Path:
    """The Parquet file of the newest materialised build."""
    return features_dir(settings) / "patient_features.parquet"


def links_path(settings: Settings) -> Path:
    """The Parquet file of the persons that are another person's patient."""
    return features_dir(settings) / "person_links.parquet"


def online_path(settings: Settings) -> Path:
    """The SQLite database that serves, where no Redis is set."""
    return features_dir(settings) / "online.db"


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
        online_store=redis_options(settings.online_store) if settings.online_store else {
            "type": "sqlite", "path": str(online or online_path(settings))},
        entity_key_serialization_version=3,
    ))


def redis_options(url: str) -> dict[str, Any]:
    """Feast's configuration of a Redis. Late data has the date of the row it replaces: Feast would leave the older one."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ConfigurationError("CUFF_ONLINE_STORE is no Redis address; write it as redis://host:port")
    options = [f"{parts.hostname}:{parts.port or 6379}"]
    options += [f"db={int(parts.path.strip('/'))}"] if parts.path.strip("/") else []
    options += ["ssl=true"] if parts.scheme == "rediss" else []
    options += [f"username={parts.username}"] if parts.username else []
    options += [f'password="{unquote(parts.password)}"'] if parts.password else []
    return {"type": "redis", "connection_string": ",".join(options), "skip_dedup": True}


def definitions(settings: Settings) -> list[Any]:
    """Entities, sources, feature views and feature service, for ``FeatureStore.apply``."""
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Bool, Float64, Int64, String

    types = {"number": Float64, "boolean": Bool, "category": String}
    patient = Entity(name="patient", join_keys=[ENTITY_KEY], value_type=ValueType.STRING, owner=OWNER,
                     description="A person, by pseudonym")
    person = Entity(name="person", join_keys=[PERSON_KEY], value_type=ValueType.STRING, owner=OWNER,
                    description="An identity that one source gave, by pseudonym")
    rows = FileSource(name="patient_features", path=str(export_path(settings)), timestamp_field=TIMESTAMP, owner=OWNER,
                      description="clinical.ml.patient_features at the published snapshot")
    links = FileSource(name="person_links", path=str(links_path(settings)), timestamp_field=TIMESTAMP, owner=OWNER,
                       description="clinical.intermediate.int_persons__resolved at the published snapshot")
    described = [
        Field(name="feature_date", dtype=String, description="The day of which the row speaks, ISO 8601"),
        Field(name="is_eligible", dtype=Bool, description="Whether the model speaks of such a patient"),
        Field(name="source_ids", dtype=String, description="The sources that told of the patient, comma-joined"),
        *(Field(name=name, dtype=String, description="Day of the value taken, ISO 8601") for name in OBSERVED_COLUMNS),
        Field(name="build_id", dtype=Int64, description="The build that the row was taken from"),
        Field(name="clinical_snapshot", dtype=Int64, description="A snapshot of the lake that holds exactly this row"),
        Field(name="materialization", dtype=Int64, description="The run that wrote the row"),
        Field(name="row_digest", dtype=String, description="MD5 of the row but for build, snapshot and run"),
    ]
    view = FeatureView(
        name=FEATURE_VIEW, entities=[patient], ttl=TIME_TO_LIVE, source=rows, online=True, owner=OWNER,
        description="What is known of a patient's blood pressure and circumstances on a day",
        schema=[*(Field(name=f.name, dtype=types[f.dtype], description=f"{f.description} [{f.unit or '-'}]",
                        tags={"unit": f.unit, "direction": str(f.direction)}) for f in FEATURES), *described],
    )
    link = FeatureView(
        name=LINK_VIEW, entities=[person], ttl=timedelta(0), source=links, online=True, owner=OWNER,
        description="The patient that a person is, where records were merged",
        schema=[Field(name=ENTITY_KEY, dtype=String, description="The patient, by pseudonym")],
    )
    service = FeatureService(name=FEATURE_SERVICE, features=[view[list(FEATURE_NAMES)]], owner=OWNER,
                             description="The inputs of the model hypertension-risk, in its order")
    return [patient, person, rows, links, view, link, service]
