"""The split by time: order, no overlap of windows, and a plain word when there is too little."""

from datetime import date, timedelta

import pandas as pd
import pytest

from core.errors import ModelError
from ml.training.split import split_by_time


def examples(landmarks: list[date], people: int = 20) -> pd.DataFrame:
    return pd.DataFrame([{"patient_key": f"{who:02}", "landmark_date": day, "label": who % 2}
                         for day in landmarks for who in range(people)])


def half_years(n: int) -> list[date]:
    return [date(2020 + half // 2, 1 + 6 * (half % 2), 1) for half in range(n)]


@pytest.mark.parametrize("landmarks", [4, 6, 8, 12])
def test_each_part_lies_before_the_next_and_windows_close_before_the_test(landmarks: int) -> None:
    split = split_by_time(examples(half_years(landmarks)))
    train, middle, test = (set(part["landmark_date"]) for part in (split.train, split.calibration, split.test))
    assert max(train) < min(middle) <= max(middle) < min(test)
    assert max(middle) + timedelta(days=365) <= min(test)
    assert max(test) == half_years(landmarks)[-1]
    assert split.rows() == {"train": len(split.train), "calibration": len(split.calibration), "test": len(split.test)}


@pytest.mark.parametrize("landmarks", [0, 1, 3])
def test_too_short_a_history_is_said_plainly(landmarks: int) -> None:
    empty = examples([date(2020, 1, 1)]).head(0)
    with pytest.raises(ModelError, match="longer history"):
        split_by_time(examples(half_years(landmarks)) if landmarks else empty)


def test_one_outcome_alone_cannot_be_learned() -> None:
    rows = examples(half_years(6))
    rows.loc[rows["landmark_date"] < date(2021, 1, 1), "label"] = 0
    with pytest.raises(ModelError, match="only one outcome"):
        split_by_time(rows)
