"""The environment in which Airflow's processes run: one house, loopback only, no telemetry, sized for two cores.

No Airflow is imported here, so the command line stays instant.
"""

import base64
import json
import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from core.settings import PROJECT_ROOT, Settings

USERNAME = "admin"
PARALLEL_TASKS = 2  # task processes at once, one per core
# Imported once, by the process that task processes are forked from. dbt, Great Expectations, MLflow and Evidently cost
# four to eleven seconds of a core each, which every task that needs them would pay anew; none starts a thread on import.
PRELOADED = (
    "airflow.executors.local_executor", "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner", "cosmos.airflow.task_group", "cosmos.converter", "dbt.cli.main",
    "dbt.adapters.duckdb", "duckdb", "pandas", "sklearn.linear_model", "matplotlib.pyplot", "great_expectations",
    "mlflow.tracking", "mlflow.pyfunc", "catboost", "evidently", "evidently.presets", "feast",
)


def airflow_home(settings: Settings) -> Path:
    return settings.var / "airflow"


def password_file(settings: Settings) -> Path:
    """Where the generated password of the UI's user lies, mode 600, as JSON ``{"admin": …}``."""
    return airflow_home(settings) / "passwords.json"


def airflow_password(settings: Settings) -> str:
    return str(json.loads(password_file(settings).read_text())[USERNAME])


def base_url(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.airflow_port}"


def settings_environment(settings: Settings) -> dict[str, str]:
    """``CUFF_*`` variables that make a child process read exactly these settings."""
    environment = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        # Nothing is told as well, or a child would read something in .env.
        environment[f"CUFF_{name.upper()}"] = json.dumps(value) if isinstance(value, dict | None) else str(value)
    return environment


def airflow_environment(settings: Settings) -> dict[str, str]:
    """All variables of an Airflow process, on top of this process's own."""
    home = airflow_home(settings)
    keys = _airflow_secrets(settings)
    values: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": PROJECT_ROOT / "dags", "plugins_folder": PROJECT_ROOT / "plugins", "load_examples": False,
            "executor": "LocalExecutor", "parallelism": PARALLEL_TASKS, "dags_are_paused_at_creation": False,
            "fernet_key": keys["fernet_key"], "simple_auth_manager_users": f"{USERNAME}:admin",
            "simple_auth_manager_passwords_file": password_file(settings),
            "execution_api_server_url": f"{base_url(settings)}/execution/",
            "hostname_callable": "airflow.utils.net.get_host_ip_address",
        },
        "api": {
            "host": "127.0.0.1", "port": settings.airflow_port, "base_url": base_url(settings), "workers": 1,
            "secret_key": keys["api_secret"], "instance_name": "Cuff",
        },
        "api_auth": {"jwt_secret": keys["jwt_secret"], "jwt_issuer": "cuff"},
        "database": {"sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}"},
        "dag_processor": {
            "parsing_processes": 1, "min_file_process_interval": 300, "refresh_interval": 300,
            "print_stats_interval": 0,
        },
        "scheduler": {
            "mp_start_method": "forkserver", "mp_forkserver_preload": ",".join(PRELOADED),
            "scheduler_idle_sleep_time": 0.5, "trigger_timeout_check_interval": 60, "enable_health_check": False,
            "task_instance_heartbeat_timeout": 60,
        },
        "logging": {"base_log_folder": log_folder(settings) / "tasks", "colored_console_log": False,
                    "dag_processor_child_process_log_directory": log_folder(settings) / "dag_processor"},
        "usage_data_collection": {"enabled": False},
        "cosmos": {"enable_telemetry": False, "enable_cache": False, "propagate_logs": False},
        "openlineage": {"disabled": True, "namespace": "cuff"},
    }
    kafka = {"AIRFLOW_CONN_CUFF_KAFKA": _kafka_connection(settings)} if settings.transport == "kafka" else {}
    environment = {f"AIRFLOW__{section.upper()}__{name.upper()}": str(value)
                   for section, names in values.items() for name, value in names.items()}
    return os.environ | settings_environment(settings) | environment | kafka | {
        "AIRFLOW_HOME": str(home), "PYTHONPATH": str(PROJECT_ROOT), "PYTHONUNBUFFERED": "1",
        # Peers that would otherwise call home or open a port of their own.
        "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "FEAST_USAGE": "false", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
    }


def _kafka_connection(settings: Settings) -> str:
    """The connection by which the triggerer hears of live landings. What was told while it was away is told again."""
    options = {"bootstrap.servers": settings.kafka_bootstrap, "group.id": f"{settings.kafka_prefix}-build",
               "auto.offset.reset": "latest", "enable.auto.commit": False, **settings.kafka_options}  # fmt: skip
    return json.dumps({"conn_type": "kafka", "extra": options})


def log_folder(settings: Settings) -> Path:
    """Where each component writes ``<name>.log``, and the tasks their own."""
    return settings.var / "logs" / "airflow"


def _airflow_secrets(settings: Settings) -> dict[str, str]:
    """Airflow's own secrets and the UI's password, generated once into files of mode 600."""
    home = airflow_home(settings)
    home.mkdir(parents=True, exist_ok=True)
    generated = {
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_urlsafe(48),
        "api_secret": secrets.token_urlsafe(48),
    }
    _write_once(password_file(settings), {USERNAME: secrets.token_urlsafe(15)})
    path = home / "secrets.json"
    _write_once(path, generated)
    kept: dict[str, str] = json.loads(path.read_text())
    return kept


def _write_once(path: Path, content: dict[str, str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as out:
        json.dump(content, out)
