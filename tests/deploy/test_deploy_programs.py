"""The small programs of deploy/: secrets, the password file, the health check, the roles of the databases."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from deploy.generate_secrets import SECRETS, add_secrets
from deploy.healthcheck import main as check_health
from deploy.prepare import make_folders, write_password
from tests.postgres.server import find_server_programs, own_server

ROLES = ("airflow", "mlflow", "ops", "vault", "lake")


def test_secrets_are_added_once_and_what_is_there_stays(tmp_path):
    env_file = tmp_path / ".env"
    env_file.write_text("CUFF_SEED=7\nPOSTGRES_PASSWORD=mine\nLAKE_DB_PASSWORD=\n# a remark\n")
    added = add_secrets(env_file)
    assert set(added) == set(SECRETS) - {"POSTGRES_PASSWORD"}
    first = env_file.read_text()
    assert first.startswith("CUFF_SEED=7\nPOSTGRES_PASSWORD=mine\n# a remark\n")
    assert first.count("LAKE_DB_PASSWORD=") == 1
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert add_secrets(env_file) == []
    assert env_file.read_text() == first
    settings = Settings(_env_file=env_file)
    for secret in (settings.pseudonym_secret, settings.vault_key, settings.archive_key):
        assert len(base64.b64decode(secret.get_secret_value())) == 32


def test_two_files_share_no_secret(tmp_path):
    for name in ("a", "b"):
        add_secrets(tmp_path / name)
    first, second = (set((tmp_path / name).read_text().splitlines()) for name in ("a", "b"))
    assert len(first) == len(SECRETS)
    assert not first & second


def test_the_password_file_is_private_and_never_empty(tmp_path):
    path = tmp_path / "passwords.json"
    with pytest.raises(ConfigurationError, match="AIRFLOW_ADMIN_PASSWORD"):
        write_password(path, "")
    assert not path.exists()
    write_password(path, "first and longer")
    write_password(path, "second")
    assert json.loads(path.read_text()) == {"admin": "second"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_absent_landing_folder_is_said_before_anything_runs(settings):
    with pytest.raises(ConfigurationError, match="landing folder"):
        make_folders(settings)
    settings.extracts_dir.mkdir(parents=True)
    make_folders(settings)
    assert settings.reports_dir.is_dir()


@pytest.fixture
def api_server(monkeypatch):
    """An HTTP server that answers as Airflow's health page does; the dictionary is what it says."""
    said: dict[str, dict[str, str]] = {}

    class Health(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/api/v2/monitor/health"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_):
            """Silent."""

    server = HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("CUFF_AIRFLOW_HEALTH_URL", f"http://127.0.0.1:{server.server_port}")
    yield said
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_component_is_healthy_only_when_the_api_server_says_so(api_server):
    api_server.update(scheduler={"status": "healthy"}, triggerer={"status": "unhealthy"})
    assert [check_health([name]) for name in ("scheduler", "triggerer", "dag_processor")] == [0, 1, 1]
    assert check_health(["worker"]) == 2


def test_no_answer_is_not_healthy(monkeypatch):
    monkeypatch.setenv("CUFF_AIRFLOW_HEALTH_URL", "http://127.0.0.1:9")
    assert check_health(["scheduler"]) == 1


def test_the_health_check_and_the_secrets_need_nothing_but_python():
    for program in ("healthcheck.py", "generate_secrets.py"):
        done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import runpy; runpy.run_path('deploy/{program}')"],
                              cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.postgres
def test_each_role_reaches_its_own_database_and_no_other():
    """The very file that the Postgres image runs, on an empty cluster."""
    programs = find_server_programs()
    if programs is None:
        reason = "no Postgres: install Debian's package postgresql"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with own_server(programs) as server:
        passwords = {f"{role.upper()}_DB_PASSWORD": f"of {role}'s" for role in ROLES}
        subprocess.run(["psql", "--no-psqlrc", "--quiet", server.psql_url("postgres"), "--file",
                        str(PROJECT_ROOT / "deploy" / "postgres" / "10-databases.sql")],
                       env=os.environ | passwords, check=True, capture_output=True)
        for role in ROLES:
            for database in ROLES:
                url = server.admin_url.set(username=role, password=f"of {role}'s", database=database)
                engine = create_engine(url)
                if role == database:
                    with engine.begin() as connection:
                        connection.execute(text("create schema own; create table own.t (n integer)"))
                else:
                    with pytest.raises(OperationalError, match="permission denied for database"):
                        engine.connect()
                engine.dispose()
