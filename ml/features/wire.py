"""How Feast writes keys and values into an online store, read without loading Feast.

Feast's own reader costs milliseconds a request and its import seconds and memory of every serving process; the format is
public (docs/specs/online_store_format.md of Feast, entity key serialisation version 3). Tests compare both.
"""

from struct import Struct

_STRING = 2  # ValueType.STRING of Feast's Value.proto
_COUNT = Struct("<I")
_double = Struct("<d").unpack_from
# Tags of protobuf's `oneof val` in Value.proto: field number and wire type.
_STRING_VAL, _INT64_VAL, _DOUBLE_VAL, _BOOL_VAL = 0x12, 0x20, 0x29, 0x38


def key_prefix(join_key: str) -> bytes:
    """What every entity key of one string join key starts with: number of keys, then type, length and name of the key."""
    name = join_key.encode()
    return _COUNT.pack(1) + _COUNT.pack(_STRING) + _COUNT.pack(len(name)) + name + _COUNT.pack(_STRING)


def entity_key(prefix: bytes, value: str) -> bytes:
    """The serialised entity key of ``value`` under `key_prefix`."""
    encoded = value.encode()
    return prefix + _COUNT.pack(len(encoded)) + encoded


def decode(value: bytes | None) -> float | bool | str | int | None:
    """A serialised ``Value``: a double, bool, string or int64; None where it is absent or holds nothing."""
    if not value:
        return None
    tag = value[0]
    if tag == _DOUBLE_VAL:
        return float(_double(value, 1)[0])
    if tag == _BOOL_VAL:
        return value[1] != 0
    length, start = _varint(value)
    if tag == _INT64_VAL:
        return length
    if tag == _STRING_VAL:
        return value[start:start + length].decode()
    raise ValueError(f"an online value is of a kind that no feature has (tag {tag})")


def field_name(view: str, feature: str) -> bytes:
    """The field of a Redis hash that holds a feature: its murmur3 hash, little endian."""
    import mmh3

    return mmh3.hash(f"{view}:{feature}", signed=False).to_bytes(4, "little")


def _varint(value: bytes) -> tuple[int, int]:
    """(number, where the rest begins) of the varint after the tag; not for negative numbers."""
    number, shift, place = 0, 0, 1
    while True:
        byte = value[place]
        number |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return number, place
        shift += 7
