"""Live messages on Postgres: two consumers at once, a file ingest beside them, and small files merged meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from core.publication import live_landing_due, start_build
from core.settings import Settings
from core.store import Batch, store_session, utc_now
from ehr.ingest import ingest
from ehr.ledger import ledger_totals
from ehr.live.lander import Lander
from ehr.live.transport import InboxTransport, Position
from ehr.replay import replay
from tests.ehr.landed import query
from tests.ehr.live.histories import (
    Names,
    known_at_the_end,
    landed_at_the_end,
    landed_facts,
    person_histories,
    round_robin,
    told_facts,
)
from tests.ehr.live.live_house import consume_once, deliver_live, message, open_reasons, patient, states

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_two_consumers_and_a_file_ingest_at_once_land_everything_once(house: Settings, tmp_path: Path) -> None:
    house = house.model_copy(update={"consume_messages": 15, "sources_file": tmp_path / "sources.toml"})
    histories = person_histories(8, events=10)
    deliver_live(house, [event.content for event in round_robin(histories)])
    (tmp_path / "a.hl7").write_text("".join(message(f"f{n}", patient(f"f{n}")) for n in range(20)))
    with ThreadPoolExecutor(3) as pool:
        consumers = [pool.submit(consume_once, house) for _ in range(2)]
        summary = pool.submit(ingest, house, [tmp_path / "a.hl7"]).result()
        consumed = [consumer.result() for consumer in consumers]
    assert summary.balanced
    assert sum(each.payloads for each in consumed) == 80
    assert states(house) == {"landed": 80}
    assert query(house, "select count(*), count(distinct record_key) from clinical.raw.hl7v2_messages") == [(100, 100)]
    assert all(line.balances for line in ledger_totals(house))
    names = Names(house, histories)
    assert landed_facts_of(house, names) == told_facts(histories)
    lander = Lander(house)
    lander.tidy()
    lander.tidy()
    lander.close()
    assert query(house, "select count(*) from clinical.raw.hl7v2_messages") == [(100,)]


def landed_facts_of(house: Settings, names: Names) -> dict[str, list[tuple]]:
    """Of the people of the histories alone; the file's are others."""
    known = {key for (key,) in query(house, "select distinct person_key from clinical.raw.hl7v2_patients")} - set(names.of)
    for key in known:
        names.of[key] = "of the file"
    return {person: facts for person, facts in landed_facts(house, names).items() if person != "of the file"}


def test_positions_replay_and_wake(house: Settings, tmp_path: Path) -> None:
    house = house.model_copy(update={"sources_file": tmp_path / "sources.toml", "wake_seconds": 60.0})
    histories = person_histories(2, events=4, seed=2)
    deliver_live(house, [event.content for event in round_robin(histories)])
    deliver_live(house, [message("late", patient("9", name="Müller^Ann")).encode("latin-1")])
    lander, transport = Lander(house), InboxTransport(house)
    announced = transport.gather(0, 100)
    assert lander.land(announced, [Position("t", 0, 5)]).payloads == 8
    assert lander.land(announced, [Position("t", 0, 5)]).batch_id is None
    lander.close()
    names = Names(house, histories)
    assert landed_at_the_end(house, names) == known_at_the_end(histories)
    assert open_reasons(house) == ["charset_mismatch"]
    house.sources_file.write_text('[source.default]\ndefault_charset = "iso-8859-1"\n')
    assert replay(house).accepted == 1
    assert states(house) == {"landed": 9}
    assert live_landing_due(house) is None
    with store_session(house) as session:
        session.execute(update(Batch).values(finished_at=utc_now() - timedelta(minutes=5)))
    assert live_landing_due(house) is not None
    start_build(house)
    assert live_landing_due(house) is None
