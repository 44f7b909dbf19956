"""What the API counts. Labels are routes, statuses and numbers of models, never anything of a request's.

Several workers answer on one port, so each keeps its counts in files of a common folder, and whoever is asked adds them up.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.values import MutexValue, ValueClass

# The folder that prometheus_client found when it was imported; None where each process counts for itself. A library that
# sets the variable later (Feast does) changes nothing.
_FOLDER = None if ValueClass is MutexValue else os.environ.get("PROMETHEUS_MULTIPROC_DIR")

REQUESTS = Counter("cuff_api_requests", "Requests answered", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "cuff_api_request_seconds", "From a request's head to its answer's", ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
BATCH_PEOPLE = Histogram("cuff_api_batch_people", "People scored together", buckets=(1, 2, 4, 8, 16, 32, 64, 256, 1024))
CHAMPION = Gauge("cuff_api_champion_version", "Version that answers", multiprocess_mode="mostrecent")
SWAPS = Counter("cuff_api_champion_swaps", "Champions that took their place")
REFUSED = Counter("cuff_api_champion_refused", "Versions that were not taken: digest, features or golden predictions")


def exposition() -> bytes:
    """All workers' counts in Prometheus' text format."""
    if _FOLDER is None:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, _FOLDER)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
