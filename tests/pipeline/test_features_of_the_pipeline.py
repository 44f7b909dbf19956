"""Features as the whole chain makes them: what plain Python makes of the same facts, and the same again for a past night."""

import hashlib
import io

import pytest

from bench.oracle_lake import compare
from core.publication import Published, published
from core.settings import Settings
from ml.features.training_set import training_set
from tests.pipeline.conftest import Hospital

pytestmark = pytest.mark.slow


def test_the_oracle_agrees_with_two_nights_of_a_simulated_hospital(hospital: Hospital) -> None:
    found = compare(hospital.house, 1_000_000, published(hospital.house).clinical_snapshot)
    assert found.rows > 1000
    assert (found.different, found.leaks, found.columns) == (0, 0, {})
    assert found.would_differ["what was told later"] > 0
    assert found.would_differ["what happened later"] > 0


def test_the_training_set_of_a_past_night_is_rebuilt_byte_for_byte(hospital: Hospital) -> None:
    """In one copy of the house the second night has landed and was not built; in the other it was built and published."""
    first_night = published(hospital.landed_twice)
    assert published(hospital.house).build_id > first_night.build_id
    then, since = (_digest(house, first_night) for house in (hospital.landed_twice, hospital.house))
    assert then == since
    assert _digest(hospital.house, published(hospital.house)) != then


def _digest(settings: Settings, night: Published) -> str:
    frame = training_set(settings, night)
    assert len(frame) > 100
    parquet = io.BytesIO()
    frame.sort_values(["landmark_date", "patient_key"], ignore_index=True).to_parquet(parquet)
    return hashlib.sha256(parquet.getvalue()).hexdigest()
