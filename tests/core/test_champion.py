"""The champion as the ops database remembers it, and whether everybody has its scores."""

from datetime import date

import pytest

from core.champion import champion_version, is_champion_unscored
from core.settings import Settings
from core.store import ModelEvent, ScoringRun, store_session


@pytest.fixture
def settings(tmp_path):
    return Settings(_env_file=None, var=tmp_path)


def crown(settings, version, action="promoted"):
    with store_session(settings) as session:
        session.add(ModelEvent(action=action, model_version=version, previous_version=None, actor="test", why="test",
                               evidence={}))  # fmt: skip


def score(settings, version):
    with store_session(settings) as session:
        session.add(ScoringRun(build_id=1, clinical_snapshot=1, as_of=date(2026, 1, 1), model_version=version, patients=3,
                               mean_risk=0.1))  # fmt: skip


def test_before_the_first_champion_nobody_is_to_be_scored(settings):
    assert champion_version(settings) is None
    assert not is_champion_unscored(settings)


def test_a_champion_is_unscored_until_it_has_scored(settings):
    crown(settings, 1)
    assert is_champion_unscored(settings)
    score(settings, 1)
    assert not is_champion_unscored(settings)


def test_a_held_challenger_changes_nothing_and_a_rollback_does(settings):
    for version in (1, 2):
        crown(settings, version)
        score(settings, version)
    crown(settings, 3, action="held")
    assert not is_champion_unscored(settings)
    crown(settings, 1, action="rolled_back")
    assert is_champion_unscored(settings)
