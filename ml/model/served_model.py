"""What ``mlflow.pyfunc.load_model`` runs (logged as code, so nothing is pickled); needs this project on the path."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from ml.model.risk_model import load_risk_model, model_digest


class ServedRiskModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined, misc]
    """One-year risks of rows of ``patient_features``. Scoring itself goes through `ml.registry`, which knows the digest."""

    def load_context(self, context: Any) -> None:
        """Load the two files of this model."""
        folder = Path(context.artifacts["trees"]).parent
        self.model = load_risk_model(folder, model_digest(folder))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        """Risks, shape (n,)."""
        return self.model.predict(model_input)


mlflow.models.set_model(ServedRiskModel())
