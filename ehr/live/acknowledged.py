"""An acknowledgement as its receiver reads it."""

from dataclasses import dataclass

_ACCEPTED, _ERRORS, _REJECTED = frozenset({"AA", "CA"}), frozenset({"AE", "CE"}), frozenset({"AR", "CR"})
# HL7 table 0357: the record is locked, or the application itself has a fault. All others are the message's own.
_TEMPORARY = frozenset({"206", "207"})
_LONGEST_REASON = 120


@dataclass(frozen=True)
class Acknowledged:
    """What MSA and ERR say."""

    code: str  # MSA-1
    control_id: bytes  # MSA-2, of the message that is answered; empty where its header could not be read
    condition: str  # ERR-3.1, a code of HL7 table 0357
    reason: str  # ERR-8, ERR-7 or the text of ERR-3: the other side's words

    @property
    def is_accepted(self) -> bool:
        return self.code in _ACCEPTED

    @property
    def is_error(self) -> bool:
        return self.code in _ERRORS

    @property
    def is_temporary(self) -> bool:
        """The message could not be stored now: to be sent again."""
        return self.code in _REJECTED and self.condition in _TEMPORARY


def acknowledged(frame: bytes) -> Acknowledged | None:
    """The acknowledgement in a frame; None when it is none, or one with an unknown code."""
    segments = frame.replace(b"\n", b"\r").split(b"\r")
    separator = segments[0][3:4] if segments[0].startswith(b"MSH") else b""
    if not separator:
        return None
    fields = {name: next((s.split(separator) for s in segments if s[:4] == name + separator), []) for name in
              (b"MSA", b"ERR")}
    code = _text(_field(fields[b"MSA"], 1))
    if code not in _ACCEPTED | _ERRORS | _REJECTED:
        return None
    error = fields[b"ERR"]
    condition = _field(error, 3).split(b"^")
    reason = _field(error, 8) or _field(error, 7) or (condition[1] if len(condition) > 1 else b"") or _field(
        fields[b"MSA"], 3)
    return Acknowledged(code, _field(fields[b"MSA"], 2), _text(condition[0]), _text(reason)[:_LONGEST_REASON])


def _field(fields: list[bytes], number: int) -> bytes:
    return fields[number] if len(fields) > number else b""


def _text(field: bytes) -> str:
    return field.decode("ascii", "replace")
