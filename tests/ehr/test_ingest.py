"""Whole deliveries: every real-format folder balances, and what came before adds nothing."""

import gzip
import json
import shutil
import tracemalloc
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from core.errors import ArchiveError, InputError
from core.keys import pseudonym
from core.publication import has_unpublished_batches
from core.settings import PROJECT_ROOT, Settings
from core.store import Batch, Payload, store_session
from ehr.archive import archive_file, read_archived
from ehr.fhir.parse import FACT_TABLES
from ehr.hl7v2.batch import LARGEST_FILE_BYTES
from ehr.identity import reveal
from ehr.ingest import IngestSummary, ingest
from ehr.ledger import ledger_totals
from ehr.quarantine import count_by_reason, list_quarantine, show_quarantine
from tests.ehr.landed import query

SHARED_DATA = PROJECT_ROOT.parent / "shared" / "data"
TEST_KEY = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def delivery(tmp_path: Path) -> Path:
    """Where the hospital puts its files."""
    folder = tmp_path / "delivery"
    folder.mkdir()
    return folder


def reading(number: int, patient: str = "p1", value: float = 141.0, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation", "id": f"o{number}", "status": "final", "subject": {"reference": f"Patient/{patient}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "effectiveDateTime": "2024-03-05T10:00:00Z",
        "valueQuantity": {"value": value, "code": "mm[Hg]"}, **more,
    }  # fmt: skip


def bundle_of(*resources: dict[str, Any]) -> str:
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]})


def totals(summary: IngestSummary, unit: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in summary.ledger:
        if line.unit == unit:
            found.update({name: getattr(line, name) for name in
                          ("received", "accepted", "duplicate", "ignored", "quarantined")})  # fmt: skip
    return found


def row_count(settings: Settings) -> int:
    return sum(query(settings, f"select count(*) from clinical.raw.{table}")[0][0] for table in FACT_TABLES)


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="../shared/data is not here")
@pytest.mark.parametrize("folder", ["fhir_bundles", "fhir_ndjson", "hl7v2_microsoft", "synthea_csv"])
def test_folder_of_strangers_balances(settings: Settings, folder: str) -> None:
    summary = ingest(settings, [SHARED_DATA / folder])
    files = totals(summary, "file")
    assert summary.balanced
    assert all(line.balances for line in ledger_totals(settings))
    assert files["received"] == len(list((SHARED_DATA / folder).iterdir()))
    if folder == "synthea_csv":
        assert files["quarantined"] == files["received"] == 8
        assert count_by_reason(settings) == [("default", "unknown", "unsupported_format", 8)]
    elif folder == "hl7v2_microsoft":
        assert totals(summary, "message")["accepted"] > 10  # most samples share one control id
        assert files["accepted"] == 139
    else:
        resources = totals(summary, "resource")
        assert resources["quarantined"] == 0
        assert resources["accepted"] == row_count(settings) > 1000


def test_same_bytes_add_nothing_under_any_name(settings: Settings, delivery: Path) -> None:
    first = delivery / "first.json"
    first.write_text(bundle_of(reading(1), reading(2)))
    ingest(settings, [first])
    shutil.copy(first, delivery / "second.json")
    again = ingest(settings, [delivery])
    assert (again.batch_id, again.new_payloads, again.duplicate_files) == (None, 0, 2)
    assert totals(again, "file") == Counter(received=2, duplicate=2)
    assert row_count(settings) == 2
    assert all(line.balances for line in ledger_totals(settings))


def test_same_bytes_twice_in_one_delivery_count_once(settings: Settings, delivery: Path) -> None:
    for name in ("a.json", "b.json"):
        (delivery / name).write_text(bundle_of(reading(1)))
    summary = ingest(settings, [delivery, delivery / "a.json"])
    assert (summary.files, summary.new_payloads, summary.duplicate_files) == (2, 1, 1)
    assert totals(summary, "file") == Counter(received=2, accepted=1, duplicate=1)


def test_same_resources_in_another_bundle_are_duplicates(settings: Settings, delivery: Path) -> None:
    (delivery / "one.json").write_text(bundle_of(reading(1), reading(2)))
    ingest(settings, [delivery / "one.json"])
    (delivery / "two.ndjson.gz").write_bytes(
        gzip.compress("\n".join(json.dumps(r) for r in (reading(2), reading(3), reading(3))).encode())
    )
    summary = ingest(settings, [delivery / "two.ndjson.gz"])
    assert totals(summary, "resource") == Counter(received=3, accepted=1, duplicate=2)
    assert row_count(settings) == 3


