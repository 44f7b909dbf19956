"""What the model knows of a patient: one catalog, joined by time offline, served by key online."""

from ml.features.materialization import FeaturesOutcome, materialize

__all__ = ["FeaturesOutcome", "materialize"]
