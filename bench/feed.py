"""The synthetic hospital's HL7 v2 messages for a bench: as many as asked for, each with a control id of its own."""

from collections.abc import Iterator
from functools import lru_cache

_MESSAGES_OF_A_PATIENT = 24


@lru_cache(maxsize=4)
def sound_messages(number: int, seed: int = 1) -> tuple[bytes, ...]:
    """``number`` messages in the order in which they would be sent, ADT and ORU and MDM as they come, none of them broken.

    Every MSH-10 is new (the hospital's, with the number of the message behind it), so that none is a repeat.
    """
    from ehr.simulate import SimulationOptions, simulate_hospital
    from ehr.simulate.options import MessRates

    found: list[bytes] = []

    def keep(messages: Iterator[bytes], _total: int) -> None:
        found.extend(messages)

    patients = max(50, number // _MESSAGES_OF_A_PATIENT)
    while len(found) < number:
        found.clear()
        options = SimulationOptions(patients=patients, years=4, seed=seed,
                                    rates=MessRates(broken=0, wrong_charset=0, duplicate=0))  # fmt: skip
        simulate_hospital(None, options, deliver=keep)
        patients = round(patients * 1.1 * number / max(len(found), number // 20)) + 1
    return tuple(with_control_id(message, at) for at, message in enumerate(found[:number]))


def with_control_id(message: bytes, number: int) -> bytes:
    """The message under another MSH-10."""
    head, rest = message.split(b"\r", 1)
    fields = head.split(head[3:4])
    fields[9] = b"%s-%d" % (fields[9][:12], number)
    return head[3:4].join(fields) + b"\r" + rest


def frame(message: bytes) -> bytes:
    return b"\x0b" + message + b"\x1c\r"
