"""Names in every alphabet under every MSH-18, right, absent and wrong: they reach the vault as they were, or quarantine.

The oracle decodes with Python's codecs by HL7 table 0211 and nothing of the reader's.
"""

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import MetaData, String, Text, cast, create_engine, select

from bench.chaos.evidence import Held, held, payload_id, waiting
from bench.chaos.figure import Figure, Size
from bench.chaos.wire import Wire, code_of
from bench.feed import frame
from bench.processes import House
from core.lake import read_lake
from core.settings import Settings
from ehr.identity import reveal

SIZES: dict[Size, int] = {"small": 90, "full": 6000}
DECLARED = {  # MSH-18 -> how its bytes are to be read; None: unknown, so the message can only be refused
    b"ASCII": "ascii", b"8859/1": "latin-1", b"UNICODE UTF-8": "utf-8", b"": "utf-8", b"8859/15": "iso-8859-15",
    b"KLINGON": None, b"UNICODE UTF-16": None,
}  # fmt: skip
WRITTEN = ("ascii", "latin-1", "utf-8", "iso-8859-15", "cp1252", "utf-16-le")
ALPHABETS = ("abcdefghij", "àéîõüßçñøåÆÐÞ", "ŒœŠšŽžŸ€", "αβγδΩ", "жщыЯё", "漢字仮名", "한글", "עברית", "العربية",
             "e\u0301a\u0308", "\U0001f600\U00020000", "\u2028\u00a0\u200b", "I\u0307ıİ", "\x85\x90")  # fmt: skip
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Sent:
    message: bytes
    name: str | None  # PID-5 as a careful reader has it; None where the bytes are not what MSH-18 says


def messages(number: int, seed: int) -> list[Sent]:
    """Each combination of declaration and writing in turn, with a name of random letters."""
    chance = random.Random(seed)
    made: list[Sent] = []
    pairs = [(declared, written) for declared in DECLARED for written in WRITTEN]
    while len(made) < number:
        declared, written = pairs[len(made) % len(pairs)]
        name = "^".join("".join(chance.choice(chance.choice(ALPHABETS)) for _ in range(chance.randint(1, 12))) for _ in "ab")
        encoded = name.encode(written, "ignore").translate(None, b"\r\n\x0b\x1c|~&\\")
        at = len(made)
        head = b"MSH|^~\\&|CHARS|HOSP|CUFF|CUFF|20240101120000+0000||ADT^A04|chars-%d|P|2.5.1||||||%s\r" % (at, declared)
        message = head + b"PID|1||C%d^^^HOSP^MR||" % at + encoded + b"||19700101|F\rPV1|1|N\r"
        made.append(Sent(message, _read(message, declared)))
    return made


def _read(message: bytes, declared: bytes) -> str | None:
    codec = DECLARED[declared]
    try:
        text = message.decode(codec) if codec else None
    except UnicodeDecodeError:
        return None
    if text is None or "\x00" in text:
        return None
    return text.split("\rPID|")[1].split("|")[4]


def run(size: Size = "full") -> list[Figure]:
    """Send, land, and look into inbox, vault, lake and ops database."""
    sent = messages(SIZES[size], seed=18)
    with TemporaryDirectory(prefix="cuff-chaos-") as folder:
        house = House(Path(folder) / "var")
        with house.start("listen") as listener:
            codes = asyncio.run(_send(house.mllp_port, [each.message for each in sent]))
            listener.stop()
        house.run("consume", "--once")
        found, settings = held(house.settings), house.settings
        unlike = [problem for each, code in zip(sent, codes, strict=True) if (problem := _judge(found, each, code))]
        left = waiting(settings)
        unlike += _names_that_differ(settings, sent)
        replaced = replacement_characters(settings)
    note = f"{len(sent)} messages, answers {dict(Counter(codes))}, load {os.getloadavg()[0]:.1f}"
    return [
        Figure("charsets: neither round-tripped nor quarantined", len(unlike) + left, "messages", "<= 0",
               note + (f"; first: {unlike[0]}" if unlike else "")),
        Figure("charsets: replacement characters in vault, lake and ops database", len(replaced), "places", "<= 0",
               "; ".join(replaced[:3])),
    ]  # fmt: skip


async def _send(port: int, contents: list[bytes]) -> list[str]:
    wire = await Wire.open(port)
    for content in contents:
        await wire.send(frame(content))
    await wire.answered(len(contents), 120)
    wire.close()
    codes = [code_of(answer) for answer in wire.answers]
    return codes + ["none"] * (len(contents) - len(codes))


def _judge(found: dict[str, Held], sent: Sent, code: str) -> str:
    """What is wrong with one message; '' for nothing."""
    entry = found.get(payload_id(sent.message))
    where = sent.message.split(b"\r")[0].decode("latin-1")[-40:]
    if entry is None or not entry.is_intact:
        return f"its bytes are not in the inbox: {where}"
    expected = ("AA", "landed", ()) if sent.name is not None else ("AE", "quarantined", ("charset_mismatch",))
    told = (code, entry.state, entry.reasons)
    return "" if told == expected else f"{told} instead of {expected}: {where}"


def _names_that_differ(settings: Settings, sent: list[Sent]) -> list[str]:
    with read_lake(settings, ("clinical",)) as lake:
        rows = lake.execute("select payload_id, person_key from clinical.raw.hl7v2_messages").fetchall()
    person_of, wrong = dict(rows), []
    for each in sent:
        if each.name is None:
            continue
        person = person_of.get(payload_id(each.message))
        names = [kept.get("name", "") for kept in reveal(settings, person)] if person else []
        if names != [each.name]:
            wrong.append(f"the vault has {len(names)} names for {each.message.split(b'|')[9].decode()}, none of them equal")
    return wrong


def replacement_characters(settings: Settings) -> list[str]:
    """Where U+FFFD stands: in any text of the lake, the ops database, or what the vault reveals."""
    places = []
    with read_lake(settings, ("clinical",)) as lake:
        for (table,) in lake.execute("select table_name from duckdb_tables() where database_name = 'clinical' "
                                     "and schema_name = 'raw'").fetchall():  # fmt: skip
            row = lake.execute(f"select count(*) from clinical.raw.{table} as t where cast(t as varchar) like $1",
                               [f"%{REPLACEMENT}%"]).fetchone()  # fmt: skip
            places += [f"raw.{table}"] * int(row[0] if row else 0)
    ops = create_engine(settings.ops_database_url())
    tables = MetaData()
    tables.reflect(ops)
    with ops.connect() as connection:
        for table in tables.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, String | Text):
                    found = connection.execute(select(column).where(cast(column, Text).contains(REPLACEMENT))).all()
                    places += [f"ops {table.name}.{column.name}"] * len(found)
    vault = create_engine(settings.vault_database_url())
    with vault.connect() as connection:
        keys = connection.exec_driver_sql("select distinct key from sealed_identities").scalars().all()
    places += ["vault" for key in keys if any(REPLACEMENT in str(kept) for kept in reveal(settings, key))]
    return places
