"""Small readable files beside the rows they must give. Keys stand as `person 1`, `record 2`, in order of appearance.

To accept a wanted change: ``CUFF_ACCEPT_GOLDEN=1 pytest tests/ehr/hl7v2/test_golden_messages.py``, then read the diff.
"""

import json
import os
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from ehr.records import ParsedPayload

GOLDEN = Path(__file__).parent / "golden"
_KEY_KINDS = {"person_key": "person", "other_person_key": "person", "encounter_key": "encounter",
              "record_key": "record", "group_key": "group"}  # fmt: skip


def readable(parsed: ParsedPayload) -> dict[str, Any]:
    """Rows with named keys and without what is empty in them, and everything else a payload gives."""
    names: dict[str, dict[str, str]] = {kind: {} for kind in set(_KEY_KINDS.values())}

    def name(kind: str, key: str) -> str:
        return names[kind].setdefault(key, f"{kind} {len(names[kind]) + 1}")

    rows = {
        table: [
            {
                column: name(_KEY_KINDS[column], value) if column in _KEY_KINDS else plain(value)
                for column, value in row.items()
                if value not in (None, []) and column not in ("content_hash", "ordinal")
            }
            for row in found
        ]
        for table, found in parsed.rows.items()
        if found
    }
    return {
        "rows": rows,
        "vault": [{"key": name(entry.kind, entry.key), **entry.content} for entry in parsed.vault],
        "rejects": [f"{r.unit} {r.type}: {r.locator}: {r.reason_code}" for r in parsed.rejects],
        "received": {" ".join(key): number for key, number in sorted(parsed.received.items())},
        "ignored": {" ".join(key): number for key, number in sorted(parsed.ignored.items())},
    }


def plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [" ".join(item.values()) for item in value]
    return value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.hl7")), ids=lambda path: path.stem)
def test_rows_are_as_written_down(path, parse):
    found = readable(parse(path.read_bytes()))
    expected = path.with_suffix(".json")
    if os.environ.get("CUFF_ACCEPT_GOLDEN"):
        expected.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(expected.read_text())
