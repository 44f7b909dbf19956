"""Reading an extract back without any of the pipeline's code."""

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import orjson


def ndjson_lines(out: Path) -> list[bytes]:
    lines: list[bytes] = []
    for path in sorted(out.glob("fhir/*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines += data.splitlines()
    return lines


def bundle_entries(out: Path) -> list[dict[str, Any]]:
    return [entry for path in sorted(out.glob("bundles/*")) for entry in orjson.loads(path.read_bytes())["entry"]]


def messages(out: Path) -> list[bytes]:
    found = []
    for path in sorted(out.glob("hl7v2/*")):
        found += [b"MSH|" + part.split(b"\rBTS|")[0] for part in path.read_bytes().split(b"\rMSH|")[1:]]
    return found


def units(out: Path) -> Counter[bytes]:
    """Every line, bundle entry and message of an extract, with how often it is there."""
    return Counter([*ndjson_lines(out), *map(orjson.dumps, bundle_entries(out)), *messages(out)])
