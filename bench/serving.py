"""The inference API, with authentication, feature look-up, logging and audit on.

    python -m bench serving [SECONDS OF SWAPS AND KILLS] [SECONDS OF EACH OTHER LOAD] [ROWS TO SCORE]

Against ``mlflow models serve`` with the same version of the same registry, the same client and as many workers; at a steady
rate; under champions that change and workers that are killed, where every answer must be what the version that it names says
offline; and the nightly scoring of many rows. ``python -m bench serving 60 5 100000`` is a quick look.
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pandas as pd
import psutil

from bench.http_load import Load, Offer, offer
from bench.processes import Server, free_port, wait_until
from bench.result import Ratio
from bench.serving_house import CLIENT, ServingHouse, make_house

CONNECTIONS, WORKERS = 32, 2
RATE = 200
RATE_UNDER_CHANGES = 150  # of /v1/risk; well below what one worker answers while the other starts
SWAPS, KILLS = 20, 10
WARM_SECONDS = 3
ROWS_A_SECOND = 200_000


def run(seconds: int = 600, load_seconds: int = 30, rows: int = 1_000_000) -> list[Ratio]:
    """All four. Errors: ``AssertionError`` for an answer that is wrong, or a failure that no kill explains."""
    with tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder:
        house = make_house(Path(folder))
        return [*_against_mlflow(house, load_seconds), *_steady(house, load_seconds), *_changes(house, seconds),
                _nightly(house, rows)]


def _against_mlflow(house: ServingHouse, seconds: int) -> list[Ratio]:
    bodies = _questions(house)
    with house.served(WORKERS):
        ours = _warmed(Offer(house.port, "/v1/risk", bodies, seconds, CONNECTIONS, headers=house.headers))
    port = free_port()
    frames = [orjson.dumps({"dataframe_split": {"columns": row.index.tolist(), "data": [row.tolist()]}},
                           option=orjson.OPT_SERIALIZE_NUMPY).decode()
              for _, row in house.rows.drop(columns="patient_key").astype(object).where(
                  house.rows.drop(columns="patient_key").notna(), None).head(500).iterrows()]  # fmt: skip
    with _mlflow(house, port):
        theirs = _warmed(Offer(port, "/invocations", frames, seconds, CONNECTIONS))
    note = (f"{CONNECTIONS} connections, {WORKERS} workers each; ours looks up, explains, logs and audits: "
            f"p50 {ours.milliseconds['p50']:.1f} against {theirs.milliseconds['p50']:.1f} ms")
    return [
        Ratio("API, throughput", ours.a_second, theirs.a_second, "requests/s", "mlflow models serve", ">= 8", note),
        Ratio("API, p99", ours.milliseconds["p99"], theirs.milliseconds["p99"], "ms", "mlflow models serve", "<= 0.2", note),
    ]


def _steady(house: ServingHouse, seconds: int) -> list[Ratio]:
    with house.served(WORKERS):
        load = _loaded(Offer(house.port, "/v1/risk", _questions(house), seconds, CONNECTIONS, rate=RATE, headers=house.headers))
    told = load.milliseconds
    note = f"{load.answered} requests at {RATE}/s, p95 {told['p95']:.1f}, longest {told['max']:.1f} ms"
    return [Ratio("API at 200/s, p50", told["p50"], 5, "ms", "5 ms", "<= 1.0", note),
            Ratio("API at 200/s, p99", told["p99"], 25, "ms", "25 ms", "<= 1.0", note)]


def _changes(house: ServingHouse, seconds: int) -> list[Ratio]:
    """Champions swapped and workers killed under load; every answer is compared with its version's offline prediction."""
    from ml import registry

    asked = Offer(house.port, "/v1/risk", _questions(house), seconds, CONNECTIONS, rate=RATE_UNDER_CHANGES,
                  headers=house.headers, is_kept=True, may_break=True)  # fmt: skip
    with house.served(WORKERS) as server:
        _loaded(Offer(house.port, "/v1/risk", _questions(house), WARM_SECONDS, CONNECTIONS, headers=house.headers))
        changes = threading.Thread(target=_change, args=(house, server, seconds), daemon=True)
        changes.start()
        load = offer(asked)
        changes.join(60)
        assert not changes.is_alive()
        assert server.is_running
    risks = {version: registry.load_version(house.settings, version).predict(house.rows).tolist()
             for version in house.versions}
    wrong = sum(risks[version][number] != risk for number, version, risk in load.kept)
    versions = {version for _, version, _ in load.kept}
    failed = sum(count for status, count in load.statuses.items() if status != "200")
    assert wrong == failed == 0, f"{wrong} wrong answers, {load.statuses}"
    assert versions == set(house.versions), f"only {versions} answered"
    assert load.lost <= KILLS * CONNECTIONS
    note = (f"{load.answered} answers in {load.seconds:.0f} s of {SWAPS} swaps and {KILLS} kills, of both versions; "
            f"{load.lost} requests lost with their connections, {load.refused} connections refused, longest wait "
            f"{load.milliseconds['max']:.0f} ms")  # fmt: skip
    return [Ratio("API, wrong or failed answers", wrong + failed, load.answered, "answers", "all answers", "<= 0.0", note),
            Ratio("API, connections lost", load.lost, KILLS, "requests", "kills", f"<= {CONNECTIONS}", note)]


