"""The command line as a person and a machine meet it: help with an example, one-line errors, one JSON document."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("setup", "simulate", "ingest", "build", "features", "train", "score", "drift", "models", "promote",
            "rollback", "status", "sql", "up", "demo", "quarantine list", "quarantine show", "quarantine replay")  # fmt: skip
HEAVY = ("catboost", "mlflow", "evidently", "feast", "great_expectations", "pandas", "airflow", "dbt")


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
    ],
)
def test_errors_are_one_line_with_their_exit_code(tmp_path, arguments, code, says):
    done = cuff(tmp_path / "var", *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_a_wrong_setting_is_named(tmp_path):
    done = cuff(tmp_path / "var", "status", CUFF_AIRFLOW_PORT="high")
    assert done.returncode == 2
    assert "CUFF_AIRFLOW_PORT" in done.stderr
    assert done.stderr.count("\n") == 1


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
