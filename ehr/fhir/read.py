"""FHIR files into `incoming`: one row per resource, with only the fields of the allow-list.

The quick way hands whole files to DuckDB's JSON reader with the declared schema, which is allow-list and parser in one.
A file that it refuses (a broken line, a field of another shape) is walked record by record: what is well-formed goes on
through the same schema, the rest is rejected with its place.
"""

import gzip
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb
import orjson
from duckdb import DuckDBPyConnection

from ehr.records import Reject

_ALLOW_LIST = Path(__file__).resolve().parent.parent / "allow_list.toml"
_MAX_OBJECT_BYTES = 256 << 20
_RECORDS_AT_A_TIME = 10_000


@dataclass
class FhirFile:
    """A plain (or gzipped) FHIR file and the payload it belongs to; ``rejects`` fills up while it is read."""

    path: Path
    payload_id: str
    source_id: str
    rejects: list[Reject] = field(default_factory=list)


@lru_cache(maxsize=1)
def declared_fields() -> dict[str, str]:
    """Field name to DuckDB type, of every field that may pass."""
    return {name: entry["type"] for name, entry in tomllib.loads(_ALLOW_LIST.read_text())["fhir"].items()}


def resource_type_sql() -> str:
    """The allow-list as one DuckDB struct type."""
    return "struct(" + ", ".join(f'"{name}" {kind}' for name, kind in declared_fields().items()) + ")"


def prepare_incoming(connection: DuckDBPyConnection) -> None:
    connection.execute(
        "create or replace temp sequence record_number; create or replace temp table incoming_records "
        "(n bigint default nextval('record_number'), payload_id varchar, "
        f"locator varchar, full_url varchar, method varchar, r {resource_type_sql()})"
    )


def read_files(connection: DuckDBPyConnection, files: list[FhirFile]) -> None:
    """Append every resource of ``files`` to ``incoming_records``; what is broken goes to each file's ``rejects``."""
    lines = [file for file in files if _is_ndjson(file.path)]
    documents = [file for file in files if file not in lines]
    for file in lines:
        _try_quick(connection, [file], _read_lines)
    if documents:
        _try_quick(connection, documents, _read_documents)


def _try_quick(connection: DuckDBPyConnection, files: list[FhirFile], read: Any) -> None:
    try:
        read(connection, files)
    except duckdb.Error:
        if len(files) > 1:
            for file in files:
                _try_quick(connection, [file], read)
        else:
            _read_exactly(connection, files[0])


def _is_ndjson(path: Path) -> bool:
    """Whether the first line is a whole JSON object and another line follows."""
    with _open(path) as file:
        try:
            first = file.readline(_MAX_OBJECT_BYTES).removeprefix(b"\xef\xbb\xbf").strip()
            follows = file.readline().strip()
        except (OSError, EOFError):
            return False
    return first.startswith(b"{") and first.endswith(b"}") and follows.startswith(b"{")


def _open(path: Path) -> Any:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")


def _reader(file_list: str, columns: dict[str, str], json_format: str, compression: str) -> str:
    declared = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items()) + "}"
    return (
        f"read_json({file_list}, columns = {declared}, format = '{json_format}', compression = '{compression}', "
        f"maximum_object_size = {_MAX_OBJECT_BYTES}, filename = true)"
    )


