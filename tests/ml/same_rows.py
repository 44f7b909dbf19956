"""Is what is served the row of the snapshot that it names, to the last bit?"""

import struct
from datetime import date
from typing import Any

from core.lake import SnapshotNumbers, read_lake
from core.settings import Settings
from ml.features.catalog import FEATURE_NAMES, FEATURES
from ml.features.online import OnlineRow


def bits(values: dict[str, Any]) -> dict[str, Any]:
    """The same with floats as their eight bytes, so that 0.0 is not -0.0 and nothing is nearly equal."""
    return {name: struct.pack("<d", value) if isinstance(value, float) else value for name, value in values.items()}


class Snapshots:
    """The published rows, looked up at snapshots in plain SQL."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[int, dict[tuple[str, date], dict[str, Any]]] = {}

    def row(self, served: OnlineRow) -> dict[str, Any] | None:
        number = served.clinical_snapshot
        if number not in self._known:
            with read_lake(self._settings, ("clinical",), SnapshotNumbers(clinical=number)) as lake:
                table = lake.execute("select * from clinical.ml.patient_features").to_arrow_table().to_pylist()
            self._known[number] = {(row["patient_key"], row["feature_date"]): row for row in table}
        return self._known[number].get((served.patient_key, served.feature_date))

    def assert_same(self, served: OnlineRow) -> None:
        row = self.row(served)
        assert row is not None
        assert bits(served.values) == bits({name: row[name] for name in FEATURE_NAMES})
        assert served.is_eligible == row["is_eligible"]
        assert ",".join(served.source_ids) == row["source_ids"]
        for feature in FEATURES:
            day = row[feature.observed_in] if feature.observed_in else row["feature_date"]
            assert served.observed_on[feature.name] == (None if row[feature.name] is None else day)
