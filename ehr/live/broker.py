"""Kafka as Cuff uses it: its topics, what its clients are told, and the envelope that an entry of the inbox travels in.

An envelope's value is the entry's bytes as the inbox keeps them, sealed under ``CUFF_ARCHIVE_KEY`` and bound to the payload's
id; its key is the person's pseudonym; its headers say nothing of the patient. An entry too large for a broker as it comes
out of the box travels without a value: who is told of it reads the inbox.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag

from core.errors import ConfigurationError
from core.keys import unseal
from core.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Message, Producer

HL7V2, FHIR, DEAD_LETTERS, LANDED = "hl7v2", "fhir", "dead_letters", "landed"
KINDS = (HL7V2, FHIR, DEAD_LETTERS, LANDED)
LARGEST_VALUE_BYTES = 900_000  # a broker takes 1 MiB a message unless told otherwise, headers and all

_ANSWER_SECONDS = 5.0
_log = logging.getLogger("cuff.kafka")


class _Quietly:
    """librdkafka's log, as details: it tells of every attempt to reach a broker. What matters is told by who waits for it."""

    def log(self, _level: int, message: str, *arguments: object) -> None:
        _log.debug(message, *arguments)


class PoisonError(Exception):
    """A message on one of our topics that is not one of ours, or not as it was sent; ``str`` is the reason's code."""


@dataclass(frozen=True)
class Envelope:
    """One entry of the inbox on its way. ``sealed`` is None where the bytes stay behind in the inbox."""

    inbox_sequence: int
    payload_id: str
    source_id: str
    format: str
    partition_key: str | None
    sealed: bytes | None

    def as_message(self) -> dict[str, Any]:
        """What `Producer.produce` takes beside the topic."""
        return {
            "value": self.sealed if self.sealed is not None and len(self.sealed) <= LARGEST_VALUE_BYTES else None,
            "key": self.partition_key,
            "headers": headers_of({"inbox_sequence": self.inbox_sequence, "payload_id": self.payload_id,
                                   "source_id": self.source_id, "format": self.format}),
        }  # fmt: skip


@dataclass(frozen=True)
class Opened:
    """An envelope that was opened: the plain bytes are what the payload's id says, or are to be read from the inbox."""

    inbox_sequence: int
    payload_id: str
    content: bytes | None


def topic_name(settings: Settings, kind: str) -> str:
    """The name of one of Cuff's topics, ``cuff.hl7v2.v1`` and so on. What is on it may change only with the number."""
    return f"{settings.kafka_prefix}.{kind}.v1"


def topic_of_format(settings: Settings, format: str) -> str:
    """Where a payload of this format is published."""
    return topic_name(settings, FHIR if format == "fhir" else HL7V2)


def client_options(settings: Settings, source_id: str | None = None, bootstrap: str = "") -> dict[str, Any]:
    """What every client is told; ``source_id`` and ``bootstrap`` for a hospital's own broker.

    Errors: `ConfigurationError` when no broker is named.
    """
    bootstrap = bootstrap or settings.kafka_bootstrap
    if not bootstrap:
        raise ConfigurationError("no Kafka broker is named; set CUFF_KAFKA_BOOTSTRAP to host:port")
    own = settings.kafka_source_options.get(source_id, {}) if source_id else {}
    return {
        "bootstrap.servers": bootstrap,
        "client.id": "cuff",
        "reconnect.backoff.max.ms": 2000,
        **settings.kafka_options,
        **own,
        "logger": _Quietly(),
        "error_cb": lambda error: _log.debug("%s", error.name()),
    }


def make_producer(settings: Settings) -> "Producer":
    """A producer that neither loses nor doubles nor reorders, however often it tries; a message never expires."""
    from confluent_kafka import Producer

    return Producer(client_options(settings) | {
        "enable.idempotence": True, "acks": "all", "message.timeout.ms": 0, "linger.ms": 5,
        "partitioner": "murmur2_random",
    })  # fmt: skip


def make_topics(settings: Settings, kinds: Iterable[str] = KINDS) -> set[str]:
    """Make what is absent of Cuff's topics, and return the kinds that were made.

    Errors: ``KafkaException`` when the broker is away or refuses.
    """
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient(client_options(settings))
    present = admin.list_topics(timeout=_ANSWER_SECONDS).topics
    absent = {topic_name(settings, kind): kind for kind in kinds if topic_name(settings, kind) not in present}
    made: set[str] = set()
    if not absent:
        return made
    asked = [NewTopic(name, settings.kafka_partitions if kind in (HL7V2, FHIR) else 1, settings.kafka_replication)
             for name, kind in absent.items()]  # fmt: skip
    for name, future in admin.create_topics(asked, request_timeout=_ANSWER_SECONDS).items():
        try:
            future.result()
            made.add(absent[name])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return made


def headers_of(fields: Mapping[str, object]) -> list[tuple[str, bytes]]:
    """Headers of a message; what is None is left out."""
    return [(name, str(value).encode()) for name, value in fields.items() if value is not None]


def read_headers(message: "Message") -> dict[str, str]:
    """Headers by name, the last of a name. Bytes that are not UTF-8 are shown as escapes."""
    pairs: Any = message.headers() or []
    return {str(name): (value or b"").decode(errors="backslashreplace") for name, value in pairs}


def open_envelope(archive_key: bytes, message: "Message") -> Opened:
    """Headers and bytes of a message on `HL7V2` or `FHIR`. Errors: `PoisonError` naming why it is none of ours."""
    headers = read_headers(message)
    sequence, payload_id, value = headers.get("inbox_sequence", ""), headers.get("payload_id", ""), message.value()
    if not (sequence.isascii() and sequence.isdigit() and len(sequence) < 19 and payload_id):
        raise PoisonError("not_an_envelope")
    content: bytes | None = None
    if value is not None:
        try:
            content = unseal(archive_key, bytes(value), payload_id)
        except (InvalidTag, ValueError):
            raise PoisonError("cannot_be_unsealed") from None
        if hashlib.sha256(content).hexdigest() != payload_id:
            raise PoisonError("wrong_digest")
    return Opened(int(sequence), payload_id, content)
