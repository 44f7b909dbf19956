"""The catalog is the contract's table, and its hashes move with the definitions alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import ModelError
from core.settings import PROJECT_ROOT
from ml.features.catalog import FEATURE_NAMES, FEATURES, feature_hash, label_hash, monotone_constraints


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


def test_label_hash_moves_with_the_sql(tmp_path: Path) -> None:
    sql = tmp_path / "hypertension_examples.sql"
    sql.write_text("select 1")
    before = label_hash(sql)
    sql.write_text("select 2")
    assert label_hash(sql) != before
    assert len(label_hash()) == 64
    with pytest.raises(ModelError, match=r"absent\.sql"):
        label_hash(tmp_path / "absent.sql")


def test_medicine_knows_the_direction_of_pressure_age_and_weight() -> None:
    assert {"age_years", "systolic_last_mmhg", "diastolic_mean_12m_mmhg", "bmi_last_kg_m2"} <= set(monotone_constraints())
