"""Looks for words in everything below a folder, also where they are packed: Parquet, SQLite, archives, the lake."""

import gzip
import io
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb

from core.lake import read_lake
from core.settings import Settings


def found_in(texts: Iterable[tuple[str, bytes]], words: Iterable[str]) -> dict[str, int]:
    """Where any of the words appears, whatever its case, and how many of them do. The words themselves stay unsaid."""
    needles = [word.lower().encode() for word in words]
    numbers = {where: sum(needle in text.lower() for needle in needles) for where, text in texts}
    return {where: number for where, number in numbers.items() if number}


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each path, each file's bytes, and what the bytes hold when they are unpacked."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        yield f"path {name}", name.encode()
        if path.is_file():
            content = path.read_bytes()
            yield name, content
            for inner in _unpacked(path, content):
                yield f"{name}, unpacked", inner


def lake_tables(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """Every table of both catalogs, decrypted, as text."""
    with read_lake(settings) as lake:
        tables = lake.execute("select database_name, schema_name, table_name from duckdb_tables()").fetchall()
        for name in (".".join(f'"{part}"' for part in table) for table in tables):
            rows = lake.sql(f"select cast(t as varchar) from {name} as t").fetchall()
            yield name, "\n".join(row[0] for row in rows).encode()


def _unpacked(path: Path, content: bytes) -> Iterator[bytes]:
    if content.startswith(b"PAR1"):
        with duckdb.connect() as connection:
            rows = connection.execute("select cast(t as varchar) from read_parquet($1) as t", [str(path)]).fetchall()
        yield "\n".join(row[0] for row in rows).encode()
    elif content.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(path)) as connection:
            yield "\n".join(connection.iterdump()).encode()
    elif content.startswith(b"\x1f\x8b"):
        yield gzip.decompress(content)
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in packed.namelist():
                yield name.encode() + packed.read(name)
