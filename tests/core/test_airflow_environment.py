"""A child process reads exactly the settings of its parent."""

import pytest

from core.airflow_environment import settings_environment
from core.settings import Settings
from tests.conftest import make_settings


def test_a_child_reads_the_same_settings(tmp_path, monkeypatch: pytest.MonkeyPatch):
    told = make_settings(tmp_path / "var", kafka_options={"security.protocol": "ssl"}, transport="kafka", watch_cron="",
                         listen_tls_key=tmp_path / "key.pem", s3_use_tls=False)
    for name, value in settings_environment(told).items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("CUFF_LANDING_DIR=/elsewhere\nCUFF_SEED=1\n")
    assert Settings(_env_file=tmp_path / ".env") == told
