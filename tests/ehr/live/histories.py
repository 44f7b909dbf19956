"""Invented persons with long histories, as HL7 v2 messages, and what a careful clerk would know of each at the end.

The messages of one person are in the order in which they happen; a merge (A40) or a move (A45) that involves two persons
stands in the history of the one who gains. Control ids are deterministic, so a message can be recognised in any run. The
oracle never looks at the program: it keeps books beside the messages, in plain Python, in the order of sending.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from core.keys import key_bytes, pseudonym
from core.settings import Settings
from tests.ehr.landed import query

FACILITY, AUTHORITY = "HOSP", "HOSP"
_FIRST = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)
_SEX = {"F": "female", "M": "male"}
Fact = tuple[Any, ...]


@dataclass(frozen=True)
class Event:
    """One message as it is sent, and the facts it tells: (table, person, …), without keys or times."""

    control_id: str
    known_at: datetime
    content: bytes
    facts: tuple[Fact, ...]


@dataclass
class History:
    """One person: number, events in order, and what is known at the end."""

    person: str
    events: list[Event] = field(default_factory=list)
    sex: str | None = None
    born: str | None = None
    visits: dict[str, tuple[str, str]] = field(default_factory=dict)  # visit -> (person, status)
    readings: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)  # (order, code) -> (value, status)
    merged: list[str] = field(default_factory=list)  # numbers that were folded into this person's


def person_histories(persons: int, events: int = 20, seed: int = 1) -> list[History]:
    """Histories of ``persons`` people, ``events`` messages each. The same arguments always give the same bytes."""
    chance = random.Random(seed)
    histories = [History(f"{seed}P{number:05d}") for number in range(persons)]
    for number, history in enumerate(histories):
        writer = _Writer(history, chance)
        writer.register(f"{history.person}V0")
        while len(history.events) < events:
            writer.happen(histories[number - 1] if number else None)
    return histories


def round_robin(histories: Iterable[History]) -> Iterator[Event]:
    """Everybody's events in the order of one feed: first everybody's first, then everybody's second, …"""
    queues = [list(history.events) for history in histories]
    for nth in range(max(map(len, queues), default=0)):
        yield from (queue[nth] for queue in queues if nth < len(queue))


