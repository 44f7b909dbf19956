"""docker-compose.yml: it resolves, its secrets have no default, nothing leaves the machine, and it says what Cuff says."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from redis import ConnectionError as RedisConnectionError

from core.airflow_environment import airflow_environment
from core.settings import PROJECT_ROOT, Settings
from deploy.generate_secrets import SECRETS, add_secrets
from tests.deploy.compose import COMPOSE_FILE, compose_client, compose_file, run_config

SERVICES = {
    "postgres", "storage", "kafka", "redis", "mlflow", "init", "listener", "relay", "consumer", "api",
    "airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer",
}
# What a service in Compose must be told otherwise than a process on one machine: where its neighbours and folders are.
ELSEWHERE = {
    "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER", "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__API__HOST", "AIRFLOW__API__PORT", "AIRFLOW__API__BASE_URL", "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
    "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY", "AIRFLOW_HOME",
}


@pytest.fixture
def env_file(tmp_path):
    path = tmp_path / ".env"
    add_secrets(path)
    return path


@pytest.fixture
def client():
    found = compose_client()
    if found is None:
        pytest.skip("no Compose client: neither `docker compose` nor `docker-compose` is installed")
    return found


def test_a_compose_client_resolves_the_file(client, env_file):
    assert run_config(client, env_file, "--quiet").returncode == 0
    shown = run_config(client, env_file, "--services")
    assert set(shown.stdout.split()) == SERVICES


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_without_a_secret_it_refuses_and_says_what_to_do(client, env_file, name):
    lines = env_file.read_text().splitlines()
    env_file.write_text("\n".join(line for line in lines if not line.startswith(f"{name}=")) + "\n")
    refused = run_config(client, env_file, "--quiet")
    assert refused.returncode != 0
    assert "deploy/generate_secrets.py" in refused.stderr


def test_every_secret_is_required_wherever_it_stands():
    text = COMPOSE_FILE.read_text()
    used = set(re.findall(r"\$\{(\w+):\?", text))
    assert used == set(SECRETS)
    for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text):
        assert name not in SECRETS or rest.startswith(":?"), f"{name} has a default somewhere"


def test_nothing_is_published_beyond_loopback():
    services = compose_file()["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"airflow-api-server", "mlflow", "listener", "api"}
    # The listener alone can be opened to a network, by a variable of its own.
    loopback = {"listener": "${CUFF_LISTENER_ADDRESS:-127.0.0.1}:"}
    for name, ports in published.items():
        assert all(port.startswith(loopback.get(name, "127.0.0.1:")) for port in ports), name
    assert all("network_mode" not in service for service in services.values())
    assert compose_file()["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "storage", "kafka", "redis", "consumer"):
        assert services[name]["networks"] == ["inside"]


def test_every_service_is_watched_and_waits_for_what_it_needs():
    services = compose_file()["services"]
    assert set(services) == SERVICES
    for name, service in services.items():
        assert name == "init" or "healthcheck" in service, f"{name} has no health check"
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed == "init" else "service_healthy"
            assert how == {"condition": expected}, f"{name} on {needed}"
    for name in ("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"):
        assert {"init", "airflow-api-server", "storage", "mlflow"} <= set(services[name]["depends_on"])


def test_kafka_is_the_version_that_the_tests_run_and_makes_no_topic_by_itself():
    kafka = compose_file()["services"]["kafka"]
    version = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>([\d.]+)<",
                        (PROJECT_ROOT / "tests" / "kafka" / "pom.xml").read_text())
    assert kafka["image"] == f"apache/kafka:{version[1]}"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    said = compose_file()["x-cuff-environment"]
    assert said["CUFF_TRANSPORT"] == "kafka"
    assert f"PLAINTEXT://{said['CUFF_KAFKA_BOOTSTRAP']}" == kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_the_listener_needs_neither_kafka_nor_the_lake():
    services = compose_file()["services"]
    assert set(services["listener"]["depends_on"]) == {"init", "postgres"}
    assert {"kafka", "init"} <= set(services["relay"]["depends_on"])
    assert {"kafka", "storage", "init"} <= set(services["consumer"]["depends_on"])


def test_the_api_needs_no_broker_and_no_lake_and_cannot_write_its_image():
    api = compose_file()["services"]["api"]
    assert set(api["depends_on"]) == {"init", "postgres", "redis", "mlflow"}
    assert api["read_only"] is True
    assert {mount.split(":")[0] for mount in api["tmpfs"]} == {"/tmp", "/var/lib/cuff"}
    assert all(volume.endswith(":ro") for volume in api["volumes"])
    assert api["environment"]["CUFF_ENVIRONMENT"] == "production"
    withheld = {name for name, value in api["environment"].items() if value == ""}
    assert withheld == {"CUFF_VAULT_KEY", "CUFF_S3_ACCESS_KEY", "CUFF_S3_SECRET_KEY", "PGPASSWORD"}


def test_redis_takes_its_password_and_nobody_reads_it_off_the_process(tmp_path):
    """The very command of the service, on Debian's redis-server."""
    if not shutil.which("redis-server"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no redis-server: install Debian's package redis-server")
    service = compose_file()["services"]["redis"]
    assert service["read_only"] is True
    assert service["user"] != "root"
    shell, option, text = service["command"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = subprocess.Popen([shell, option, f"{text.replace('$$', '$')} --port {port} --dir {tmp_path} --bind 127.0.0.1"],
                               env={"PATH": os.environ["PATH"], "REDIS_PASSWORD": "only-here"}, stdout=subprocess.DEVNULL)
    try:
        known, stranger = (Redis(port=port, password=password) for password in ("only-here", None))
        deadline = time.monotonic() + 10
        while True:
            try:
                assert known.ping()
                break
            except RedisConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        with pytest.raises(AuthenticationError):
            stranger.ping()
        assert known.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert known.config_get("appendonly") == {"appendonly": "yes"}
        assert b"only-here" not in Path(f"/proc/{started.pid}/cmdline").read_bytes()
    finally:
        started.terminate()
        started.wait(timeout=10)


def test_our_containers_run_without_privileges_and_without_celery():
    for name, service in compose_file()["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        if "build" in service:
            assert service["cap_drop"] == ["ALL"], name
            assert "user" not in service, f"{name}: the image's own user is not root"
    assert "USER cuff" in (PROJECT_ROOT / "deploy" / "Dockerfile").read_text()
    assert compose_file()["x-airflow-environment"]["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"


def test_every_field_of_settings_is_set_and_tunable_ones_default_to_the_same(settings):
    said = compose_file()["x-cuff-environment"]
    assert {name for name in said if name != "PGPASSWORD"} == {f"CUFF_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        tunable = re.fullmatch(r"\$\{\w+:?-(.*)\}", said[f"CUFF_{name.upper()}"])
        if tunable:
            default = field.get_default(call_default_factory=True)
            nothing = "" if default is None else "null" if default == {} else None
            expected = str(default) if nothing is None else nothing
            assert tunable[1] == expected, f"CUFF_{name.upper()} has another default in docker-compose.yml"


def test_airflow_runs_with_the_settings_of_one_machine(settings):
    settings = settings.model_copy(update={"transport": "kafka", "kafka_bootstrap": "kafka:9092"})
    here = {name: value for name, value in airflow_environment(settings).items() if name.startswith("AIRFLOW_")}
    there = compose_file()["x-airflow-environment"]
    assert set(here) - set(there) == set()
    assert {name for name in there if name.startswith("AIRFLOW_")} - set(here) == {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"}
    differing = {name for name, value in here.items() if str(there[name]) != value}
    assert differing <= ELSEWHERE


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "GX_ANALYTICS_ENABLED", "FEAST_USAGE"])
def test_telemetry_is_off_as_on_one_machine(settings, variable):
    off = airflow_environment(settings)[variable]
    assert compose_file()["x-airflow-environment"][variable] == off
    assert f"{variable}={off}" in (PROJECT_ROOT / "deploy" / "Dockerfile").read_text()
