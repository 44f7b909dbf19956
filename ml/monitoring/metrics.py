"""What one metric of a verdict is: the row that is kept, and the sentence that explains a breach."""

from dataclasses import dataclass

from ml.monitoring.effects import Effect
from ml.monitoring.rules import EffectRule


@dataclass(frozen=True)
class DriftMetric:
    """One measured number. ``threshold`` is None where the number is kept but not judged."""

    kind: str  # feature | prediction | quality | performance
    feature: str
    statistic: str
    value: float
    threshold: float | None
    is_breached: bool
    window: str = ""
    n: int = 0
    reason: str = ""  # why it breached, in one sentence without a patient's value


def judged(kind: str, feature: str, statistic: str, effect: Effect, rule: EffectRule, level: float, window: str,
           minimum: int, reason: str, *, only_rise: bool = False) -> DriftMetric:
    """An effect under its rule. Fewer observations than ``minimum`` are kept, not judged."""
    enough = effect.n >= minimum
    breached = (enough and abs(effect.value) >= rule.effect and effect.bound(level) >= rule.floor
                and (effect.value > 0 or not only_rise))
    return DriftMetric(kind, feature, f"{statistic}.{window}", effect.value, rule.effect if enough else None, breached,
                       window, effect.n, reason if breached else "")
