"""The catalog is the contract's table, and its hashes move with the definitions alone."""

import re
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pytest

from core.errors import ModelError
from core.settings import PROJECT_ROOT
from ml.features.catalog import FEATURE_NAMES, FEATURES, LABEL_FILES, feature_hash, label_hash, monotone_constraints


def test_names_and_order_are_those_of_the_contract() -> None:
    text = (PROJECT_ROOT / "docs" / "contracts.md").read_text()
    section = text[text.index("in this order, the features"):text.index("double unless said")]
    places = [section.index(name) for name in FEATURE_NAMES]
    assert places == sorted(places)


def test_feature_hash_moves_with_a_definition_and_not_with_a_description() -> None:
    first, rest = FEATURES[0], FEATURES[1:]
    assert feature_hash((replace(first, description="other words"), *rest)) == feature_hash()
    for changed in (replace(first, unit="mo"), replace(first, direction=0), replace(first, name="age_months")):
        assert feature_hash((changed, *rest)) != feature_hash()
    assert feature_hash((*rest, first)) != feature_hash()


@pytest.fixture
def dbt_project(tmp_path: Path) -> Path:
    """The files that define the label, apart from the rest of the project."""
    for name in LABEL_FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copyfile(PROJECT_ROOT / "dbt_project" / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", LABEL_FILES)
def test_label_hash_moves_with_each_file_that_defines_the_label(dbt_project: Path, name: str) -> None:
    before = label_hash(dbt_project)
    assert before == label_hash()
    with (dbt_project / name).open("a") as file:
        file.write("-- another definition\n")
    assert label_hash(dbt_project) != before
    (dbt_project / name).unlink()
    with pytest.raises(ModelError, match=Path(name).name):
        label_hash(dbt_project)


def test_the_label_is_defined_by_every_macro_that_its_models_call() -> None:
    """Macros that only decide which rows a night works out anew do not change what a label is."""
    project = PROJECT_ROOT / "dbt_project"
    texts = {path: path.read_text() for path in (project / "macros").glob("*.sql")}
    defined = {name: path for path, text in texts.items() for name in re.findall(r"{% macro (\w+)\(", text)}
    models = [(project / name).read_text() for name in LABEL_FILES if name.startswith("models/")]
    called = {name for text in models for name in re.findall(r"{{ (\w+)\(", text)} & defined.keys()
    nightly = {"and_open_example", "and_to_be_recomputed"}
    assert {defined[name].relative_to(project).as_posix() for name in called - nightly} <= set(LABEL_FILES)
    assert nightly <= called


def test_medicine_knows_the_direction_of_pressure_age_and_weight() -> None:
    assert {"age_years", "systolic_last_mmhg", "diastolic_mean_12m_mmhg", "bmi_last_kg_m2"} <= set(monotone_constraints())
