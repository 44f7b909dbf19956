"""What each input adds to the prior: exact Shapley values of the Framingham log odds over its six inputs.

The score is nearly additive on the scale of log odds, but not quite: age and diastolic pressure interact, and a risk is no
logistic function of its Weibull predictor. So the difference between a person and the reference person is shared by Shapley's
rule: an input's share is what replacing it brings, averaged over all orders in which the inputs may be replaced. The shares
add up to the difference exactly, and six inputs have only 64 combinations, so nothing is approximated.

The reference person is who the score stands in for where a record is silent: a man of 50, BMI 26, 120/78 mmHg, who does not
smoke. So an input that is absent has the share 0: nothing is explained by what is not known.
"""

from collections.abc import Sequence
from itertools import product
from math import factorial

import numpy as np

from ml.baselines.framingham import (
    REFERENCE_AGE_YEARS,
    REFERENCE_BMI_KG_M2,
    REFERENCE_DIASTOLIC_MMHG,
    REFERENCE_SYSTOLIC_MMHG,
    framingham_risk,
)
from ml.evaluation.bootstrap import Floats
from ml.evaluation.statistics import logit
from ml.model.calibration import Recalibration

# Where each input comes from, first choice first, as `framingham_from_features(…, "mean_12m")` takes it.
SOURCES = (("age_years",), ("sex",), ("bmi_last_kg_m2",), ("systolic_mean_12m_mmhg", "systolic_last_mmhg"),
           ("diastolic_mean_12m_mmhg", "diastolic_last_mmhg"), ("smoking_status",))
_WORDS = {"sex": "female", "smoking_status": "current"}  # counted as 1, everything else as 0
REFERENCE = np.array([REFERENCE_AGE_YEARS, 0.0, REFERENCE_BMI_KG_M2, REFERENCE_SYSTOLIC_MMHG, REFERENCE_DIASTOLIC_MMHG, 0.0])
_INPUTS = len(SOURCES)
_COALITIONS = np.array(list(product((False, True), repeat=_INPUTS)))  # (64, 6); the last is the whole person


def _shapley_weights() -> Floats:
    """(6, 64): what each combination's value counts for each input."""
    weights = np.zeros((_INPUTS, len(_COALITIONS)))
    for at, members in enumerate(_COALITIONS):
        size = int(members.sum())
        for each in range(_INPUTS):
            others = size - int(members[each])
            share = factorial(others) * factorial(_INPUTS - others - 1) / factorial(_INPUTS)
            weights[each, at] = share if members[each] else -share
    return weights


_WEIGHTS = _shapley_weights()


class PriorShares:
    """For one model's prior over its ``features``."""

    def __init__(self, prior: Recalibration, features: Sequence[str]) -> None:
        self._prior = prior
        self._places = [[features.index(name) for name in names] for names in SOURCES]
        self._words = [_WORDS.get(names[0]) for names in SOURCES]
        self.base = float(prior.apply(logit(framingham_risk(*REFERENCE[:, None])))[0])  # of the reference person

    def of(self, rows: Sequence[Sequence[float | str]]) -> tuple[Floats, Floats, list[list[int]]]:
        """Prior log odds (n,), shares (n, 6) that add up to them less `base`, and for each row the features that hold them.

        ``rows`` are values in the order of the features, missing numbers NaN. The log odds are `prior_log_odds` of the same
        rows as a frame, bit for bit.
        """
        inputs, held_by = self._inputs(rows)
        combined = np.where(_COALITIONS[:, :, None], inputs.T[None], REFERENCE[None, :, None])  # (64, 6, n)
        age, woman, bmi, systolic, diastolic, smoker = (np.ascontiguousarray(combined[:, place]) for place in range(_INPUTS))
        log_odds = self._prior.apply(logit(framingham_risk(age, woman, bmi, systolic, diastolic, smoker)))
        return log_odds[-1], (_WEIGHTS @ log_odds).T, held_by

    def _inputs(self, rows: Sequence[Sequence[float | str]]) -> tuple[Floats, list[list[int]]]:
        """(n, 6) as the score takes them, and the feature that each was taken from."""
        inputs, held_by = [], []
        for row in rows:
            told: list[float | str] = []
            places = []
            for choices, word, otherwise in zip(self._places, self._words, REFERENCE.tolist(), strict=True):
                place = choices[0]
                value = row[place]
                if word is not None:
                    told.append(1.0 if value == word else 0.0)
                else:
                    if value != value and len(choices) > 1:  # NaN
                        place = choices[1]
                        value = row[place]
                    told.append(otherwise if value != value else value)
                places.append(place)
            inputs.append(told)
            held_by.append(places)
        return np.array(inputs, dtype=np.float64), held_by
