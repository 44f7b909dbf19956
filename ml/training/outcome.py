"""What one training did and decided."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ml.evaluation.bootstrap import Estimate
from ml.evaluation.gates import Gate


@dataclass(frozen=True)
class TrainingOutcome:
    """``metrics`` are the challenger's and ``champion_metrics`` the reigning champion's, on the same test rows."""

    model_version: int
    run_id: str
    decision: Literal["promoted", "held"]
    why: str
    build_id: int
    previous_champion: int | None
    gates: list[Gate]
    metrics: dict[str, Estimate]
    baselines: dict[str, dict[str, Estimate]]
    champion_metrics: dict[str, Estimate] | None
    rows: dict[str, int]  # train, calibration, test

    @property
    def promoted(self) -> bool:
        return self.decision == "promoted"

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON takes it."""
        return asdict(self)
