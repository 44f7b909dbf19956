"""The command line as a person and a machine meet it: help with an example, one-line errors, one JSON document."""

import base64
import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("setup", "simulate", "ingest", "build", "features", "train", "score", "drift", "skew", "models", "promote",
            "rollback", "status", "sql", "up", "demo", "quarantine list", "quarantine show", "quarantine replay",
            "feeds", "token", "audit verify")  # fmt: skip
HEAVY = ("catboost", "mlflow", "evidently", "feast", "great_expectations", "pandas", "airflow", "dbt", "duckdb",
         "sqlalchemy", "pydantic")  # fmt: skip


def cuff(var: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    secret = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    environment = os.environ | {
        "CUFF_VAR": str(var), "CUFF_PSEUDONYM_SECRET": secret, "CUFF_VAULT_KEY": secret, "CUFF_ARCHIVE_KEY": secret,
    } | extra  # fmt: skip
    return subprocess.run([sys.executable, "-c", "import cuff; cuff.main()", *arguments], cwd=ROOT, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    from typer.testing import CliRunner

    from cuff import app

    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert f"Example: cuff {command}" in " ".join(shown.output.split())
    assert ("--json" in shown.output) == (command != "up")  # `up` has no result, it runs until Ctrl-C


def test_help_imports_nothing_heavy():
    program = (
        "import sys, cuff\ntry: cuff.app(['--help'])\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("ingest", "no/such/folder"), 3, "does not exist"),
        (("ingest", ".", "--as-of", "yesterday"), 3, "write YYYY-MM-DD"),
        (("build",), 6, "nothing to build"),
        (("sql", "select 1"), 5, "nothing has been published"),
        (("sql", "select 1", "--catalog", "secret"), 3, "choose clinical or analytics"),
        (("quarantine", "show", "none"), 3, "cuff quarantine list"),
        (("ingest", "ehr", "--source", "nowhere"), 3, "'nowhere' is not declared"),
        (("rollback", "--build-id", "7"), 6, "build 7 is absent"),
        (("promote", "seven"), 2, "cuff promote --help"),
        (("train", "--trigger", "whim"), 2, "cuff train --help"),
        (("simulate", "/proc/nowhere", "--patients", "1", "--years", "1"), 1, "/proc/nowhere"),
        (("simulate",), 3, "--send mllp://host:port"),
        (("simulate", "--send", "http://127.0.0.1:80"), 3, "write mllp://host:port"),
        (("simulate", "h", "--rate", "5"), 3, "add --send"),
        (("simulate", "--send", "mllps://127.0.0.1:2575", "--tls-ca", "no/such.pem"), 2, "cannot be used"),
        (("simulate", "--send", "mllp://127.0.0.1:1", "--patients", "20", "--years", "1", "--patience", "0"), 10,
         "took no message"),
        (("prognose",), 2, "No such command 'prognose'"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(tmp_path, arguments, code, says):
    done = cuff(tmp_path / "var", *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_an_unknown_model_version_is_one_line(tmp_path):
    done = cuff(tmp_path / "var", "promote", "7", "--json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (8, "", 1)
    assert "model version 7 does not exist" in done.stderr


@pytest.mark.parametrize(
    ("setting", "value", "code", "says"),
    [
        ("CUFF_OPS_URL", "postgresql+psycopg://nobody:secret@127.0.0.1:1/ops", 1, "a database cannot be used"),
        ("CUFF_SOURCES_FILE", __file__, 2, "is not TOML"),
    ],
)
def test_what_a_setting_points_at_fails_in_one_line(tmp_path, setting, value, code, says):
    done = cuff(tmp_path / "var", "ingest", "ehr", **{setting: value})
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr
    assert "secret" not in done.stderr


def test_an_mlflow_that_does_not_answer_is_named(tmp_path):
    done = cuff(tmp_path / "var", "models", CUFF_MLFLOW_URL="http://127.0.0.1:1", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("error: MLflow does not answer")
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_is_named(tmp_path):
    done = cuff(tmp_path / "var", "status", CUFF_AIRFLOW_PORT="high")
    assert done.returncode == 2
    assert "CUFF_AIRFLOW_PORT" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_terminal_sees_progress_and_a_machine_its_document_alone(tmp_path, flags):
    here, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", "import cuff; cuff.main()", "simulate", str(tmp_path / "h"), "--patients", "60", "--years",
         "1", *flags],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=terminal, env=os.environ | {"TERM": "xterm"},
    ) as running:  # fmt: skip
        os.close(terminal)
        shown = bytearray()
        with contextlib.suppress(OSError):  # Linux's end of file on a terminal that nobody writes to any more
            while piece := os.read(here, 4096):
                shown += piece
        printed = running.stdout.read()
    os.close(here)
    assert running.returncode == 0
    if flags:
        assert json.loads(printed)["patients"] == 60
        assert shown == b""
    else:
        assert b"simulating" in shown
        assert b"60 of 60" in shown


def test_simulate_ingest_and_status_speak_json(tmp_path):
    var = tmp_path / "var"
    written = cuff(var, "simulate", str(var / "landing" / "simulated" / "h"), "--patients", "5", "--years", "1",
                   "--truth", str(tmp_path / "truth.parquet"), "--json")  # fmt: skip
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["patients"] == 5
    taken = cuff(var, "ingest", str(var / "landing"), "--json")
    assert taken.returncode == 0, taken.stderr
    summary = json.loads(taken.stdout)
    assert summary["balanced"]
    assert summary["new_payloads"] == json.loads(written.stdout)["files"]
    shown = json.loads(cuff(var, "status", "--json").stdout)
    assert all(line["balances"] for line in shown["ledger"])
    assert shown["published"] is None
