"""Our reading of Feast's formats agrees with Feast's writing of them."""

import math

import pytest
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from ml.features.definitions import ENTITY_KEY, PROJECT
from ml.features.online_redis import PATIENT, key_of, redis_key
from ml.features.wire import decode, field_name


@given(st.floats() | st.booleans() | st.text() | st.integers(0, 2**63 - 1))
def test_values(value: float | bool | str | int) -> None:
    kinds = {bool: "bool_val", float: "double_val", str: "string_val", int: "int64_val"}
    found = decode(Value(**{kinds[type(value)]: value}).SerializeToString())
    assert type(found) is type(value)
    assert found == value or (math.isnan(value) and math.isnan(found))


def test_nothing_is_none_and_a_kind_that_no_feature_has_is_an_error() -> None:
    assert decode(None) is None
    assert decode(Value().SerializeToString()) is None
    with pytest.raises(ValueError, match="kind"):
        decode(Value(float_val=1.0).SerializeToString())


@given(st.text("0123456789abcdef", min_size=1, max_size=300))
def test_keys(key: str) -> None:
    of_feast = EntityKey(join_keys=[ENTITY_KEY], entity_values=[Value(string_val=key)])
    assert redis_key(PATIENT, key) == _redis_key(PROJECT, of_feast)
    assert key_of(PATIENT, redis_key(PATIENT, key)) == key


def test_fields() -> None:
    assert field_name("blood_pressure_risk", "age_years") == _mmh3("blood_pressure_risk:age_years")
