"""The split by time: train on earlier landmarks, calibrate on the ones between, test on the last."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from core.errors import ModelError
from ml.features.catalog import LABEL_WINDOW_DAYS

if TYPE_CHECKING:
    import pandas as pd

TEST_SHARE = 0.25  # of the landmarks
CALIBRATION_SHARE = 0.35  # of the landmarks before the test


@dataclass(frozen=True)
class Split:
    """Three sets of rows of the training set, each landmark in one of them or in none."""

    train: "pd.DataFrame"
    calibration: "pd.DataFrame"
    test: "pd.DataFrame"

    def rows(self) -> dict[str, int]:
        return {"train": len(self.train), "calibration": len(self.calibration), "test": len(self.test)}

    def landmarks(self) -> dict[str, str]:
        """First and last landmark of each, as text."""
        parts = {"train": self.train, "calibration": self.calibration, "test": self.test}
        return {name: f"{min(part['landmark_date']):%Y-%m-%d} to {max(part['landmark_date']):%Y-%m-%d}"
                for name, part in parts.items()}  # fmt: skip


def split_by_time(examples: "pd.DataFrame") -> Split:
    """Split by landmark. Landmarks whose outcome window reaches into the test period are left out.

    The same patient's same event would otherwise be learned from one landmark and tested on the next, and on the day of
    the first test landmark nobody could have known it. Errors: `ModelError` when there are too few landmarks.
    """
    import pandas as pd

    dates = pd.to_datetime(examples["landmark_date"])
    landmarks = sorted(dates.unique())
    tested = landmarks[len(landmarks) - max(1, round(TEST_SHARE * len(landmarks))):]
    known = [day for day in landmarks if tested and day + timedelta(days=LABEL_WINDOW_DAYS) <= tested[0]]
    if len(known) < 2:
        raise ModelError(
            f"{len(landmarks)} labelled landmarks are too few to train, calibrate and test apart in time; "
            "ingest a longer history (five years or more) and build again")
    calibrating = known[len(known) - max(1, round(CALIBRATION_SHARE * len(known))):]
    training = known[:len(known) - len(calibrating)]
    parts = (examples[dates.isin(chosen)].reset_index(drop=True) for chosen in (training, calibrating, tested))
    split = Split(*parts)
    for name, part in (("train", split.train), ("calibration", split.calibration), ("test", split.test)):
        if part["label"].nunique() < 2:
            raise ModelError(f"the {name} rows ({len(part)}) hold only one outcome; ingest more patients or more years")
    return split
