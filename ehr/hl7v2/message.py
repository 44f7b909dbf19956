"""One message: segments, fields, repetitions, components, with the delimiters that MSH-1 and MSH-2 declare."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

_HEX = re.compile(r"X((?:[0-9A-Fa-f]{2})+)")
# HL7 table 0076. What else stands in MSH-9 may be anything, a name too, and is counted without being repeated.
MESSAGE_CODES = frozenset((Path(__file__).parent / "message_codes.txt").read_text().split())
_CODE, _EVENT = re.compile(r"[A-Z0-9]{3}"), re.compile(r"[A-Z][0-9]{2}")
_LONGEST_DECLARATION = 32  # more than that is no list of distinct delimiters
_ABSENT = "\ufdd0\ufdd1\ufdd2\ufdd3"  # Unicode noncharacters: stand in for delimiters that MSH-2 does not name


class MessageError(ValueError):
    """The bytes are not an HL7 v2 message; ``reason_code`` and ``place`` say why and where."""

    def __init__(self, reason_code: str, place: str, detail: str) -> None:
        super().__init__(detail)
        self.reason_code, self.place, self.detail = reason_code, place, detail


@dataclass(frozen=True)
class Delimiters:
    """MSH-1 and the characters of MSH-2; an absent one is a character that cannot occur."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


class Segment(NamedTuple):
    """``number`` counts segments of the same name from 1."""

    name: str
    number: int
    fields: tuple[str, ...]
    delimiters: Delimiters

    def raw(self, index: int) -> str:
        """Field ``index`` as sent; '' when absent. MSH counts its separator as field 1."""
        return self.fields[index] if index < len(self.fields) else ""

    def repetitions(self, index: int) -> list[str]:
        raw = self.raw(index)
        return raw.split(self.delimiters.repetition) if raw else []

    def text(self, index: int, component: int = 1) -> str:
        """A component of a field's first repetition, unescaped; '' for absent and for the explicit null ``""``."""
        raw = self.fields[index] if index < len(self.fields) else ""
        if not raw or raw.isalnum():  # no delimiter is alphanumeric
            return raw if component == 1 else ""
        return self.component(raw.partition(self.delimiters.repetition)[0], component)

    def component(self, repetition: str, component: int, subcomponent: int = 1) -> str:
        """A component (and its subcomponent) of one repetition, unescaped."""
        delimiters = self.delimiters
        parts = repetition.split(delimiters.component, component)
        if component > len(parts):
            return ""
        value = parts[component - 1]
        if value.isalnum():
            return value if subcomponent == 1 else ""
        if subcomponent > 1 or delimiters.subcomponent in value:
            inner = value.split(delimiters.subcomponent)
            value = inner[subcomponent - 1] if subcomponent <= len(inner) else ""
        if delimiters.escape in value:
            value = unescape(value, delimiters)
        value = value.strip()
        return "" if value == '""' else value


@dataclass(frozen=True)
class Message:
    """The segments in order; the first is MSH."""

    segments: tuple[Segment, ...]

    @property
    def msh(self) -> Segment:
        return self.segments[0]

    @cached_property
    def type(self) -> str:
        """``ADT^A08``; the event falls back to EVN-1. ``other`` for a code outside HL7, ``unknown`` for no code."""
        code, event = self.msh.text(9, 1), self.msh.text(9, 2)
        if not event and (evn := self.first("EVN")):
            event = evn.text(1)
        if code not in MESSAGE_CODES:
            return "other" if _CODE.fullmatch(code) else "unknown"
        return f"{code}^{event}" if _EVENT.fullmatch(event) else code

    @property
    def event(self) -> str:
        """``A08`` of ``ADT^A08``; '' when there is none."""
        return self.type.partition("^")[2]

    def first(self, name: str) -> Segment | None:
        return next((segment for segment in self.segments if segment.name == name), None)


def parse_message(text: str, only: frozenset[str] | None = None) -> Message:
    """Split a decoded message; with ``only`` just the segments of these names, MSH among them. Errors: `MessageError` when
    the header cannot be used."""
    if not text.startswith("MSH"):
        raise MessageError("no_msh", "MSH", "the message does not begin with MSH")
    delimiters = _delimiters(text)
    counts: dict[str, int] = {}
    segments = []
    for line in text.split("\r"):
        name = line[:3]
        if only is not None and name not in only:
            continue
        fields = line.split(delimiters.field)
        if name == "MSH":
            fields.insert(1, delimiters.field)
        counts[name] = counts.get(name, 0) + 1
        segments.append(Segment(name, counts[name], tuple(fields), delimiters))
    return Message(tuple(segments))


def _delimiters(text: str) -> Delimiters:
    field = text[3:4]
    if not field or field.isalnum() or field.isspace():
        raise MessageError("bad_delimiters", "MSH-1", "MSH-1 is not a separator")
    return _named(field, text[4:4 + _LONGEST_DECLARATION].split(field, 1)[0].split("\r", 1)[0])


@lru_cache(maxsize=64)
def _named(field: str, declared: str) -> Delimiters:
    if not declared or len(set(declared)) != len(declared) or any(c.isalnum() or c.isspace() for c in declared):
        raise MessageError("bad_delimiters", "MSH-2", "MSH-2 does not name distinct delimiters")
    named = declared[:4] + _ABSENT[len(declared[:4]) :]
    return Delimiters(field, component=named[0], repetition=named[1], escape=named[2], subcomponent=named[3])


def unescape(value: str, delimiters: Delimiters) -> str:
    r"""Resolve ``\F\ \S\ \T\ \R\ \E\ \Xhh\ \.br\``; highlighting goes, an unknown sequence stays as sent."""
    if delimiters.escape not in value:
        return value
    known: dict[str, str] = {
        "F": delimiters.field, "S": delimiters.component, "T": delimiters.subcomponent,
        "R": delimiters.repetition, "E": delimiters.escape, "H": "", "N": "", ".br": "\n",
    }  # fmt: skip

    def resolve(match: re.Match[str]) -> str:
        code = match[1]
        if code in known:
            return known[code]
        if (found := _HEX.fullmatch(code)) and (plain := bytes.fromhex(found[1])).isascii():
            return plain.decode("ascii")
        return match[0]  # beyond ASCII the character set of \\X..\\ is a local agreement: left as sent

    return _escape_pattern(delimiters.escape)(resolve, value)


def escape(value: str, delimiters: Delimiters) -> str:
    """The inverse of `unescape` for text."""
    codes = {
        delimiters.escape: "E", delimiters.field: "F", delimiters.component: "S",
        delimiters.subcomponent: "T", delimiters.repetition: "R",
    }  # fmt: skip
    mark = delimiters.escape
    return "".join(f"{mark}{codes[char]}{mark}" if char in codes else char for char in value)


def _escape_pattern(mark: str) -> Callable[[Callable[[re.Match[str]], str], str], str]:
    quoted = re.escape(mark)
    return re.compile(f"{quoted}([^{quoted}]*){quoted}").sub
