"""Present, stale or absent: a value is never passed off as fresher than it is."""

from datetime import date, timedelta

import pytest

from ml.features.catalog import FEATURES, Feature
from ml.features.status import status_of

TODAY = date(2026, 1, 1)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_value_is_present_up_to_its_bound_and_stale_after(feature: Feature) -> None:
    if feature.fresh_days is None:
        assert status_of(feature.name, feature.example, TODAY - timedelta(9999), TODAY) == ("present", 9999)
        return
    for days, status in ((0, "present"), (feature.fresh_days, "present"), (feature.fresh_days + 1, "stale")):
        assert status_of(feature.name, feature.example, TODAY - timedelta(days), TODAY) == (status, days)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_missing_is_absent_however_young_its_day(missing: float | None) -> None:
    assert status_of("hba1c_last_pct", missing, TODAY, TODAY) == ("absent", None)


def test_zero_and_false_are_values() -> None:
    assert status_of("drug_count_12m", 0.0, TODAY, TODAY) == ("present", 0)
    assert status_of("has_diabetes", False, TODAY, TODAY) == ("present", 0)


def test_a_value_that_somebody_gave_without_a_day_is_present_with_no_age() -> None:
    assert status_of("systolic_last_mmhg", 131.0, None, TODAY) == ("present", None)


def test_a_day_in_the_future_is_today_and_a_strange_name_is_an_error() -> None:
    assert status_of("systolic_last_mmhg", 131.0, TODAY + timedelta(3), TODAY) == ("present", 0)
    with pytest.raises(KeyError):
        status_of("shoe_size", 43.0, TODAY, TODAY)


def test_every_observed_feature_has_a_bound_and_its_column_is_named_for_its_group() -> None:
    for feature in FEATURES:
        assert feature.observed_in is None or (feature.fresh_days and feature.observed_in.endswith("_observed_on"))
