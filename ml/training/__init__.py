"""From the published snapshot to a registered, judged model."""

from ml.training.outcome import TrainingOutcome
from ml.training.pipeline import train

__all__ = ["TrainingOutcome", "train"]
