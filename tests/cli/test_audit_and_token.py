"""`cuff audit verify` and `cuff token`, as somebody types them."""

import json

import jwt
import pytest
from sqlalchemy import text

from core.audit import AuditRow, append_audit
from core.store import open_store
from tests.cli.test_command_line import cuff
from tests.conftest import make_settings


@pytest.fixture
def house(tmp_path):
    settings = make_settings(tmp_path)
    with open_store(settings).begin() as connection:
        append_audit(connection, [AuditRow("clinic", "POST /v1/risk", str(nth), "200") for nth in range(5)])
    return settings


def test_a_sound_chain_is_told_with_the_hash_to_note(tmp_path, house):
    told = cuff(tmp_path, "audit", "verify")
    assert told.returncode == 0
    assert "5 rows hold" in told.stdout
    report = json.loads(cuff(tmp_path, "audit", "verify", "--json").stdout)
    assert report["newest_hash"] in told.stdout
    assert (report["rows"], report["first_broken_row"]) == (5, None)
    assert cuff(tmp_path, "audit", "verify", "--noted", report["newest_hash"]).returncode == 0
    with open_store(house).begin() as connection:
        connection.execute(text("delete from audit_events where audit_event_id = 5"))
    cut = cuff(tmp_path, "audit", "verify", "--noted", report["newest_hash"])
    assert cut.returncode == 1
    assert "deleted" in cut.stderr


def test_a_changed_row_is_named(tmp_path, house):
    with open_store(house).begin() as connection:
        connection.execute(text("update audit_events set subject = 'x' where audit_event_id = 3"))
    told = cuff(tmp_path, "audit", "verify", "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["first_broken_row"] == 3
    assert "row 3 " in told.stderr


def test_a_token_is_for_development_only_and_says_so(tmp_path):
    given = cuff(tmp_path, "token", "--scope", "risk:read", "--scope", "ops:read", "--source", "SIMHOSP", "--minutes", "5")
    assert given.returncode == 0
    assert "FOR DEVELOPMENT ONLY" in given.stderr
    claims = jwt.decode(given.stdout.strip(), options={"verify_signature": False})
    assert (claims["scope"], claims["sources"], claims["exp"] - claims["iat"]) == ("ops:read risk:read", ["SIMHOSP"], 300)
    assert json.loads(cuff(tmp_path, "token", "--scope", "risk:read", "--json").stdout)["for"] == "development only"
    assert cuff(tmp_path, "token").returncode == 2
    unknown = cuff(tmp_path, "token", "--scope", "risk:write")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no scope 'risk:write'" in unknown.stderr


def test_outside_development_no_token_is_issued(tmp_path):
    refused = cuff(tmp_path, "token", "--scope", "risk:read", CUFF_ENVIRONMENT="production")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "for development only" in refused.stderr
    assert not (tmp_path / "serving").exists()
