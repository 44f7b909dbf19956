"""Every test gets a house of its own: fresh `var/`, fresh secrets, nothing read from `.env`."""

import base64
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from core.settings import Settings

# Two busy cores make single examples slow; the number of examples bounds a property, not the clock.
hypothesis_settings.register_profile("cuff", deadline=None, max_examples=60)
hypothesis_settings.load_profile("cuff")


def make_settings(var: Path, **overrides: object) -> Settings:
    """Settings of an empty house under ``var`` with fixed test secrets, not touched by the machine's ``.env``."""
    secret = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    values = {
        "var": var,
        "pseudonym_secret": secret,
        "vault_key": secret,
        "archive_key": secret,
        "training_search_seconds": 0,
        "bootstrap_samples": 50,
    } | overrides
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path / "var")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, so that no worker is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