def test_corrected_value_is_a_new_version_and_its_return_too(settings: Settings, delivery: Path) -> None:
    for day, value in (("01", 141.0), ("02", 114.0), ("03", 141.0)):
        path = delivery / f"{day}.json"
        path.write_text(bundle_of(reading(1, value=value, meta={"lastUpdated": f"2024-03-{day}T00:00:00Z"})))
        ingest(settings, [path])
    rows = query(settings, "select value_number, count(distinct record_key) over () from clinical.raw.fhir_observations "
                           "order by known_at")  # fmt: skip
    assert rows == [(141.0, 1), (114.0, 1), (141.0, 1)]


def test_payload_is_archived_byte_for_byte_and_sealed(settings: Settings, delivery: Path) -> None:
    data = bundle_of(*(reading(n) for n in range(50))).encode()
    (delivery / "Sample_Ann.json").write_bytes(data)
    ingest(settings, [delivery / "Sample_Ann.json"])
    with store_session(settings) as session:
        payload = session.scalars(select(Payload)).one()
    assert b"".join(read_archived(settings, payload.archive_name, payload.payload_id)) == data
    stored = settings.archive_dir / payload.archive_name
    assert b"Observation" not in stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match="restore it from backup"):
        list(read_archived(settings, payload.archive_name, payload.payload_id))


def test_left_over_payload_lands_from_the_archive(settings: Settings, delivery: Path) -> None:
    lost = delivery / "lost.ndjson"
    lost.write_text("\n".join(json.dumps(reading(n)) for n in range(3)) + "\n{broken\n")
    archived = archive_file(settings, lost)
    with store_session(settings) as session:
        session.add(Payload(payload_id=archived.payload_id, source_id="default", format="fhir", name_sealed=b"",
                            size_bytes=archived.size_bytes, archive_name=archived.name, as_of=date(2024, 3, 6)))  # fmt: skip
    lost.unlink()
    (delivery / "new.json").write_text(bundle_of(reading(9)))
    summary = ingest(settings, [delivery])
    assert totals(summary, "resource") == Counter(received=5, accepted=4, quarantined=1)
    assert [(row.reason_code, row.locator) for row in list_quarantine(settings)] == [("malformed_json", "line 4")]
    assert not [path for path in (settings.var / "tmp").rglob("*") if path.is_file()]


def test_unsupported_files_are_quarantined_whole(settings: Settings, delivery: Path) -> None:
    (delivery / "empty").write_bytes(b"")
    (delivery / "table.csv").write_text("id,name\n1,Sample\n")
    (delivery / "noise.bin").write_bytes(bytes(range(256)))
    (delivery / "cut.json.gz").write_bytes(gzip.compress(bundle_of(reading(1)).encode() * 50)[:60])
    summary = ingest(settings, [delivery])
    assert totals(summary, "file") == Counter(received=4, quarantined=4)
    assert summary.balanced
    entry = list_quarantine(settings)[0]
    assert show_quarantine(settings, entry.quarantine_id).reason_code == entry.reason_code
    with pytest.raises(InputError, match="nothing is quarantined"):
        show_quarantine(settings, "0" * 16)


MESSAGE = b"MSH|^~\\&|A|B|||20240301||ADT^A08|%d|P|2.5\rPID|1||%d^^^HOSP^MR\r"


