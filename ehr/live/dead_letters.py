"""The dead-letter topic: what was rejected, sealed, with the reason in headers. Who watches it needs no access to Cuff.

The relay publishes each quarantine row of a live payload, refused at the door or while landing. The consumer publishes what
it finds on Cuff's own topics that is none of Cuff's, before its position moves past it.
"""

from typing import TYPE_CHECKING, Any

from core.keys import seal
from core.store import Quarantine
from ehr.live.broker import LARGEST_VALUE_BYTES, headers_of

if TYPE_CHECKING:
    from confluent_kafka import Message


def of_reject(reject: Quarantine, inbox_sequence: int, partition_key: str | None, sealed: bytes | None) -> dict[str, Any]:
    """What `Producer.produce` takes for one quarantine row. ``sealed``: the payload as the inbox keeps it."""
    return {
        "value": sealed if sealed is not None and len(sealed) <= LARGEST_VALUE_BYTES else None,
        "key": partition_key,
        "headers": headers_of({
            "reason_code": reject.reason_code, "locator": reject.locator, "unit": reject.unit, "type": reject.type,
            "source_id": reject.source_id, "payload_id": reject.payload_id, "inbox_sequence": inbox_sequence,
            "quarantine_id": reject.quarantine_id,
        }),
    }  # fmt: skip


def of_poison(archive_key: bytes, message: "Message", reason_code: str) -> dict[str, Any]:
    """What `Producer.produce` takes for a message that is none of ours. Whatever it holds is sealed, bound to
    ``topic/partition/offset``: its sender may have put anything there."""
    place = f"{message.topic()}/{message.partition()}/{message.offset()}"
    value = message.value()
    sealed = seal(archive_key, bytes(value), place) if value is not None else None
    return {
        "value": sealed if sealed is not None and len(sealed) <= LARGEST_VALUE_BYTES else None,
        "headers": headers_of({"reason_code": reason_code, "locator": place, "unit": "record", "type": "kafka"}),
    }
