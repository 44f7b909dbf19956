"""The API against its own OpenAPI document: schemathesis, all checks, examples, coverage, fuzzing and stateful, over a real
socket. The document says what is answered; whatever is sent, nothing else is, and nothing breaks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.audit import first_broken_row
from core.store import AuditEvent, store_session
from ml.serving.app import create_app
from ml.serving.security.errors import MEDIA_TYPE
from tests.ml.serving.running_api import free_port, running_api
from tests.ml.serving.small_api import bearer

EXAMPLES = 60  # of each operation and phase


def test_the_document_says_which_scope_each_route_demands_and_that_errors_are_problems(settings):
    document = create_app(settings).openapi()
    operations = {(path, method): operation for path, methods in document["paths"].items()
                  for method, operation in methods.items()}  # fmt: skip
    assert operations["/v1/risk", "post"]["security"] == [{"bearer": ["risk:read"]}]
    assert "security" not in operations["/healthz", "get"]
    for operation in operations.values():
        demands = "security" in operation
        assert ("401" in operation["responses"]) is demands
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and (demands or status != "503"):
                assert list(answer["content"]) == [MEDIA_TYPE]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


@pytest.mark.slow
def test_nothing_that_is_sent_gets_what_the_document_does_not_say(house, tmp_path):
    settings = house.model_copy(update={
        "serve_port": free_port(), "serve_workers": 1, "serve_rate_limit": "1000000/minute"})  # fmt: skip
    command = Path(sys.executable).with_name("schemathesis")
    with running_api(settings) as address:
        told = subprocess.run(
            [command, "run", f"{address}/openapi.json", "--checks", "all", "--phases", "examples,coverage,fuzzing,stateful",
             "--continue-on-failure", "--max-examples", str(EXAMPLES), "--no-color", "--request-timeout", "20",
             "-H", f"Authorization: {bearer(settings, name='schemathesis')['Authorization']}"],
            cwd=tmp_path, env=os.environ | {"NO_PROXY": "*"}, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
    assert "No issues found" in told.stdout
    with store_session(settings) as session:
        assert first_broken_row(session) is None
        assert session.scalar(select(func.count()).select_from(AuditEvent)) > 500
        assert session.scalars(select(AuditEvent.outcome).where(AuditEvent.outcome.like("5%"))).all() == []
