"""The published risk formula, against numbers worked out by hand."""

import pytest

from ehr.simulate.framingham import linear_predictor, risk_within


def predictor(**changes):
    person = {
        "age_years": 45,
        "is_woman": 1,
        "bmi_kg_m2": 27,
        "systolic_mmhg": 120,
        "diastolic_mmhg": 78,
        "is_smoker": 0,
        "parents_with_hypertension": 1,
    }
    return linear_predictor(**(person | changes))


def test_predictor_and_risk_of_one_woman():
    # 22.949536 - 7.03854 - 0.202933 - 0.914787 - 7.1196 - 10.020504 - 0.166121 + 0.001624 * 45 * 78 (5.70024)
    assert predictor() == pytest.approx(3.187291, abs=1e-6)
    # 1 - exp(-exp((0 - 3.187291) / 0.876925)) and, for four years, with ln 4 = 1.386294
    assert risk_within(predictor(), 1.0) == pytest.approx(0.02605, abs=2e-5)
    assert risk_within(predictor(), 4.0) == pytest.approx(0.12037, abs=5e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"systolic_mmhg": 130},
        {"bmi_kg_m2": 33},
        {"is_smoker": 1},
        {"age_years": 55},
        {"parents_with_hypertension": 2},
        {"is_woman": 1, "diastolic_mmhg": 84},
    ],
)
def test_each_risk_factor_raises_the_risk(change):
    assert risk_within(predictor(**change), 1.0) > risk_within(predictor(), 1.0)
