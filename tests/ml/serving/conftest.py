"""One house for the tests of the API: a drawn hospital, two champions that differ, an online store. Trained once."""

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core.keys import pseudonym
from core.settings import Settings
from ehr.identity import keep_identities
from ehr.records import VaultEntry
from ml import registry
from ml.features.materialization import materialize
from ml.training import train
from tests.conftest import make_settings
from tests.ml.hospital import draw, publish_hospital

AUTHORITY, KNOWN_NUMBER, UNLINKED_NUMBER = "SIMHOSP-MRN", "MRN-0000017", "MRN-0000018"
PATIENT_WITH_A_NUMBER = f"{17:032x}"
_SECRET = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


def person_key(number: str) -> str:
    return pseudonym(base64.b64decode(_SECRET), "person", AUTHORITY, number)


@pytest.fixture(scope="session")
def two_champions(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Version 1 is champion; version 2 was trained with another seed, so that it says something else of everybody."""
    settings = make_settings(tmp_path_factory.mktemp("two_champions") / "var", bootstrap_samples=20, serve_champion_seconds=0.2)
    drawn = draw(900, seed=3)
    publish_hospital(settings, replace(drawn, persons={person_key(KNOWN_NUMBER): PATIENT_WITH_A_NUMBER}))
    for number in range(2):
        version = train(settings.model_copy(update={"seed": settings.seed + number}), "manual", actor="tester").model_version
        if number == 0 and registry.champion_version(settings) is None:
            registry.promote(settings, version, "tester", "for the tests")
    if registry.champion_version(settings) == 2:
        registry.rollback(settings, "tester", "the tests begin with version 1")
    materialize(settings)
    keep_identities(settings, [VaultEntry(person_key(number), "person", {"number": number})
                               for number in (KNOWN_NUMBER, UNLINKED_NUMBER)])
    return settings


@pytest.fixture
def house(two_champions: Settings, tmp_path: Path) -> Settings:
    """The same with books of its own: what is promoted, logged and told here stays here."""
    settings = two_champions.model_copy(update={"var": tmp_path / "var"})
    shutil.copytree(two_champions.var, settings.var, ignore=shutil.ignore_patterns("artifacts"))
    return settings
