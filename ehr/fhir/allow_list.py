"""The allow-list of FHIR fields, as the reader's schema and as the shape that the exact reader checks."""

import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

_FILE = Path(__file__).resolve().parent.parent / "allow_list.toml"
_TYPES_FILE = Path(__file__).resolve().parent / "resource_types.txt"
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")

HANDLED_TYPES = (
    "Patient", "Encounter", "Observation", "Condition", "MedicationRequest", "MedicationStatement", "Medication",
)  # fmt: skip


@lru_cache(maxsize=1)
def declared_fields() -> dict[str, str]:
    """Field name to DuckDB type, of every field that may pass."""
    return {name: entry["type"] for name, entry in tomllib.loads(_FILE.read_text())["fhir"].items()}


@lru_cache(maxsize=1)
def resource_types() -> tuple[str, ...]:
    """The resource types of FHIR R4. A type outside this list may be anything, a name too, and is not repeated."""
    return tuple(_TYPES_FILE.read_text().split())


def resource_struct() -> str:
    """The allow-list as one DuckDB struct type."""
    return "struct(" + ", ".join(f'"{name}" {kind}' for name, kind in declared_fields().items()) + ")"


def first_misfit(resource: dict[str, Any]) -> str | None:
    """The JSON path of the first allow-listed field whose shape the reader's schema refuses, or None."""
    for name, kind in _shapes().items():
        path = _misfit(resource.get(name), kind, name)
        if path is not None:
            return path
    return None


def allowed_part(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without any top-level field that is not on the list."""
    return {name: resource[name] for name in declared_fields() if name in resource}


@lru_cache(maxsize=1)
def _shapes() -> dict[str, Any]:
    return {name: _shape(duckdb.sqltype(kind)) for name, kind in declared_fields().items()}


def _shape(kind: Any) -> Any:
    """dict of children, one-element list, 'number', 'boolean', or None for text and JSON, which take anything."""
    if kind.id == "struct":
        return {name: _shape(child) for name, child in kind.children}
    if kind.id == "list":
        return [_shape(kind.children[0][1])]
    return {"double": "number", "boolean": "boolean"}.get(kind.id)


def _misfit(value: Any, shape: Any, path: str) -> str | None:
    if value is None or shape is None:
        return None
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return path
        found = (_misfit(value.get(name), child, f"{path}.{name}") for name, child in shape.items())
        return next((misfit for misfit in found if misfit), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return path
        found = (_misfit(item, shape[0], f"{path}[{i}]") for i, item in enumerate(value))
        return next((misfit for misfit in found if misfit), None)
    return None if _casts(value, shape) else path


def _casts(value: Any, shape: str) -> bool:
    """What DuckDB's reader casts without a word: numbers and booleans into each other, and both out of text."""
    if isinstance(value, bool | int | float):
        return True
    if shape == "boolean":
        return value in ("true", "false")
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None
