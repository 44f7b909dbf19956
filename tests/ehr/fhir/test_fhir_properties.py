"""Whatever a FHIR file holds, the reader counts every resource once, and both ways of reading agree."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ehr.fhir.allow_list import HANDLED_TYPES, declared_fields
from tests.ehr.fhir.reading import Reading, open_landing_tables, read_fhir

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from([
        "2024-03-05T10:00:00+01:00", "2024-13-99", "2024", "Patient/p1", "urn:uuid:1", "#c", "Patient?identifier=s|1",
        "Patient?identifier=%", "Group/1", "140/90", "final", "DELETE", "Observation/1", "epoch", "-2024-01-01T00:00:00Z",
    ]),
)  # fmt: skip
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), texts)
soup = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)), max_leaves=8
)
codings = st.fixed_dictionaries({"coding": st.lists(st.fixed_dictionaries({"system": texts, "code": texts}), max_size=2)})
shaped = st.fixed_dictionaries(
    {"resourceType": st.sampled_from([*HANDLED_TYPES, "Procedure", "Bundle"])},
    optional={
        "id": texts, "subject": st.fixed_dictionaries({"reference": texts}), "effectiveDateTime": texts, "code": codings,
        "valueQuantity": st.fixed_dictionaries({"value": st.floats(allow_nan=False)}, optional={"unit": texts}),
        "contained": st.lists(soup, max_size=2), "identifier": soup, "link": soup, "period": soup, "status": texts,
        "birthDate": texts, "meta": st.fixed_dictionaries({"lastUpdated": texts}),
    },
)  # fmt: skip
wild = st.dictionaries(st.sampled_from(["resourceType", "entry", *declared_fields()]), soup, max_size=6)
resources = st.one_of(shaped, shaped, wild, soup)
entries = st.one_of(
    soup,
    st.fixed_dictionaries(
        {"resource": resources},
        optional={"fullUrl": texts, "request": st.fixed_dictionaries({"method": texts, "url": texts})},
    ),
)
bundles = st.builds(lambda found: {"resourceType": "Bundle", "entry": found}, st.lists(entries, max_size=4))


@pytest.fixture(scope="module")
def landing_tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_landing_tables() as connection:
        yield connection


def assert_balanced(reading: Reading) -> None:
    totals = reading.totals()
    assert totals["received"] == sum(totals[name] for name in ("accepted", "duplicate", "ignored", "quarantined"))
    assert all(number >= 0 for number in reading.outcome.received.values())


def as_rows(reading: Reading) -> dict[str, list[str]]:
    return {table: sorted(str(row) for row in rows) for table, rows in reading.rows.items()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
@given(found=st.lists(resources, max_size=5), junk=st.lists(st.binary(max_size=20), max_size=2))
@example(found=[], junk=[b"", b""])
def test_every_line_is_counted_once(
    landing_tables: duckdb.DuckDBPyConnection, tmp_path: Path, found: list[Any], junk: list[bytes]
) -> None:
    lines = [json.dumps(item).encode() for item in found] + [line.replace(b"\n", b" ") for line in junk]
    file = tmp_path / "lines.ndjson"
    file.write_bytes(b"\n".join(lines))
    quick, exact = (read_fhir(landing_tables, file.read_bytes(), path) for path in (file, None))
    assert_balanced(quick)
    assert as_rows(quick) == as_rows(exact)
    assert quick.totals() == exact.totals()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=25)
@given(document=st.one_of(bundles, bundles, resources, st.lists(resources, max_size=3)))
def test_every_entry_is_counted_once(landing_tables: duckdb.DuckDBPyConnection, tmp_path: Path, document: Any) -> None:
    file = tmp_path / "document.json"
    file.write_text(json.dumps(document))
    quick, exact = (read_fhir(landing_tables, file.read_bytes(), path) for path in (file, None))
    assert_balanced(quick)
    assert as_rows(quick) == as_rows(exact)
    assert quick.totals() == exact.totals()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(data=st.binary(max_size=200))
def test_bytes_of_any_kind_never_stop_the_reader(landing_tables: duckdb.DuckDBPyConnection, data: bytes) -> None:
    assert_balanced(read_fhir(landing_tables, b"{" + data))
    assert_balanced(read_fhir(landing_tables, b"\x1f\x8b" + data))
