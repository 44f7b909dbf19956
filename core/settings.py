"""One typed `Settings`, read from ``CUFF_*`` variables and ``.env``, made by whoever starts a process."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Everything that can be set. ``.env.example`` documents each field; secrets are generated on first use."""

    model_config = SettingsConfigDict(
        env_prefix="CUFF_", env_file=PROJECT_ROOT / ".env", env_file_encoding="utf-8", extra="ignore",
        env_parse_none_str="null",
    )

    var: Path = Field(PROJECT_ROOT / "var", description="where all state lives; may be deleted")
    environment: str = Field("development", description="development or production")

    pseudonym_secret: SecretStr = Field(SecretStr(""), description="HMAC key of every pseudonym, base64, 32 bytes")
    vault_key: SecretStr = Field(SecretStr(""), description="AES-256 key of the vault, base64, 32 bytes")
    archive_key: SecretStr = Field(SecretStr(""), description="AES-256 key of the payload archive, base64, 32 bytes")

    ops_url: str = Field("", description="SQLAlchemy URL of the ops database; default SQLite under var/")
    vault_url: str = Field("", description="SQLAlchemy URL of the vault; default SQLite under var/")
    mlflow_url: str = Field("", description="MLflow tracking and registry URI; default SQLite under var/")
    mlflow_artifacts: str = Field("", description="where MLflow keeps artifacts; default a folder under var/")

    lake_catalog: str = Field(
        "", description="DuckLake catalog prefix, e.g. 'postgres:host=db dbname=lake'; default SQLite"
    )
    lake_data: str = Field(
        "", description="where the lake's Parquet lies: a folder or s3://bucket/prefix; default var/lake"
    )
    s3_endpoint: str = Field("", description="host:port of S3-compatible storage, when lake_data is s3://")
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")
    s3_use_tls: bool = True
    duckdb_memory_limit: str = Field("1500MB", description="memory DuckDB may use in one process")
    duckdb_threads: int = Field(2, ge=1, description="threads DuckDB may use in one process")
    lake_lock_timeout_seconds: float = Field(600, description="how long a writer waits for another writer")

    sources_file: Path = Field(PROJECT_ROOT / "sources.toml", description="what is declared of each source")
    landing_dir: Path | None = Field(None, description="folder the ingest DAG watches; default var/landing")

    nightly_cron: str = Field("0 2 * * *", description="when a night runs, cron in UTC; empty: only when triggered")
    watch_cron: str = Field("*/10 * * * *", description="when feeds are watched, cron in UTC; empty: only when triggered")

    airflow_port: int = Field(8080, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)

    listen_host: str = Field("127.0.0.1", description="address of the listener; 0.0.0.0 for a hospital's network")
    mllp_port: int = Field(2575, ge=1, le=65535)
    fhir_port: int = Field(2580, ge=1, le=65535, description="POST /fhir, /healthz, /readyz, /metrics of the listener")
    consumer_port: int = Field(2581, ge=1, le=65535, description="/healthz, /readyz, /metrics of the consumer")
    relay_port: int = Field(2582, ge=1, le=65535, description="/healthz, /readyz, /metrics of the relay")
    mllp_max_frame_bytes: int = Field(16 << 20, ge=1024, description="a larger frame is answered AR and closes")
    mllp_read_seconds: float = Field(30, gt=0, description="a frame that has begun must end within this")
    mllp_idle_seconds: float = Field(3600, gt=0, description="a connection that says nothing is closed after this")
    mllp_max_connections: int = Field(2000, ge=1)
    fhir_max_body_bytes: int = Field(16 << 20, ge=1024)
    fhir_max_depth: int = Field(64, ge=4, description="levels of JSON; FHIR needs fewer than 20")
    listen_tls_certificate: Path | None = Field(None, description="PEM chain; TLS 1.3 on both doors when set")
    listen_tls_key: Path | None = None
    listen_tls_client_ca: Path | None = Field(None, description="PEM; clients must show a certificate of it when set")

    transport: Literal["inbox", "kafka"] = Field("inbox", description="how live messages reach the consumer")
    kafka_bootstrap: str = Field("", description="host:port of the brokers, when transport is kafka")
    kafka_options: dict[str, str] = Field(default_factory=dict, description="more of librdkafka's settings, as JSON")
    kafka_source_options: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="the same for the broker of a source of sources.toml, by source"
    )
    kafka_prefix: str = Field("cuff", pattern=r"^[A-Za-z0-9._-]{1,100}$", description="first word of Cuff's topics")
    kafka_partitions: int = Field(6, ge=1)
    kafka_replication: int = Field(1, ge=1)
    consume_seconds: float = Field(1.0, ge=0, description="how long the consumer gathers a micro-batch")
    consume_messages: int = Field(2000, ge=1, description="largest micro-batch")
    wake_seconds: float = Field(300, ge=1, description="live landings start a build at most this often")

    online_store: str = Field("", description="redis://host:port of the online feature store; default SQLite under var/")

    serve_host: str = Field("127.0.0.1", description="address of the inference API")
    serve_port: int = Field(8000, ge=1, le=65535)
    serve_workers: int = Field(2, ge=1, description="processes that answer")
    serve_trusted_hosts: str = Field("127.0.0.1,localhost", description="Host headers that are answered")
    serve_tls_certificate: Path | None = Field(None, description="PEM chain; the API speaks TLS when set")
    serve_tls_key: Path | None = None
    serve_max_body_bytes: int = Field(4 << 20, ge=1024)
    serve_request_seconds: float = Field(10, gt=0, description="an answer that takes longer is a 503")
    serve_rate_limit: str = Field("6000/minute", description="requests of one client, as `limits` writes them")
    serve_champion_seconds: float = Field(2, gt=0, description="how often the API looks whether the champion changed")
    token_jwks: str = Field("", description="https URL or file of the issuer's JWKS; default a local one, development only")
    token_issuer: str = Field("cuff-development", description="`iss` of every token")
    token_audience: str = Field("cuff", description="`aud` of every token")
    token_algorithm: Literal["RS256", "ES256", "EdDSA"] = Field("ES256", description="the one that is accepted")

    smtp_url: str = Field("", description="smtp://user:password@host:port; alerts by mail when set")
    smtp_from: str = ""
    smtp_to: str = ""
    webhook_url: str = Field("", description="alerts are POSTed here as JSON when set")

    seed: int = Field(20260101, description="seed of training and bootstrap")
    training_search_seconds: int = Field(60, ge=0, description="time budget of the hyper-parameter search")
    training_threads: int = Field(2, ge=1)
    bootstrap_samples: int = Field(500, ge=20, description="bootstrap resamples behind each 95% interval")
    retrain_cooldown_days: int = Field(7, ge=0, description="days of data after a drift retraining before the next")

    @field_validator("landing_dir", "listen_tls_certificate", "listen_tls_key", "listen_tls_client_ca",
                     "serve_tls_certificate", "serve_tls_key", mode="before")
    @classmethod
    def _no_path(cls, value: object) -> object:
        """An empty variable is no path, least of all this folder."""
        return None if value == "" else value

    @field_validator("kafka_options", "kafka_source_options", mode="before")
    @classmethod
    def _no_options(cls, value: object) -> object:
        """Compose can say ``null``, but not ``{}``."""
        return {} if value is None else value

    @property
    def lake_dir(self) -> Path:
        return self.var / "lake"

    @property
    def archive_dir(self) -> Path:
        return self.var / "archive"

    @property
    def reports_dir(self) -> Path:
        """Drift pages, GX Data Docs and dbt docs: files a person opens."""
        return self.var / "reports"

    @property
    def extracts_dir(self) -> Path:
        return self.landing_dir or self.var / "landing"

    def ops_database_url(self) -> str:
        return self.ops_url or f"sqlite:///{self.var / 'ops.db'}"

    def vault_database_url(self) -> str:
        return self.vault_url or f"sqlite:///{self.var / 'vault.db'}"

    def mlflow_tracking_uri(self) -> str:
        return self.mlflow_url or f"sqlite:///{self.var / 'mlflow' / 'mlflow.db'}"

    def mlflow_artifact_root(self) -> str:
        return self.mlflow_artifacts or str(self.var / "mlflow" / "artifacts")


def load_settings(**overrides: object) -> Settings:
    """Settings of this process, with ``var`` made absolute. Errors: pydantic ``ValidationError`` naming the field."""
    settings = Settings(**overrides)  # type: ignore[arg-type]
    settings.var = settings.var.expanduser().absolute()
    return settings
