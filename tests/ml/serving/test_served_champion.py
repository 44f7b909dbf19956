"""The champion that answers changes when the registry's does, never to one that fails a check, and never in an answer."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from core.lake import read_lake
from core.publication import published
from core.settings import Settings
from core.store import Alert, store_session
from ml import registry
from ml.model.calibration import Recalibration
from ml.model.golden import GOLDEN_FILE, GOLDEN_TAG, write_golden
from ml.model.risk_model import TREES_FILE, RiskModel, load_risk_model
from ml.scoring import eligible_features
from ml.serving import served_champion
from ml.serving.app import create_app
from ml.serving.served_champion import ServedChampion
from ml.tracking import MODEL_NAME, log_model, mlflow_client, training_run
from ml.training.report import synthetic_example
from tests.ml.serving.small_api import bearer

pytestmark = pytest.mark.slow


def crown(settings: Settings, version: int) -> None:
    """As whoever may write to MLflow could: past `cuff promote`, which would have refused."""
    mlflow_client(settings).set_registered_model_alias(MODEL_NAME, "champion", str(version))


def register(settings: Settings, tmp_path: Path, spoil: Callable[[Path, dict[str, str]], dict[str, str]]) -> int:
    """A version like 1 with something wrong about it: ``spoil`` changes its files or returns other tags."""
    loaded = registry.load_version(settings, 1)
    folder = tmp_path / "spoilt"
    folder.mkdir()
    tags = loaded.tags | {"model_digest": loaded.model.save(folder), GOLDEN_TAG: write_golden(loaded.model, folder)}
    tags = spoil(folder, tags)
    with training_run(settings, {}) as run_id:
        return log_model(settings, run_id, folder, synthetic_example(), tags)


def tampered(folder: Path, tags: dict[str, str]) -> dict[str, str]:
    content = bytearray((folder / TREES_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TREES_FILE).write_bytes(content)
    return tags


def golden_of_another(folder: Path, tags: dict[str, str]) -> dict[str, str]:
    model = load_risk_model(folder, tags["model_digest"])
    other = RiskModel(model.trees, model.prior, Recalibration(0.2, 1.0))
    return tags | {GOLDEN_TAG: write_golden(other, folder)}


def golden_exchanged(folder: Path, tags: dict[str, str]) -> dict[str, str]:
    (folder / GOLDEN_FILE).write_text((folder / GOLDEN_FILE).read_text() + " ")
    return tags


def without_golden(folder: Path, tags: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name != GOLDEN_TAG}


def of_other_features(folder: Path, tags: dict[str, str]) -> dict[str, str]:
    return tags | {"feature_hash": "0" * 64}


def alerts(settings: Settings) -> list[dict[str, Any]]:
    with store_session(settings) as session:
        return list(session.scalars(select(Alert.detail).where(Alert.kind == "champion_refused")))


async def started(settings: Settings) -> ServedChampion:
    champion = ServedChampion(settings)
    await champion.start()
    await champion.stop()  # looked at by hand from here on
    return champion


def answering(champion: ServedChampion) -> int | None:
    return champion.current.version if champion.current else None


def test_it_follows_the_registry_there_and_back(house: Settings) -> None:
    async def follow() -> list[int | None]:
        champion = await started(house)
        seen = [answering(champion)]
        registry.promote(house, 2, "tester", "to see it answer")
        await champion.look()
        seen.append(answering(champion))
        registry.rollback(house, "tester", "and back")
        await champion.look()
        return [*seen, answering(champion)]

    assert asyncio.run(follow()) == [1, 2, 1]
    assert alerts(house) == []


@pytest.mark.parametrize(("spoil", "why"), [
    (tampered, "digest of the model's files"), (golden_of_another, "no longer says"), (golden_exchanged, "golden predictions"),
    (without_golden, "without golden predictions"), (of_other_features, "other feature definitions"),
])  # fmt: skip
def test_one_that_fails_a_check_is_refused_and_told_once(
        house: Settings, tmp_path: Path, spoil: Callable[[Path, dict[str, str]], dict[str, str]], why: str) -> None:
    version = register(house, tmp_path, spoil)

    async def follow() -> list[int | None]:
        champion = await started(house)
        crown(house, version)
        for _ in range(3):
            await champion.look()
        seen = [answering(champion)]
        crown(house, 2)
        await champion.look()
        seen.append(answering(champion))
        crown(house, version)  # it moved, so it is tried again, and refused again
        await champion.look()
        return [*seen, answering(champion)]

    assert asyncio.run(follow()) == [1, 2, 2]
    (told,) = alerts(house)
    assert told["version"] == version
    assert why in told["why"]


def test_a_worker_that_starts_while_the_champion_is_refused_answers_with_the_one_before(
        house: Settings, tmp_path: Path) -> None:
    registry.promote(house, 2, "tester", "champion before")
    version = register(house, tmp_path, tampered)
    crown(house, version)

    async def start() -> list[int | None]:
        return [answering(await started(house)) for _ in range(2)]

    assert asyncio.run(start()) == [2, 2]
    assert len(alerts(house)) == 1


def test_what_was_out_of_reach_is_taken_when_it_can_be_had(
        house: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register(house, tmp_path, lambda folder, tags: tags)
    files = registry.load_version(house, version).folder
    monkeypatch.setattr(served_champion, "AGAIN_SECONDS", 0.0)

    async def follow() -> list[int | None]:
        champion = await started(house)
        shutil.move(files, tmp_path / "away")
        crown(house, version)
        await champion.look()
        await champion.look()
        seen = [answering(champion)]
        shutil.move(tmp_path / "away", files)
        await champion.look()
        return [*seen, answering(champion)]

    assert asyncio.run(follow()) == [1, version]
    assert len(alerts(house)) == 1


def test_without_a_registry_the_old_one_goes_on(house: Settings, caplog: pytest.LogCaptureFixture) -> None:
    async def follow() -> int | None:
        champion = await started(house)
        (house.var / "mlflow" / "mlflow.db").write_bytes(b"no database")
        with caplog.at_level(logging.WARNING):
            await champion.look()
        return answering(champion)

    assert asyncio.run(follow()) == 1


def test_swapped_under_load_no_answer_fails_and_none_is_mixed(house: Settings) -> None:
    with read_lake(house, ("clinical",), published(house).snapshots) as lake:
        rows = eligible_features(lake, published(house).as_of).head(60)
    risks = {version: dict(zip(rows["patient_key"], registry.load_version(house, version).predict(rows).tolist(), strict=True))
             for version in (1, 2)}
    keys, swaps = rows["patient_key"].tolist(), 8
    answered: list[tuple[int, str, int, float]] = []

    async def load() -> None:
        app = create_app(house)
        async with app.router.lifespan_context(app), httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", headers=bearer(house, "risk:read")) as client:
            is_over = asyncio.Event()

            async def ask(number: int) -> None:
                while not is_over.is_set():
                    key = keys[(number * 7 + len(answered)) % len(keys)]
                    answer = await client.post("/v1/risk", json={"patient_key": key})
                    told = answer.json()["assessments"][0] if answer.status_code == 200 else {"model": {"version": 0}}
                    answered.append((answer.status_code, key, told["model"]["version"], told.get("risk_12_months", 0.0)))

            asking = [asyncio.create_task(ask(number)) for number in range(6)]
            for number in range(swaps):
                await asyncio.to_thread(registry.promote, house, 2 - number % 2, "tester", "swap")
                while app.state.champion.current.version != 2 - number % 2:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.05)
            is_over.set()
            await asyncio.gather(*asking)

    asyncio.run(load())
    assert {status for status, *_ in answered} == {200}
    assert {version for _, _, version, _ in answered} == {1, 2}
    assert len(answered) > 100
    assert not [one for one in answered if risks[one[2]][one[1]] != one[3]]
