"""The quick way in: whole files through DuckDB's JSON reader, with the declared schema as allow-list and parser in one.

Each function leaves a relation ``incoming``, one row per resource, and names the files that must go the exact way. It
raises ``duckdb.Error`` where the reader refuses a file; the message may quote a value and is never repeated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duckdb import DuckDBPyConnection

from ehr.fhir.allow_list import declared_fields, resource_struct
from ehr.fhir.exact import open_plain

_BLOCK_BYTES = 1 << 20

_ENTRY = (
    'struct("fullUrl" varchar, request struct("method" varchar, url varchar), '
    'response struct("lastModified" varchar), resource {resource})[]'
)


@dataclass(frozen=True)
class QuickFile:
    """A file as the reader sees it. ``line_count`` is null for a document."""

    file_no: int
    path: Path
    is_gzip: bool
    size_bytes: int
    line_count: int | None


def can_read_quickly(path: Path) -> bool:
    """DuckDB would take these characters for a pattern."""
    return not set(str(path)) & set("*?[]{}")


def read_lines(connection: DuckDBPyConnection, files: Sequence[QuickFile], longest_bytes: int) -> set[int]:
    """NDJSON files of one compression into ``incoming``; returns the file numbers that need the exact reader."""
    columns = declared_fields()
    _name_files(connection, files)
    connection.execute("set preserve_insertion_order = true")  # the row's number is the line's
    connection.execute(
        f"create or replace temp table lines as select * from {_reader(files, columns, 'newline_delimited', longest_bytes)}"
    )
    connection.execute("set preserve_insertion_order = false")
    connection.execute(
        """
        create or replace temp table line_files as
        select reading.file_no, lines.filename, min(lines.rowid) as first_row, count(*) as records,
            bool_or(lines."resourceType" = 'Bundle') as has_bundles
        from lines
        join reading on lines.filename = reading.path
        group by all
        """
    )
    fields = ", ".join(f'lines."{name}"' for name in columns)
    connection.execute(
        f"""
        create or replace temp view incoming as
        select line_files.file_no, lines.rowid - line_files.first_row + 1 as place,
            'line ' || (lines.rowid - line_files.first_row + 1) as locator, cast(null as varchar) as full_url,
            cast(null as varchar) as method, cast(null as varchar) as url, cast(null as varchar) as last_modified,
            false as is_empty, {fields}
        from lines
        join line_files on lines.filename = line_files.filename
        where line_files.file_no not in (select file_no from set_aside)
        """
    )
    counted = {file.file_no: file.line_count for file in files}
    found = connection.execute("select file_no, records, has_bundles from line_files").fetchall()
    # Blank lines would shift every line number; bundles want to be opened.
    aside = {file_no for file_no, records, bundles in found if bundles or records != counted[file_no]}
    _set_aside(connection, aside)
    return aside


def read_documents(connection: DuckDBPyConnection, files: Sequence[QuickFile], longest_bytes: int) -> set[int]:
    """Bundles and single resources of one compression into ``incoming``; returns the files for the exact reader."""
    fields = declared_fields()
    alone = ", ".join(f"'{name}': \"{name}\"" for name in fields)
    columns = fields | {"entry": _ENTRY.format(resource=resource_struct())}
    _name_files(connection, files)
    connection.execute(
        f"""
        create or replace temp table document_rows as
        with opened as (
            select reading.file_no, "resourceType" = 'Bundle' as is_bundle,
                case
                    when "resourceType" = 'Bundle' then entry
                    else [{{'fullUrl': null, 'request': null, 'response': null, 'resource': {{{alone}}}}}]
                end as items
            from {_reader(files, columns, "unstructured", longest_bytes)} as found
            join reading on found.filename = reading.path
        ),

        placed as (
            select file_no, is_bundle, generate_subscripts(items, 1) - 1 as place, unnest(items) as item from opened
        )

        select file_no, is_bundle, place, item."fullUrl" as full_url, item.request."method" as method,
            item.request.url as url, item.response."lastModified" as last_modified, item.resource is null as is_empty,
            unnest(item.resource)
        from placed
        """
    )
    connection.execute(
        """
        create or replace temp view incoming as
        select *, if(is_bundle, 'entry[' || place || ']', 'resource') as locator
        from document_rows
        where file_no not in (select file_no from set_aside)
        """
    )
    # Bundles within bundles, and several documents in one file, have places that only a walk can tell.
    found = connection.execute(
        """
        select file_no from document_rows
        group by file_no
        having bool_or("resourceType" = 'Bundle') or count(*) filter (place = 0) > 1
        """
    ).fetchall()
    aside = {row[0] for row in found}
    _set_aside(connection, aside)
    return aside


def _name_files(connection: DuckDBPyConnection, files: Sequence[QuickFile]) -> None:
    connection.execute("create or replace temp table set_aside (file_no bigint)")
    connection.execute("create or replace temp table reading (path varchar, file_no bigint)")
    columns = [[str(file.path) for file in files], [file.file_no for file in files]]
    connection.execute("insert into reading select unnest($1), unnest($2)", columns)


def _set_aside(connection: DuckDBPyConnection, aside: set[int]) -> None:
    connection.execute("insert into set_aside select unnest($1::bigint[])", [list(aside)])


def _reader(files: Sequence[QuickFile], columns: dict[str, str], json_format: str, longest_bytes: int) -> str:
    declared = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items()) + "}"
    paths = ", ".join("'" + str(file.path).replace("'", "''") + "'" for file in files)
    compression = "gzip" if files[0].is_gzip else "uncompressed"
    return (
        f"read_json([{paths}], columns = {declared}, format = '{json_format}', compression = '{compression}', "
        f"maximum_object_size = {longest_bytes}, filename = true)"
    )


def count_lines(path: Path) -> int:
    """Lines of a file up to the last that holds something."""
    lines, white, seen = 0, 0, False
    with open(path, "rb") as packed, open_plain(packed) as plain:
        while block := plain.read(_BLOCK_BYTES):
            held = block.rstrip()
            if held:
                lines += white + held.count(b"\n")
                white, seen = 0, True
            white += block[len(held):].count(b"\n")
    return lines + seen
