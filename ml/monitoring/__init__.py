"""Watching: is the world still the one the champion was trained on, and does the feed still work?"""

from ml.monitoring.check import DriftOutcome, check_drift
from ml.monitoring.metrics import DriftMetric
from ml.monitoring.record import mark_emitted
from ml.monitoring.skew import SkewOutcome, check_skew

__all__ = ["DriftMetric", "DriftOutcome", "SkewOutcome", "check_drift", "check_skew", "mark_emitted"]
