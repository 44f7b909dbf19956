"""Which fields of a message may pass: `ehr/allow_list.toml`, applied before anything reads the message."""

import tomllib
from functools import lru_cache
from pathlib import Path

from ehr.hl7v2.message import Message, Segment

_FILE = Path(__file__).resolve().parent.parent / "allow_list.toml"


@lru_cache(maxsize=1)
def allowed_fields() -> dict[str, tuple[int, ...]]:
    """Segment name to the numbers of the fields that may pass, in order."""
    found: dict[str, list[int]] = {}
    for place in _entries():
        segment, _, number = place.partition("-")
        found.setdefault(segment, []).append(int(number))
    return {segment: tuple(sorted(numbers)) for segment, numbers in found.items()}


@lru_cache(maxsize=8)
def vault_fields(segment: str) -> dict[str, int]:
    """What the vault calls each field of a segment that it keeps, and the field's number."""
    return {entry["as"]: int(place.partition("-")[2]) for place, entry in _entries().items()
            if entry["to"] == "vault" and place.startswith(f"{segment}-")}  # fmt: skip


def allowed_part(message: Message) -> Message:
    """The message without any field that is not on the list; of other segments only the name is left."""
    allowed = allowed_fields()
    return Message(tuple(_cut(segment, allowed.get(segment.name, ())) for segment in message.segments))


def _cut(segment: Segment, numbers: tuple[int, ...]) -> Segment:
    name, number, fields, delimiters = segment
    kept = [name] + [""] * (numbers[-1] if numbers else 0)
    for at in numbers:
        if at >= len(fields):
            break
        kept[at] = fields[at]
    return Segment(name, number, tuple(kept), delimiters)


def _entries() -> dict[str, dict[str, str]]:
    entries: dict[str, dict[str, str]] = tomllib.loads(_FILE.read_text())["hl7v2"]
    return entries