def _change(house: ServingHouse, server: Server, seconds: float) -> None:
    from ml import registry

    chance = random.Random(7)
    moments = sorted([(seconds * (at + 0.5) / (SWAPS + 1), "swap") for at in range(SWAPS)]
                     + [(seconds * (at + 0.9) / (KILLS + 1), "kill") for at in range(KILLS)])  # fmt: skip
    began = time.monotonic()
    for moment, what in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        if what == "kill":
            os.kill(chance.choice(_workers(server)), signal.SIGKILL)
        else:
            current = registry.champion_version(house.settings)
            other = next(version for version in house.versions if version != current)
            registry.promote(house.settings, other, CLIENT, "the bench swaps")


def _workers(server: Server) -> list[int]:
    """Processes that answer: children of the one that was started."""
    found: list[int] = []
    assert wait_until(lambda: bool(found.extend(child.pid for child in psutil.Process(server.pid).children()) or found), 10)
    return found


def _nightly(house: ServingHouse, rows: int) -> Ratio:
    """`ml.scoring` scores with this call, on rows as the lake gives them."""
    from ml import registry

    champion = registry.champion(house.settings)
    assert champion is not None
    people = pd.concat([house.rows] * (rows // len(house.rows) + 1), ignore_index=True).head(rows)
    champion.predict(people.head(1000), WORKERS)
    began = time.perf_counter()
    risks = champion.predict(people, WORKERS)
    seconds = time.perf_counter() - began
    assert (risks == champion.predict(people)).all()
    return Ratio("batch scoring", rows / seconds, ROWS_A_SECOND, "rows/s", "200,000 rows/s", ">= 1.0",
                 f"{rows:,} rows, {WORKERS} threads, the same to the last bit as with one")


def _questions(house: ServingHouse) -> list[str]:
    return [orjson.dumps({"patient_key": key}).decode() for key in house.patients]


def _warmed(what: Offer) -> Load:
    _loaded(replace(what, seconds=WARM_SECONDS))
    return _loaded(what)


def _loaded(what: Offer) -> Load:
    """Errors: ``AssertionError`` when anything was answered but 200."""
    load = offer(what)
    assert set(load.statuses) == {"200"}, f"answered {load.statuses}"
    return load


@contextmanager
def _mlflow(house: ServingHouse, port: int) -> Iterator[Server]:
    from ml.tracking import MODEL_NAME

    uri = house.settings.mlflow_tracking_uri()
    command = (sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{MODEL_NAME}/{house.versions[0]}",
               "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS))  # fmt: skip
    family: list[psutil.Process] = []
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # it looks for uvicorn there
    server = Server("mlflow models serve", command, {"PATH": search, "MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri,
                                                     "MLFLOW_DISABLE_TELEMETRY": "true"})  # fmt: skip
    try:
        with server:
            wait_until(lambda: not server.is_running or _answers(f"http://127.0.0.1:{port}/ping"), 120, 0.5)
            assert server.is_running, "\n".join(server.said)
            family = psutil.Process(server.pid).children(recursive=True)  # it starts a shell, and the shell its workers
            yield server
    finally:
        for process in family:
            with suppress(psutil.Error):
                process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
