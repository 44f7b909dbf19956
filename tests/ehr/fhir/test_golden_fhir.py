"""Golden folders: a small readable extract beside the rows, refusals and counts it must give.

Keys are written as what they stand for (``person default:fhir s1``). To renew after a wanted change, read the diff of
``CUFF_RENEW_GOLDEN=1 pytest tests/ehr/fhir/test_golden_fhir.py``.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.keys import pseudonym
from core.settings import Settings
from ehr.fhir.parse import FACT_TABLES
from ehr.ingest import ingest
from tests.conftest import make_settings
from tests.ehr.landed import landed_rows, ledger_of, payload_id_of, readable, refusals_of

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(folder.name for folder in GOLDEN.iterdir())
TEST_KEY = b"0123456789abcdef0123456789abcdef"
PEOPLE = ["h", "s1", "r", "m", "t", "v", "d", "d9", "k", "n1", "x", "l1", "l2", "z"]
NUMBERS = [("default:urn:oid:2.999.7", "77001"), ("default:urn:oid:2.999.8", "12"), ("default:urn:oid:2.999.1.1", "S-1")]
BUNDLE_URL = "urn:uuid:00000000-0000-4000-8000-0000000000"


def key_names() -> dict[str, str]:
    named = [("person", "default:fhir", person) for person in PEOPLE]
    named += [("person", *number) for number in NUMBERS]
    named += [("encounter", "default:fhir", visit) for visit in ("e1", "v1", f"{BUNDLE_URL}02")]
    named += [("medication", "default:fhir", "m1")]
    return {pseudonym(TEST_KEY, *parts): " ".join(parts) for parts in named}


def input_of(case: str) -> Path:
    return next(GOLDEN.joinpath(case).glob("input.*"))


@dataclass(frozen=True)
class Landed:
    settings: Settings
    rows: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Landed:
    settings = make_settings(tmp_path_factory.mktemp("golden") / "var")
    ingest(settings, [input_of(case) for case in CASES])
    return Landed(settings, landed_rows(settings, (*FACT_TABLES, "person_links")))


@pytest.mark.parametrize("case", CASES)
def test_extract_gives_the_expected_rows(landed: Landed, case: str) -> None:
    payload, names = input_of(case), key_names()
    rows = {
        table: [readable(row, names) for row in found if row["payload_id"] == payload_id_of(payload)]
        for table, found in landed.rows.items()
    }
    found = {
        "rows": {table: found for table, found in rows.items() if found},
        "refused": refusals_of(landed.settings, payload),
        "ledger": ledger_of(landed.settings, payload),
    }
    actual = json.loads(json.dumps(found, default=str))
    expected_file = GOLDEN / case / "expected.json"
    if os.environ.get("CUFF_RENEW_GOLDEN"):
        expected_file.write_text(json.dumps(actual, indent=1, ensure_ascii=False) + "\n")
    assert actual == json.loads(expected_file.read_text())