class _Writer:
    """Writes one person's messages and keeps the books."""

    def __init__(self, history: History, chance: random.Random) -> None:
        self.history, self.chance = history, chance
        self.now = _FIRST + timedelta(seconds=chance.randrange(3600))

    def happen(self, neighbour: History | None) -> None:
        kind = self.chance.choices(
            ("update", "visit", "discharge", "reopen", "cancel", "reading", "correction", "merge", "move"),
            (4, 2, 3, 1, 1, 5, 3, 1, 1))[0]  # fmt: skip
        mine = [visit for visit, (person, _status) in self.history.visits.items() if person == self.history.person]
        if kind == "update":
            self.register(None)
        elif kind == "visit":
            self.register(f"{self.history.person}V{len(self.history.visits)}")
        elif kind in ("discharge", "reopen", "cancel") and mine:
            self._course(kind, self.chance.choice(mine))
        elif kind == "correction" and self.history.readings:
            order, code = self.chance.choice(sorted(self.history.readings))
            self._reading(order, code, "C")
        elif kind == "merge":
            self._merge()
        elif kind == "move" and neighbour is not None and self._movable(neighbour):
            self._move(neighbour, self.chance.choice(self._movable(neighbour)))
        else:
            code = self.chance.choice(("8480-6", "8867-4"))
            self._reading(f"{self.history.person}O{len(self.history.readings)}", code, "F")

    def register(self, visit: str | None) -> None:
        """A04 with a visit, A08 without: who the person is may have changed."""
        sex, born = self.chance.choice("FM"), f"19{self.chance.randrange(40, 99)}0{self.chance.randrange(1, 9)}15"
        self.history.sex, self.history.born = _SEX[sex], f"{born[:4]}-{born[4:6]}-{born[6:]}"
        facts = [self._person_fact("A04" if visit else "A08")]
        segments = [self._pid(sex, born)]
        if visit:
            segments.append(_pv1(visit))
            facts.append(("hl7v2_encounters", self.history.person, "ADT^A04", visit, "in-progress"))
            self.history.visits[visit] = (self.history.person, "in-progress")
        self._send("ADT^A04" if visit else "ADT^A08", segments, facts)

    def _course(self, kind: str, visit: str) -> None:
        event, status = {"discharge": ("A03", "finished"), "reopen": ("A13", "in-progress"),
                         "cancel": ("A11", "cancelled")}[kind]  # fmt: skip
        self.history.visits[visit] = (self.history.person, status)
        ended = f"{self.now:%Y%m%d%H%M%S}+0000" if kind == "discharge" else ""
        facts = [self._person_fact(event), ("hl7v2_encounters", self.history.person, f"ADT^{event}", visit, status)]
        self._send(f"ADT^{event}", [self._pid(), _pv1(visit, ended)], facts)

    def _reading(self, order: str, code: str, status: str) -> None:
        value = float(self.chance.randrange(60, 200))
        self.history.readings[order, code] = (value, status)
        facts = [self._person_fact("R01", "ORU"),
                 ("hl7v2_observations", self.history.person, "ORU^R01", code, value, status)]
        self._send("ORU^R01", [
            self._pid(), f"OBR|1||{order}|55284-4^^LN|||20240301080000+0000",
            f"OBX|1|NM|{code}^^LN||{value:.0f}|mm[Hg]|||||{status}|||20240301080000+0000"], facts)  # fmt: skip

    def _merge(self) -> None:
        retired = f"{self.history.person}R{len(self.history.merged)}"
        self.history.merged.append(retired)
        facts = [self._person_fact("A40"), ("person_links", retired, "merge", self.history.person)]
        self._send("ADT^A40", [self._pid(), f"MRG|{_number(retired)}"], facts)

    @staticmethod
    def _movable(neighbour: History) -> list[str]:
        return [visit for visit, (person, _status) in neighbour.visits.items() if person == neighbour.person]

    def _move(self, neighbour: History, visit: str) -> None:
        """A45: the visit is this person's from now on. Told last of all that is told of it, so that no order is in doubt."""
        self.now = max(self.now, neighbour.events[-1].known_at + timedelta(minutes=1))
        neighbour.visits.pop(visit)
        self.history.visits[visit] = (self.history.person, "unknown")
        facts = [self._person_fact("A45"), ("hl7v2_encounters", self.history.person, "ADT^A45", visit, "unknown")]
        self._send("ADT^A45", [self._pid(), f"MRG|{_number(neighbour.person)}||||{visit}", _pv1(visit)], facts)

    def _person_fact(self, event: str, kind: str = "ADT") -> Fact:
        return ("hl7v2_patients", self.history.person, f"{kind}^{event}", self.history.sex, self.history.born)

    def _pid(self, sex: str | None = None, born: str | None = None) -> str:
        sex = sex or next(letter for letter, name in _SEX.items() if name == self.history.sex)
        born = born or str(self.history.born).replace("-", "")
        return f"PID|1||{_number(self.history.person)}||Doe^{self.history.person}||{born}|{sex}"

    def _send(self, message_type: str, segments: list[str], facts: list[Fact]) -> None:
        # Every third message is of the same second as the one before it: only the order of arrival tells them apart.
        if len(self.history.events) % 3:
            self.now += timedelta(seconds=self.chance.randrange(1, 900))
        control_id = f"{self.history.person}E{len(self.history.events)}"
        header = (f"MSH|^~\\&|ADT|{FACILITY}|CUFF|CUFF|{self.now:%Y%m%d%H%M%S}+0000||{message_type}|{control_id}|P|2.5")
        content = ("\r".join([header, *segments]) + "\r").encode()
        self.history.events.append(Event(control_id, self.now, content, tuple(facts)))


def _number(person: str) -> str:
    return f"{person}^^^{AUTHORITY}^MR"


