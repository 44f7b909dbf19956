"""What the listener, the relay and the consumer count, in a registry of their own. Labels are codes and declared names."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()

MESSAGES_RECEIVED = Counter("cuff_messages_received", "Messages received", ["feed", "source"], registry=REGISTRY)
ACKNOWLEDGED = Counter("cuff_acknowledged", "Answers given, by MSA-1 or HTTP status", ["code"], registry=REGISTRY)
QUARANTINED = Counter("cuff_quarantined", "Messages quarantined", ["reason"], registry=REGISTRY)
ACKNOWLEDGE_SECONDS = Histogram(
    "cuff_acknowledge_seconds", "From the end of a frame to its answer", registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
STORE_SECONDS = Histogram(
    "cuff_store_seconds", "One commit of the inbox", registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
STORE_FAILURES = Counter("cuff_store_failures", "Commits of the inbox that failed: answered AR or 503", registry=REGISTRY)
CONNECTIONS = Gauge("cuff_connections", "Open MLLP connections", registry=REGISTRY)
CONNECTIONS_REFUSED = Counter("cuff_connections_refused", "MLLP connections over the cap", registry=REGISTRY)
BYTES_OUTSIDE_FRAMES = Counter("cuff_bytes_outside_frames", "Bytes between frames, quarantined", registry=REGISTRY)
INBOX_LAG = Gauge("cuff_inbox_lag", "Acknowledged entries that are not landed yet", registry=REGISTRY)
INBOX_OLDEST_SECONDS = Gauge("cuff_inbox_oldest_seconds", "Age of the oldest of them", registry=REGISTRY)
LANDED = Counter("cuff_landed", "Payloads landed by the consumer", registry=REGISTRY)
LAND_SECONDS = Histogram(
    "cuff_land_seconds", "One micro-batch, from the lock to the ledger", registry=REGISTRY,
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)  # fmt: skip
LAND_FAILURES = Counter("cuff_land_failures", "Micro-batches that failed and are tried again", registry=REGISTRY)
RELAYED = Counter("cuff_relayed", "Entries acknowledged by the broker", ["topic"], registry=REGISTRY)
RELAY_FAILURES = Counter("cuff_relay_failures", "Attempts that the broker did not acknowledge", registry=REGISTRY)


def exposition() -> bytes:
    """The registry in Prometheus' text format."""
    return generate_latest(REGISTRY)
