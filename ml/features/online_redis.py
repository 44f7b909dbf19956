"""The Redis online store. Feast keeps a patient in one hash and sets it in one command, so a reader never sees half a row."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from core.errors import FeatureStoreError
from ml.features.catalog import FEATURE_NAMES
from ml.features.definitions import (
    DESCRIBING,
    ENTITY_KEY,
    FEATURE_VIEW,
    LINK_VIEW,
    PERSON_KEY,
    PROJECT,
    STAMP,
    redis_options,
)
from ml.features.online_cells import Materialization, Row
from ml.features.wire import decode, entity_key, field_name, key_prefix

RUN = f"{PROJECT}:materialization"
PATIENT, PERSON, SUFFIX = key_prefix(ENTITY_KEY), key_prefix(PERSON_KEY), PROJECT.encode()
_LINK = field_name(LINK_VIEW, ENTITY_KEY)
_COLUMNS = {field_name(FEATURE_VIEW, name): name for name in (*FEATURE_NAMES, *DESCRIBING, *STAMP)}
_SECONDS = 5


def connect(url: str) -> Any:
    """A ``redis.Redis`` with its pool of connections, safe to share between threads. Its stubs know no keys of bytes."""
    from redis import Redis

    redis_options(url)  # refuses what is no address, before anything is read
    return Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, health_check_interval=30)


def redis_key(prefix: bytes, value: str) -> bytes:
    """The key of an entity: Feast's entity key and the project."""
    return entity_key(prefix, value) + SUFFIX


class RedisCells:
    """See `OnlineCells`."""

    def __init__(self, url: str) -> None:
        self._redis = connect(url)

    def fetch(self, patient_keys: Sequence[str]) -> tuple[Materialization, list[Row | None]]:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(RUN)  # before the rows: what is written meanwhile bears a higher number
        for key in patient_keys:
            pipeline.hgetall(redis_key(PATIENT, key))
        run, *hashes = self._ask(pipeline)
        return read_run(run), [_row(each) for each in hashes]

    def patient_of(self, person_key: str) -> str | None:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hget(redis_key(PERSON, person_key), _LINK)
        value = decode(self._ask(pipeline)[0])
        return None if value is None else str(value)

    def newest(self) -> Materialization:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(RUN)
        return read_run(self._ask(pipeline)[0])

    def sample(self, number: int) -> list[str]:
        found: list[str] = []
        for key in self._redis.scan_iter(PATIENT + b"*" + SUFFIX, count=1000):
            found.append(key_of(PATIENT, key))
            if len(found) >= number:
                break
        return found

    def _ask(self, pipeline: Any) -> list[Any]:
        from redis import RedisError

        try:
            return list(pipeline.execute())
        except RedisError as error:
            raise FeatureStoreError(
                f"the online feature store does not answer ({type(error).__name__}); see to CUFF_ONLINE_STORE") from None


def key_of(prefix: bytes, key: bytes) -> str:
    """The pseudonym in a Redis key, past the length that stands before it."""
    return key[len(prefix) + 4:-len(SUFFIX)].decode()


def read_run(fields: dict[bytes, bytes]) -> Materialization:
    """The run that Redis holds. Errors: `FeatureStoreError` where it holds none."""
    try:
        return Materialization(int(fields[b"number"]), int(fields[b"build_id"]), int(fields[b"clinical_snapshot"]),
                               date.fromisoformat(fields[b"as_of"].decode()))
    except KeyError:
        raise FeatureStoreError("the online feature store is empty; run `cuff features`") from None


def _row(fields: dict[bytes, bytes]) -> Row | None:
    return {_COLUMNS[field]: value for field, value in fields.items() if field in _COLUMNS} or None