def _compression(path: Path) -> str:
    with open(path, "rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else "uncompressed"


def _read_lines(connection: DuckDBPyConnection, files: list[FhirFile]) -> None:
    (file,) = files
    columns = dict(declared_fields())
    packed = "{" + ", ".join(f"'{name}': \"{name}\"" for name in columns) + "}"
    source = _reader("[$path]", columns, "newline_delimited", _compression(file.path))
    connection.execute("set preserve_insertion_order = true")
    try:
        connection.execute(
            f"""
            insert into incoming_records (payload_id, locator, full_url, method, r)
            select $payload_id, 'record ' || row_number() over (), null, null, {packed}
            from {source}
            """,
            {"payload_id": file.payload_id, "path": str(file.path)},
        )
    finally:
        connection.execute("set preserve_insertion_order = false")


def _read_documents(connection: DuckDBPyConnection, files: list[FhirFile]) -> None:
    """Bundles and single resources, many files in one pass."""
    fields = declared_fields()
    packed = "{" + ", ".join(f"'{name}': \"{name}\"" for name in fields) + "}"
    entry = f'struct("fullUrl" varchar, request struct("method" varchar), resource {resource_type_sql()})[]'
    connection.execute("create or replace temp table reading (path varchar, payload_id varchar)")
    connection.executemany("insert into reading values ($1, $2)", [[str(f.path), f.payload_id] for f in files])
    for compression in ("uncompressed", "gzip"):
        paths = [str(file.path) for file in files if _compression(file.path) == compression]
        if not paths:
            continue
        source = _reader("$paths", fields | {"entry": entry.replace("'", "''")}, "unstructured", compression)
        connection.execute(
            f"""
            create or replace temp table documents as
            select reading.payload_id, "resourceType" = 'Bundle' as is_bundle, entry, {packed} as r
            from {source} as found
            join reading on found.filename = reading.path
            """,
            {"paths": paths},
        )
        connection.execute(
            """
            insert into incoming_records (payload_id, locator, full_url, method, r)
            select payload_id, 'entry[' || position || ']', element."fullUrl", element.request.method, element.resource
            from (
                select payload_id, generate_subscripts(entry, 1) - 1 as position, unnest(entry) as element
                from documents where is_bundle
            )
            where element.resource is not null or element.request.method is not null;
            insert into incoming_records (payload_id, locator, full_url, method, r)
            select payload_id, 'resource ' || row_number() over (partition by payload_id), null, null, r
            from documents where is_bundle is distinct from true
            """
        )
    connection.execute("drop table if exists documents")


def _read_exactly(connection: DuckDBPyConnection, file: FhirFile) -> None:
    """Record by record, in bounded memory where the file is NDJSON."""
    import pyarrow as pa

    records = _records(file)
    while chunk := list(islice(records, _RECORDS_AT_A_TIME)):
        rows = pa.table(
            {name: pa.array([row[i] for row in chunk], pa.string())
             for i, name in enumerate(("locator", "full_url", "method", "doc"))}
        )
        connection.register("text_rows", rows)
        structure = orjson.dumps(_as_json_structure()).decode().replace("'", "''")
        connection.execute(
            f"""
            insert into incoming_records (payload_id, locator, full_url, method, r)
            select $payload_id, locator, full_url, method, cast(from_json(doc, '{structure}') as {resource_type_sql()})
            from text_rows
            """,
            {"payload_id": file.payload_id},
        )
        connection.unregister("text_rows")


@lru_cache(maxsize=1)
def _as_json_structure() -> dict[str, str]:
    return dict(declared_fields())


def _records(file: FhirFile) -> Iterator[tuple[str, str | None, str | None, str]]:
    """(locator, full_url, method, JSON text) of every well-formed resource; the others become rejects."""
    if _is_ndjson(file.path):
        with _open(file.path) as lines:
            yield from _line_records(file, lines)
        return
    try:
        with _open(file.path) as opened:
            text = opened.read().removeprefix(b"\xef\xbb\xbf")
        document = orjson.loads(text)
    except (orjson.JSONDecodeError, OSError, EOFError) as error:
        lines_of = text.splitlines() if isinstance(error, orjson.JSONDecodeError) else []
        if len(lines_of) > 1 and lines_of[0].strip().endswith(b"}"):
            yield from _line_records(file, iter(lines_of))
        else:
            place = f"line {error.lineno}" if isinstance(error, orjson.JSONDecodeError) else "file"
            file.rejects.append(Reject("resource", "unknown", place, "malformed_json", "the document is not JSON"))
        return
    top = document if isinstance(document, list) else [document]
    for number, item in enumerate(top):
        yield from _document_records(file, f"resource {number + 1}", item)


def _line_records(file: FhirFile, lines: Any) -> Iterator[tuple[str, str | None, str | None, str]]:
    for number, line in enumerate(lines, 1):
        stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not stripped:
            continue
        try:
            item = orjson.loads(stripped)
        except orjson.JSONDecodeError:
            file.rejects.append(Reject("resource", "unknown", f"line {number}", "malformed_json", "not JSON"))
            continue
        yield from _document_records(file, f"line {number}", item)


def _document_records(
    file: FhirFile, place: str, item: object
) -> Iterator[tuple[str, str | None, str | None, str]]:
    if not isinstance(item, dict):
        file.rejects.append(Reject("resource", "unknown", place, "not_a_resource", "not a JSON object"))
    elif item.get("resourceType") == "Bundle" and isinstance(item.get("entry", []), list):
        for position, entry in enumerate(item.get("entry", [])):
            inside = entry.get("resource") if isinstance(entry, dict) else None
            if isinstance(inside, dict):
                request = entry.get("request")
                method = request.get("method") if isinstance(request, dict) else None
                url = entry.get("fullUrl")
                yield (f"entry[{position}]", url if isinstance(url, str) else None,
                       method if isinstance(method, str) else None, orjson.dumps(inside).decode())
            else:
                file.rejects.append(
                    Reject("resource", "unknown", f"entry[{position}].resource", "not_a_resource", "no JSON object"))
    else:
        yield place, None, None, orjson.dumps(item).decode()
