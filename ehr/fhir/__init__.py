"""FHIR R4 JSON: read with a declared schema in DuckDB, checked, and cut down to landing rows in SQL."""