def test_files_of_messages_are_refused_whole_and_the_rest_of_the_delivery_lands(settings: Settings, delivery: Path) -> None:
    """A batch without a message, a packed file that is cut, and one of a megabyte that holds more than a gigabyte."""
    blank = gzip.compress(b"\r" * (16 << 20), 9)
    bomb = gzip.compress(MESSAGE % (1, 1)) + blank * (LARGEST_FILE_BYTES // (16 << 20) + 1)
    assert len(bomb) < 2 << 20
    (delivery / "bomb.hl7.gz").write_bytes(bomb)
    (delivery / "cut.hl7.gz").write_bytes(gzip.compress(b"".join(MESSAGE % (n, n) for n in range(9, 999)))[:-9])
    (delivery / "empty.hl7").write_bytes(b"FHS|^~\\&|A\rBTS|0\rFTS|1\r")
    (delivery / "good.hl7.gz").write_bytes(gzip.compress(MESSAGE % (3, 3)))
    tracemalloc.start()
    summary = ingest(settings, [delivery])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100 << 20
    assert summary.balanced
    assert totals(summary, "file") == Counter(received=4, accepted=1, quarantined=3)
    assert totals(summary, "message") == Counter(received=1, accepted=1)
    assert sorted(row.reason_code for row in list_quarantine(settings)) == ["corrupt_gzip", "file_too_large", "not_hl7"]


def test_source_decides_zone_and_known_at(settings: Settings, delivery: Path) -> None:
    settings.sources_file = delivery / "sources.toml"
    settings.sources_file.write_text(
        '[source.research]\ntime_zone = "America/New_York"\ndates_are_shifted = true\nknown_at_fallback = "event"\n'
        'path_globs = ["*/research/*"]\n[source.research.authorities]\n"urn:oid:2.999.7" = "CITY-MRN"\n'
    )
    (delivery / "research").mkdir()
    patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "urn:oid:2.999.7", "value": "77"}]}
    (delivery / "research" / "a.json").write_text(
        bundle_of(patient, reading(1, effectiveDateTime="2124-07-01T10:00:00"))
    )
    summary = ingest(settings, [delivery / "research"])
    assert {line.source_id for line in summary.ledger} == {"research"}
    assert query(settings, "select event_at = '2124-07-01 14:00:00+00', known_at = event_at, known_at_basis, flags "
                           "from clinical.raw.fhir_observations") == [
        (True, True, "event", ["dates_shifted", "no_offset"])
    ]  # fmt: skip
    key = pseudonym(TEST_KEY, "person", "CITY-MRN", "77")
    assert query(settings, "select other_person_key from clinical.raw.person_links") == [(key,)]


def test_vault_keeps_what_the_lake_must_not(settings: Settings, delivery: Path) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Sample"}], "telecom": [{"value": "555-0134"}]}
    (delivery / "p.json").write_text(json.dumps(patient))
    ingest(settings, [delivery / "p.json"])
    (found,) = reveal(settings, pseudonym(TEST_KEY, "person", "default:fhir", "p1"))
    assert "Sample" in found["name"]
    assert "555-0134" in found["telecom"]


def test_unknown_source_and_empty_folder_are_named(settings: Settings, delivery: Path) -> None:
    (delivery / "a.json").write_text("{}")
    with pytest.raises(InputError, match="'nowhere' is not declared"):
        ingest(settings, [delivery], source_id="nowhere")
    with pytest.raises(InputError, match="does not exist"):
        ingest(settings, [delivery / "absent"])
    (delivery / "hollow").mkdir()
    with pytest.raises(InputError, match="no file was found"):
        ingest(settings, [delivery / "hollow"])


def test_progress_and_batches_are_told(settings: Settings, delivery: Path) -> None:
    (delivery / "a.json").write_text(bundle_of(reading(1)))
    steps: list[tuple[str, int, int]] = []
    summary = ingest(settings, [delivery], as_of=date(2024, 3, 6), progress=lambda *step: steps.append(step))
    assert [step for step, _done, _total in steps[:3]] == ["archiving", "reading", "archiving"]
    assert steps[-1] == ("landing", 1, 1)
    done = [number for _step, number, _total in steps]
    assert done == sorted(done)
    with store_session(settings) as session:
        batch = session.get_one(Batch, summary.batch_id)
        assert batch.as_of == date(2024, 3, 6)
        assert batch.finished_at is not None


def test_a_file_that_is_gone_before_it_is_read_is_told_and_the_others_land(
    settings: Settings, delivery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        (delivery / f"{number}.json").write_text(bundle_of(reading(number)))

    def take_away(files: Any) -> Any:
        (delivery / "2.json").unlink()
        return [files]

    with monkeypatch.context() as taking:
        taking.setattr("ehr.ingest.in_groups", take_away)
        with pytest.raises(InputError, match="1 of 2 files could not be opened"):
            ingest(settings, [delivery])
    assert row_count(settings) == 1
    assert ingest(settings, [delivery]).new_payloads == 0  # the task's next try, which announces what landed all the same
    assert has_unpublished_batches(settings)
