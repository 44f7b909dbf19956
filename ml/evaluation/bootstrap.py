"""Bootstrap by patient: each resample draws patients, not rows, because one patient's rows are not independent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # weights (resamples, rows) → value per resample (resamples,)

_CHUNK_CELLS = 4_000_000  # weights held at once: 32 MB


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval (percentiles of the bootstrap)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class PatientBootstrap:
    """Resamples of one set of rows: the same seed gives the same resamples, so comparisons are paired."""

    def __init__(self, patient_keys: ArrayLike, samples: int, seed: int, row_weights: ArrayLike | None = None) -> None:
        _, self._patient_of_row = np.unique(np.asarray(patient_keys), return_inverse=True)
        self._patients = int(self._patient_of_row.max()) + 1 if self._patient_of_row.size else 0
        self._samples, self._seed = samples, seed
        rows = self._patient_of_row.size
        self._row_weights = np.ones(rows) if row_weights is None else np.asarray(row_weights, dtype=np.float64)

    def weights(self) -> Iterator[Floats]:
        """Weights (resamples, rows) in chunks: how often each row's patient was drawn, times the row's own weight."""
        random = np.random.default_rng(self._seed)
        rows = max(1, self._patient_of_row.size)
        chunk = max(1, min(self._samples, _CHUNK_CELLS // rows))
        for start in range(0, self._samples, chunk):
            size = min(chunk, self._samples - start)
            drawn = random.integers(0, self._patients, (size, self._patients))
            offset = np.arange(size)[:, None] * self._patients
            counts = np.bincount((drawn + offset).ravel(), minlength=size * self._patients)
            yield counts.reshape(size, self._patients)[:, self._patient_of_row] * self._row_weights

    def estimate(self, statistics: dict[str, Statistic]) -> dict[str, Estimate]:
        """Each statistic on the rows as they are, with its interval; every statistic sees the same resamples."""
        if not self._patients:
            return {name: Estimate(np.nan, np.nan, np.nan) for name in statistics}
        once = self._row_weights[None, :]
        values = {name: float(statistic(once)[0]) for name, statistic in statistics.items()}
        drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
        for weights in self.weights():
            for name, statistic in statistics.items():
                drawn[name].append(statistic(weights))
        return {name: Estimate(values[name], *_interval(np.concatenate(parts))) for name, parts in drawn.items()}


def _interval(drawn: Floats) -> tuple[float, float]:
    finite = drawn[np.isfinite(drawn)]  # a resample without a single event has no AUROC
    if not finite.size:
        return np.nan, np.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
