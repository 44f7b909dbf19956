"""`.env.example` documents every setting, with the default that the code has."""

import re

import pytest

from core.settings import PROJECT_ROOT, Settings
from tests.deploy.compose import COMPOSE_FILE

EXAMPLE = PROJECT_ROOT / ".env.example"


def documented() -> dict[str, str]:
    """Every name with the value before its comment."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*?)(?: +#.*)?$", EXAMPLE.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_default(field):
    shown = documented()[f"CUFF_{field.upper()}"]
    default = Settings.model_fields[field].get_default(call_default_factory=True)
    if field in ("var", "sources_file"):
        assert PROJECT_ROOT / shown == default
    elif field == "landing_dir":
        var = Settings.model_fields["var"].default
        assert (PROJECT_ROOT / shown, default) == (Settings(_env_file=None, var=var).extracts_dir, None)
    elif hasattr(default, "get_secret_value"):
        assert shown == default.get_secret_value() == ""
    else:
        assert shown.lower() == ("" if default is None else str(default).lower())


def test_every_variable_of_compose_is_documented():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text()))
    assert used - set(documented()) == set()


def test_what_is_documented_exists():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE_FILE.read_text()))
    fields = {f"CUFF_{name.upper()}" for name in Settings.model_fields}
    assert set(documented()) - used - fields == {"CUFF_TEST_POSTGRES", "KAFKA_BOOTSTRAP"}


def test_copied_as_it_is_it_sets_nothing(tmp_path):
    """So a copy in place of .env still gets its secrets generated."""
    assert all(line.startswith("#") or not line.strip() for line in EXAMPLE.read_text().splitlines())
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None)
