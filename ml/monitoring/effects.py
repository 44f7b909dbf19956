"""Effect sizes with confidence bounds: the only arithmetic behind a verdict.

Sizes, because a p-value on a hospital's year is always small; bounds, because a night is a few dozen visits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import asin, inf, isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_WINSOR = (0.01, 0.99)  # a single wild value must not carry a mean


@dataclass(frozen=True)
class Effect:
    """A signed effect size, its standard error, and how many current observations it rests on."""

    value: float
    standard_error: float
    n: int

    def bound(self, level: float) -> float:
        """The one-sided confidence bound of |effect| towards zero (Student's t on n - 1); may be negative."""
        from scipy.stats import t

        if self.n < 2 or not isfinite(self.standard_error):
            return -inf
        return abs(self.value) - float(t.ppf(level, self.n - 1)) * self.standard_error


def mean_shift(current: Values, reference: Values, *, between_variance: float = 0.0,
               design_effect: float = 1.0) -> Effect:
    """Standardised mean difference, in SDs of the reference (Glass's delta).

    Values outside the reference's 1st to 99th percentile are drawn in. ``between_variance`` (in squared units of the
    values) is how far windows differ without cause, see `between_window_variance`.
    """
    low, high = np.quantile(reference, _WINSOR)
    now, then = np.clip(current, low, high), np.clip(reference, low, high)
    spread = float(then.std(ddof=1))
    if spread == 0.0 or now.size < 2:
        return Effect(0.0, inf, int(now.size))
    sampling = design_effect * (max(float(now.var(ddof=1)), 0.25 * spread**2) / now.size + spread**2 / then.size)
    return Effect(float(now.mean() - then.mean()) / spread, sqrt(sampling + between_variance) / spread, int(now.size))


def between_window_variance(values: Values, window: NDArray[np.int64], minimum: int = 5) -> float:
    """Variance of window means beyond sampling (method of moments): seasons, holidays, clinics' habits.

    ``window`` numbers the window of each value; windows with fewer than ``minimum`` values are left out.
    """
    groups = [values[window == number] for number in np.unique(window)]
    groups = [group for group in groups if group.size >= minimum]
    if len(groups) < 3:
        return 0.0
    means = np.array([group.mean() for group in groups])
    sampling = float(np.mean([group.var(ddof=1) / group.size for group in groups]))
    return max(0.0, float(means.var(ddof=1)) - sampling)


def mix_shift(current: Mapping[str, int], reference: Mapping[str, int], *,
              design_effect: float = 1.0) -> tuple[str, Effect]:
    """The category whose share moved most and its Cohen's h (difference of arcsine-transformed shares).

    Shares that lie below 1% in both are not looked at: a handful of people cannot carry a verdict.
    """
    n_now, n_then = sum(current.values()), sum(reference.values())
    if not n_now or not n_then:
        return "", Effect(0.0, inf, n_now)
    error = sqrt(design_effect * (1 / n_now + 1 / n_then))
    found = "", Effect(0.0, error, n_now)
    for category in sorted(set(current) | set(reference)):
        now, then = current.get(category, 0) / n_now, reference.get(category, 0) / n_then
        size = 2 * asin(sqrt(now)) - 2 * asin(sqrt(then))
        if max(now, then) >= 0.01 and abs(size) > abs(found[1].value):
            found = category, Effect(size, error, n_now)
    return found


def share_rise(current: tuple[int, int], reference: tuple[int, int], *, design_effect: float = 1.0) -> Effect:
    """Difference of two shares, each (hits, rows), current minus reference; errors widened so that 0 and 1 have one."""
    (hits_now, n_now), (hits_then, n_then) = current, reference
    if not n_now or not n_then:
        return Effect(0.0, inf, n_now)
    now, then = (hits_now + 1) / (n_now + 2), (hits_then + 1) / (n_then + 2)
    error = sqrt(design_effect * (now * (1 - now) / (n_now + 2) + then * (1 - then) / (n_then + 2)))
    return Effect(hits_now / n_now - hits_then / n_then, error, n_now)


def rate_ratio(observed: float, expected: float, level: float, overdispersion: float = 1.0) -> tuple[float, float]:
    """Observed over expected count and its exact Poisson upper bound, for counts overdispersed by the given factor."""
    from scipy.stats import chi2

    if expected <= 0:
        return 1.0, inf
    factor = max(1.0, overdispersion)
    upper = float(chi2.ppf(level, 2 * (observed / factor + 1))) / 2 * factor
    return observed / expected, upper / expected


def overdispersion(counts: Values) -> float:
    """Variance over mean of the counts of equal windows, at least 1 (Poisson)."""
    if counts.size < 3 or counts.mean() == 0:
        return 1.0
    return max(1.0, float(counts.var(ddof=1) / counts.mean()))
