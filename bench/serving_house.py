"""A house with patients, two champions that differ, and an API that serves them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.processes import House, Server, free_port
from core.settings import Settings

PATIENTS = 2000
CLIENT = "bench"


@dataclass(frozen=True)
class ServingHouse:
    """``patients`` are eligible, ``rows`` their features as published, in the same order; ``versions`` may be champion."""

    house: House
    settings: Settings
    patients: list[str]
    rows: pd.DataFrame
    versions: tuple[int, int]

    @property
    def headers(self) -> dict[str, str]:
        from ml.serving.security.development import issue

        return {"Authorization": f"Bearer {issue(self.settings, ['risk:read', 'risk:score', 'ops:read'], name=CLIENT)}"}

    @property
    def port(self) -> int:
        return self.settings.serve_port

    @contextmanager
    def served(self, workers: int = 2, **more: object) -> Iterator[Server]:
        """``cuff serve``, ready; rate limits are out of the way of a bench."""
        options = {"CUFF_SERVE_WORKERS": workers, "CUFF_SERVE_RATE_LIMIT": "1000000/second", **more}
        with self.house.start("serve", more={name: str(value) for name, value in options.items()}) as server:
            yield server


def make_house(folder: Path, patients: int = PATIENTS) -> ServingHouse:
    """Publish a drawn hospital, train two models that differ, and materialise the features."""
    from core.lake import read_lake
    from core.publication import published
    from ml import registry
    from ml.features.materialization import materialize
    from ml.scoring import eligible_features
    from ml.training import train
    from tests.ml.hospital import draw, publish_hospital

    house = House(folder / "var", {"serve_port": free_port(), "training_search_seconds": 0, "bootstrap_samples": 50})
    settings = house.settings
    now = publish_hospital(settings, draw(patients, seed=3))
    versions = [train(settings.model_copy(update={"seed": settings.seed + number}), "manual", actor=CLIENT).model_version
                for number in range(2)]
    if registry.champion_version(settings) != versions[0]:
        registry.promote(settings, versions[0], CLIENT, "the bench begins with it")
    materialize(settings)
    with read_lake(settings, ("clinical",), published(settings).snapshots) as lake:
        rows = eligible_features(lake, now.as_of)
    return ServingHouse(house, settings, rows["patient_key"].tolist(), rows, (versions[0], versions[1]))
