"""The databases of Airflow and MLflow on Postgres, with the very settings and commands of docker-compose.yml."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from core.settings import PROJECT_ROOT
from tests.deploy.compose import compose_file
from tests.postgres.server import free_port, wait_until

pytestmark = pytest.mark.postgres


@pytest.fixture
def mlflow_server(house, tmp_path):
    """The server of docker-compose.yml, on a free port, with the house's MLflow database behind it."""
    port = free_port()
    command = [
        argument.replace("--port=5000", f"--port={port}").replace("/var/lib/mlflow", str(tmp_path / "artifacts"))
        .replace("--host=0.0.0.0", "--host=127.0.0.1")
        for argument in compose_file()["services"]["mlflow"]["command"][1:]
    ]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": house.mlflow_url, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    log = tmp_path / "mlflow.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=environment, stdout=out,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health", process, log), 240, "MLflow's health")
        yield port, tmp_path / "artifacts"
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.mark.slow
def test_a_run_is_logged_and_a_version_registered_through_the_server(house, mlflow_server, tmp_path):
    """As a task in Compose does: over HTTP by the service's name, artifacts through the server, rows in Postgres."""
    from mlflow import MlflowClient

    port, artifacts = mlflow_server
    address = f"http://localhost:{port}"
    client = MlflowClient(address, address)
    experiment = client.create_experiment("hypertension-risk", artifact_location="mlflow-artifacts:/")
    run = client.create_run(experiment)
    client.log_metric(run.info.run_id, "auc", 0.81)
    model = tmp_path / "model.txt"
    model.write_text("trees")
    client.log_artifact(run.info.run_id, str(model), "model")
    client.create_registered_model("hypertension-risk")
    source = f"runs:/{run.info.run_id}/model"
    version = client.create_model_version("hypertension-risk", source, run.info.run_id, tags={"build_id": "1"})
    client.set_registered_model_alias("hypertension-risk", "champion", version.version)

    directly = MlflowClient(house.mlflow_url, house.mlflow_url)
    champion = directly.get_model_version_by_alias("hypertension-risk", "champion")
    # Over HTTP the number comes as text, from the database as a number.
    assert str(champion.version) == str(version.version)
    assert (champion.run_id, champion.tags) == (run.info.run_id, {"build_id": "1"})
    assert directly.get_run(run.info.run_id).data.metrics == {"auc": 0.81}
    assert [file.read_text() for file in artifacts.rglob("model.txt")] == ["trees"]

    for host, status in (("mlflow:5000", 200), ("elsewhere.example", 403)):
        assert _status(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0", host) == status


@pytest.mark.slow
def test_airflow_migrates_its_database_with_the_drivers_that_the_lock_has(server, tmp_path, request):
    """Airflow asks for asyncpg unless it is told otherwise; docker-compose.yml tells it."""
    name = f"cuff_test_airflow_{os.getpid()}"
    server.execute(f"create database {name}")
    request.addfinalizer(lambda: server.execute(f"drop database {name} with (force)"))
    said = compose_file()["x-airflow-environment"]
    urls = {
        variable: server.sqlalchemy_url(name, said[variable].split("://")[0].removeprefix("postgresql+"))
        for variable in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC")
    }
    environment = os.environ | urls | {
        "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=environment, cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    engine = create_engine(urls["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from dag_run")).scalar_one() == 0
    engine.dispose()


def _answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-2000:]
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _status(url: str, host: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=20) as answer:
            json.load(answer)
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
