"""The order of arrival decides between facts told at the same time, whatever batch brought them, and a lake that was made
before it was kept goes on."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from core.feed_tables import InboxEntry
from core.lake import read_lake, write_lake
from core.settings import PROJECT_ROOT, Settings
from core.store import Payload, store_session
from ehr.landing import create_raw_tables
from ehr.live.lander import Lander
from ehr.live.transport import Announced
from tests.conftest import make_settings
from tests.dbt.landed import build, fact, land
from tests.dbt.test_core_marts import contents
from tests.ehr.live.histories import person_histories, round_robin
from tests.ehr.live.live_house import AS_OF, consume_once, deliver_live, message, patient

pytestmark = pytest.mark.slow
Cut = Callable[[list[Announced]], list[list[Announced]]]


def in_order_of_arrival(announced: list[Announced]) -> list[list[Announced]]:
    return [announced[start:start + 40] for start in range(0, len(announced), 40)]


def shuffled(seed: int) -> Cut:
    """Batches that no feed would bring: later messages before earlier ones, merges before whom they merge."""
    def cut(announced: list[Announced]) -> list[list[Announced]]:
        chance = random.Random(seed)
        mixed = chance.sample(announced, len(announced))
        batches = []
        while mixed:
            size = chance.randrange(1, 60)
            batches.append(mixed[:size])
            mixed = mixed[size:]
        return batches

    return cut


def feed() -> list[bytes]:
    """Long histories; and what several messages of one second say of the same person, visit and numbers."""
    contents = [event.content for event in round_robin(person_histories(12, events=14, seed=3))]
    for n in range(12):
        both = "PID|1||55^^^CLINIC^MR~66^^^CLINIC^PI||Doe^Ann||19610714|" + "FM"[n % 2]
        visit = f"PV1|1|{'OI'[n % 2]}{'|' * 17}W1{'|' * 25}20240305080000+0000|"
        contents.append(message(f"tie{n}", both, visit + ("20240305090000+0000" if n % 3 else ""),
                                kind=("ADT^A03", "ADT^A13", "ADT^A03")[n % 3]).encode())  # fmt: skip
    for n, kind in enumerate(("ADT^A40", "ADT^A37", "ADT^A24", "ADT^A37", "ADT^A24")):  # together, apart, together, …
        second = "MRG|88^^^CLINIC^MR" if kind == "ADT^A40" else patient("88", name="Roe^Bea").replace("PID|1", "PID|2")
        contents.append(message(f"link{n}", patient("77"), second, kind=kind).encode())
    for n in range(3):
        contents.append(message(f"numbers{n}", "PID|1||1x^^^CLINIC^MR~2x^^^CLINIC^PI||Doe^Cid||19500101|M",
                                time=f"2024030{5 - n}100000+0000").encode())  # fmt: skip
    return contents


def hospital(var: Path, cut: Cut) -> Settings:
    settings = make_settings(var)
    deliver_live(settings, feed())
    with store_session(settings) as session:
        rows = session.execute(select(InboxEntry.inbox_sequence, InboxEntry.payload_id).order_by(InboxEntry.inbox_sequence))
        announced = [Announced(*row) for row in rows]
    lander = Lander(settings)
    for batch in cut(announced):
        lander.land(batch)
    lander.close()
    with store_session(settings) as session:
        assert set(session.scalars(select(Payload.state))) == {"landed"}
    return settings


def test_shuffled_batches_give_the_same_marts(tmp_path: Path) -> None:
    in_order = hospital(tmp_path / "in order", in_order_of_arrival)
    build(in_order)
    expected = contents(in_order)
    assert {table for table, rows in expected.items() if not rows} <= {"fct_conditions", "fct_medications"}
    assert sum(row[6] for row in expected["dim_patients"]) > len(expected["dim_patients"]), "somebody was merged"
    for seed in (1, 2):
        mixed = hospital(tmp_path / f"mixed {seed}", shuffled(seed))
        build(mixed)
        assert contents(mixed) == expected


def test_within_a_payload_the_tenth_message_comes_after_the_ninth(settings: Settings) -> None:
    land(settings, AS_OF, {
        "hl7v2_patients": [fact("ann", "patient|ann", "2024-03-01") | {
            "locator": f"message {n} PID", "gender": "FM"[n % 2], "inbox_sequence": 1} for n in (9, 10, 8)],
        "hl7v2_encounters": [fact("ann", "v", "2024-03-01") | {
            "locator": f"message {n} PV1{suffix}", "encounter_key": "v", "status": status, "inbox_sequence": 1}
            for n, suffix, status in ((9, "[10]", "in-progress"), (10, "", "finished"))],
    })  # fmt: skip
    build(settings)
    with read_lake(settings, ("clinical",)) as lake:
        assert lake.execute("select sex from clinical.core.dim_patients").fetchall() == [("female",)]
        assert lake.execute("select status from clinical.core.fct_encounters").fetchall() == [("finished",)]


def test_a_lake_made_before_the_order_was_kept_builds_and_what_it_holds_is_older(settings: Settings) -> None:
    raw = (PROJECT_ROOT / "ehr" / "raw_tables.sql").read_text()
    with write_lake(settings) as lake:
        lake.execute("use clinical")
        lake.execute(raw.replace(" inbox_sequence bigint,", ""))
    told = "2024-03-01"
    old = {"hl7v2_patients": [fact("ann", "patient|ann", told) | {"gender": gender} for gender in "F"]}
    land(settings, AS_OF, old)
    land(settings, AS_OF, {"hl7v2_patients": [fact("ann", "patient|ann", told) | {"gender": "M"}]})
    build(settings)  # before anything lands

    def sex() -> list[tuple]:
        with read_lake(settings, ("clinical",)) as lake:
            return lake.execute("select sex from clinical.core.dim_patients").fetchall()

    assert sex() == [("male",)], "of two without a place the later batch counts"
    with write_lake(settings) as lake:
        create_raw_tables(lake)
        create_raw_tables(lake)
        columns = lake.execute("select count(*) from duckdb_columns() where column_name = 'inbox_sequence' "
                               "and database_name = 'clinical' and schema_name = 'raw'").fetchall()  # fmt: skip
    assert columns == [(raw.count("create table"),)]
    land(settings, AS_OF, {"hl7v2_patients": [fact("ann", "patient|ann", told) | {"gender": "F", "inbox_sequence": 1}]})
    build(settings)
    assert sex() == [("female",)]


def test_an_older_lake_takes_the_next_landing(settings: Settings) -> None:
    with write_lake(settings) as lake:
        lake.execute("use clinical")
        lake.execute((PROJECT_ROOT / "ehr" / "raw_tables.sql").read_text().replace(" inbox_sequence bigint,", ""))
    deliver_live(settings, [message("m1", patient("1")).encode()])
    assert consume_once(settings).payloads == 1
    with read_lake(settings, ("clinical",)) as lake:
        assert lake.execute("select inbox_sequence from clinical.raw.hl7v2_patients").fetchall() == [(1,)]