def _pv1(visit: str, ended: str = "") -> str:
    return f"PV1|1|O{'|' * 17}{visit}{'|' * 25}20240301080000+0000|{ended}"


class Names:
    """The pseudonyms under which a house keeps these people, and back."""

    def __init__(self, settings: Settings, histories: Iterable[History], source_id: str = "default") -> None:
        key = key_bytes(settings.pseudonym_secret, "CUFF_PSEUDONYM_SECRET")
        self.of: dict[str, str] = {}
        for history in histories:
            for person in (history.person, *history.merged):
                self.of[pseudonym(key, "person", f"{source_id}:{AUTHORITY}", person)] = person
            for visit in history.visits:
                self.of[pseudonym(key, "encounter", f"{source_id}:hl7v2", visit)] = visit


def told_facts(histories: Iterable[History]) -> dict[str, list[Fact]]:
    """Per person, every fact in the order in which it was sent."""
    found: dict[str, list[Fact]] = {}
    for history in histories:
        for event in history.events:
            for fact in event.facts:
                found.setdefault(fact[1], []).append((f"{event.known_at:%Y-%m-%d %H:%M:%S}", *fact))
    return found


def landed_facts(settings: Settings, names: Names) -> dict[str, list[Fact]]:
    """The same of what reached the lake, in the order of known_at, then arrival, then place."""
    columns = {
        "hl7v2_patients": "message_type, gender, birth_date::varchar",
        "hl7v2_encounters": "message_type, encounter_key, status",
        "hl7v2_observations": "message_type, codings[1].code, value_number, status",
        "person_links": "link_type, other_person_key",
    }
    found: dict[str, list[tuple[Any, Fact]]] = {}
    for rank, (table, chosen) in enumerate(columns.items()):
        for known_at, sequence, person, *told in query(
            settings, f"select known_at, inbox_sequence, person_key, {chosen} from clinical.raw.{table}"
        ):
            fact = (table, names.of[person], *(names.of.get(value, value) for value in told))
            found.setdefault(fact[1], []).append(
                ((known_at, sequence, rank), (f"{known_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", *fact)))
    return {person: [fact for _order, fact in sorted(facts, key=lambda pair: pair[0])] for person, facts in found.items()}


def known_at_the_end(histories: Iterable[History]) -> dict[str, tuple[Any, ...]]:
    """The clerk's books: person -> (sex, born, visits with status, readings by value and status, numbers folded in)."""
    return {
        history.person: (
            history.sex, history.born,
            sorted((visit, status) for visit, (person, status) in history.visits.items() if person == history.person),
            sorted(history.readings.values()), sorted(history.merged))
        for history in histories
    }  # fmt: skip


def landed_at_the_end(settings: Settings, names: Names) -> dict[str, tuple[Any, ...]]:
    """The same out of the lake, where the newest word by (known_at, inbox_sequence) counts."""
    newest = "(known_at, inbox_sequence)"
    people = query(settings, f"select person_key, arg_max(gender, {newest}), arg_max(birth_date, {newest})::varchar "
                             "from clinical.raw.hl7v2_patients group by person_key")  # fmt: skip
    visits = query(settings, f"select encounter_key, arg_max(person_key, {newest}), arg_max(status, {newest}) "
                             "from clinical.raw.hl7v2_encounters group by encounter_key")  # fmt: skip
    readings = query(settings, f"select any_value(person_key), arg_max(value_number, {newest}), arg_max(status, {newest}) "
                               "from clinical.raw.hl7v2_observations group by record_key")  # fmt: skip
    links = query(settings, "select other_person_key, person_key from clinical.raw.person_links where link_type = 'merge'")
    return {
        names.of[key]: (
            sex, born,
            sorted((names.of[visit], status) for visit, person, status in visits if person == key),
            sorted((value, status) for person, value, status in readings if person == key),
            sorted(names.of[retired] for person, retired in links if person == key))
        for key, sex, born in people
    }  # fmt: skip
