"""What the documents say exists, exists: commands and options, paths, settings, tables and columns, reason codes."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from core.settings import PROJECT_ROOT, Settings
from cuff import app

DOCUMENTS = sorted([PROJECT_ROOT / "README.md", *(PROJECT_ROOT / "docs").rglob("*.md"),
                    *(PROJECT_ROOT / "dags").glob("*.py")])  # fmt: skip
MARTS = PROJECT_ROOT / "dbt_project" / "models" / "marts"
CONTRACTS = (PROJECT_ROOT / "docs" / "contracts.md").read_text()
_ROOMS = ("bench", "core", "dags", "dbt_project", "deploy", "docs", "ehr", "expectations", "ml", "plugins", "tests")


def named(path: Path) -> str:
    return path.relative_to(PROJECT_ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_command_named_can_be_given(path: Path) -> None:
    root = typer.main.get_command(app)
    for line in re.findall(r"(?:`|^(?:\.venv/bin/)?)(cuff (?:[^`\n#]|\n(?!\n))+)", path.read_text(), re.MULTILINE):
        words = shlex.split(line.split("`")[0].replace("…", "WHY").replace("\n", " "))[1:]
        command = root
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, f"cuff {words[0]}"
            command = command.commands[words.pop(0)]
        options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        unknown = [word for word in words if word.startswith("--") and word not in options]
        assert not unknown, f"{line}: {unknown}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_path_named_is_there(path: Path) -> None:
    words = re.findall(r"`([\w./-]+/[\w./-]*)`", path.read_text())
    paths = [word for word in words if word.split("/")[0] in _ROOMS]
    absent = [word for word in paths if not (PROJECT_ROOT / word).exists()]
    assert not absent


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_setting_named_can_be_set(path: Path) -> None:
    settings = {f"CUFF_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"CUFF_[A-Z0-9_]+[A-Z0-9]", path.read_text())) <= settings


def _contract(model: str) -> dict[str, str]:
    (path,) = MARTS.rglob(f"{model}.yml")
    columns = yaml.safe_load(path.read_text())["models"][0]["columns"]
    return {column["name"]: column["data_type"] for column in columns}


@pytest.mark.parametrize("table", re.findall(r"^### `(?:core|ml)\.(\w+)`", CONTRACTS, re.MULTILINE))
def test_the_contract_names_every_column_of_a_mart_in_order(table: str) -> None:
    start = re.search(rf"^### `(?:core|ml)\.{table}`", CONTRACTS, re.MULTILINE).start()  # type: ignore[union-attr]
    section = CONTRACTS[start:].split("\n###")[0].split("\n", 1)[1]
    columns = _contract(table)
    at = [re.search(rf"\b{name}\b", section) for name in columns]
    assert all(at), [name for name, found in zip(columns, at, strict=True) if not found]
    places = [found.start() for found in at if found]
    assert places == sorted(places)


def test_every_mart_for_the_pipeline_has_its_contract() -> None:
    tables = {path.stem for folder in ("core", "ml") for path in (MARTS / folder).glob("*.sql")}
    assert tables == set(re.findall(r"^### `(?:core|ml)\.(\w+)`", CONTRACTS, re.MULTILINE))


def test_the_runbook_knows_every_reason_code() -> None:
    runbook = (PROJECT_ROOT / "docs" / "runbooks" / "ingest_ehr_extracts.md").read_text()
    told = set(re.findall(r"`([a-z0-9_]+)`", runbook.split("- **Files**")[1]))
    python = "\n".join(path.read_text() for path in (PROJECT_ROOT / "ehr").rglob("*.py"))
    codes = set(re.findall(r'MessageError\(\s*"([a-z_0-9]+)"', python))
    codes |= set(re.findall(r'Reject\([^)]*?"([a-z0-9]+_[a-z_0-9]+)"', python))
    codes |= set(re.findall(r'refused_file\("([a-z0-9_]+)"', python))
    codes |= set(re.findall(r'refuse\(parsed, "[^"]+", "([a-z_]+)"', python))
    codes |= set(re.findall(r'"([a-z_]+)":', (PROJECT_ROOT / "ehr" / "fhir" / "reasons.py").read_text()))
    codes |= {"control_id_reused", "several_messages"}  # given in SQL (ehr/landing.py), chosen in ehr/hl7v2/read.py
    assert told == codes
