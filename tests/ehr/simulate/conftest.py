"""A small synthetic hospital for each test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ehr.simulate import SimulationOptions, SimulationSummary, simulate_hospital

Simulate = Callable[..., SimulationSummary]


@pytest.fixture
def simulate(tmp_path: Path) -> Simulate:
    """``simulate(patients=..., until=...)`` writes a small extract into a folder of its own."""
    runs = iter(range(1000))

    def run(**options: object) -> SimulationSummary:
        out = tmp_path / str(next(runs)) / "extract"
        return simulate_hospital(out, SimulationOptions(**({"patients": 150, "years": 3, "seed": 3} | options)))

    return run
