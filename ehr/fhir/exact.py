"""The exact way in: record by record, for files that the quick reader refuses and for bytes out of the archive.

What is well-formed goes on into the same ``incoming``; the rest is a reject with its place. NDJSON is read in bounded
memory; a document is as large as it is.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson
from duckdb import DuckDBPyConnection

from ehr.fhir.allow_list import HANDLED_TYPES, allowed_part, declared_fields, first_misfit, resource_types
from ehr.records import Reject

_BOM = b"\xef\xbb\xbf"
BAD_STREAM = (OSError, EOFError, zlib.error)
_COLUMNS = ("file_no", "place", "locator", "full_url", "method", "url", "last_modified", "is_empty", "doc")


@dataclass(frozen=True)
class Record:
    """One resource, or a bundle's entry without one, cut down to the allow-list."""

    locator: str
    resource: dict[str, Any] | None
    full_url: str | None = None
    method: str | None = None
    url: str | None = None
    last_modified: str | None = None


def open_plain(stream: BinaryIO) -> BinaryIO:
    """The stream, unpacked where it is gzip."""
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value]
    return buffered


def is_ndjson(stream: BinaryIO) -> bool:
    """Whether the first line is a whole JSON object and more than one line holds something."""
    first = b""
    for line in stream:
        stripped = line.removeprefix(_BOM).strip()
        if not stripped:
            continue
        if first:
            return _is_object(first) or _is_object(stripped)
        first = stripped
        if first in (b"{", b"["):
            return False
    return False


def walk(stream: BinaryIO, by_line: bool, rejects: list[Reject]) -> Iterator[list[Record]]:
    """The records of a payload, those that belong to one bundle together; what is not well-formed joins ``rejects``."""
    found = _lines(stream, rejects) if by_line else _documents(stream, rejects)
    for place, item in found:
        records = list(_open_item(place, item, rejects))
        if records:
            yield records


def load_records(connection: DuckDBPyConnection, records: list[tuple[int, int, Record]]) -> None:
    """(file number, place, record) rows as the temp table ``incoming``."""
    import pyarrow as pa

    rows = [
        (file_no, place, r.locator, r.full_url, r.method, r.url, r.last_modified, r.resource is None,
         orjson.dumps(r.resource).decode() if r.resource is not None else None)
        for file_no, place, r in records
    ]  # fmt: skip
    types = [pa.int64(), pa.int64(), *[pa.string()] * 5, pa.bool_(), pa.string()]
    columns = zip(*rows, strict=True) if rows else [[] for _ in _COLUMNS]
    table = pa.table({name: pa.array(list(column), kind)
                      for name, column, kind in zip(_COLUMNS, columns, types, strict=True)})  # fmt: skip
    structure = orjson.dumps(declared_fields()).decode().replace("'", "''")
    connection.register("exact_rows", table)
    connection.execute("drop view if exists incoming")
    connection.execute(
        f"""
        create or replace temp table exact_incoming as
        select * exclude (doc), unnest(from_json(doc, '{structure}')) from exact_rows
        """
    )
    connection.execute("create or replace temp view incoming as select * from exact_incoming")
    connection.unregister("exact_rows")


def _lines(stream: BinaryIO, rejects: list[Reject]) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        for number, line in enumerate(stream, 1):
            stripped = line.removeprefix(_BOM).strip()
            if not stripped:
                continue
            try:
                item = orjson.loads(stripped)
            except orjson.JSONDecodeError:
                rejects.append(Reject("resource", "unknown", f"line {number}", "malformed_json", "the line is not JSON"))
                continue
            yield f"line {number}", item
    except BAD_STREAM:
        place = f"after line {number}"
        rejects.append(Reject("resource", "unknown", place, "corrupt_gzip", "the packed file is damaged from here on"))


def _documents(stream: BinaryIO, rejects: list[Reject]) -> Iterator[tuple[str, Any]]:
    """The one document of the file; or several, one after another."""
    try:
        text = stream.read().removeprefix(_BOM)
    except BAD_STREAM:
        rejects.append(Reject("file", "fhir", "file", "corrupt_gzip", "the packed file is damaged"))
        return
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        yield from _one_after_another(text, f"line {error.lineno}", rejects)
        return
    if isinstance(document, list):
        for number, item in enumerate(document):
            yield f"[{number}]", item
    else:
        yield "", document


def _one_after_another(text: bytes, place: str, rejects: list[Reject]) -> Iterator[tuple[str, Any]]:
    found: list[Any] = []
    try:
        decoded, position = text.decode("utf-8"), 0
        decoder = json.JSONDecoder()
        while position < len(decoded):
            item, position = decoder.raw_decode(decoded, position)
            found.append(orjson.loads(orjson.dumps(item)))
            position += len(decoded[position:]) - len(decoded[position:].lstrip())
    except (ValueError, TypeError, RecursionError):
        rejects.append(Reject("file", "fhir", place, "malformed_json", "the document is not JSON"))
        return
    for number, item in enumerate(found, 1):
        yield f"document {number}", item


def _open_item(place: str, item: Any, rejects: list[Reject]) -> Iterator[Record]:
    """A resource as it is, a bundle's entries one by one, bundles within bundles too."""
    if not isinstance(item, dict):
        rejects.append(Reject("resource", "unknown", place or "document", "not_a_resource", "not a JSON object"))
    elif item.get("resourceType") != "Bundle":
        yield from _checked(place or "resource", item, None, rejects)
    elif not isinstance(item.get("entry") or [], list):
        rejects.append(Reject("resource", "Bundle", f"{place} entry".strip(), "bad_structure", "entry is not a list"))
    else:
        for position, entry in enumerate(item.get("entry") or []):
            yield from _open_entry(f"{place} entry[{position}]".strip(), entry, rejects)


def _open_entry(place: str, entry: Any, rejects: list[Reject]) -> Iterator[Record]:
    resource = entry.get("resource") if isinstance(entry, dict) else entry
    if entry is not None and (not isinstance(entry, dict) or not isinstance(resource, dict | None)):
        rejects.append(Reject("resource", "unknown", f"{place}.resource", "not_a_resource", "not a JSON object"))
    elif isinstance(resource, dict) and resource.get("resourceType") == "Bundle":
        yield from _open_item(f"{place}.resource", resource, rejects)
    else:
        yield from _checked(place, resource, entry, rejects)


def _checked(
    place: str, resource: dict[str, Any] | None, entry: dict[str, Any] | None, rejects: list[Reject]
) -> Iterator[Record]:
    kind = resource.get("resourceType") if resource else None
    if resource and kind in HANDLED_TYPES and (misfit := first_misfit(resource)):
        path = f"{place}.resource.{misfit}" if entry else f"{place}: {misfit}"
        rejects.append(Reject("resource", kind, path, "bad_structure", "a field has another shape than FHIR R4 gives it"))
        return
    if resource is not None and kind not in HANDLED_TYPES:
        resource = {"resourceType": kind if kind in resource_types() else str(kind) if kind is not None else None}
    request, response = _object(entry, "request"), _object(entry, "response")
    yield Record(
        place, allowed_part(resource) if resource is not None else None, _text(entry, "fullUrl"),
        _text(request, "method"), _text(request, "url"), _text(response, "lastModified"),
    )  # fmt: skip


def _object(holder: dict[str, Any] | None, name: str) -> dict[str, Any] | None:
    value = holder.get(name) if holder else None
    return value if isinstance(value, dict) else None


def _text(holder: dict[str, Any] | None, name: str) -> str | None:
    value = holder.get(name) if holder else None
    return value if isinstance(value, str) else None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
