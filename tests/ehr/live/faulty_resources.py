"""Bodies that are refused as a whole, and for which reason."""

FAULTY = [
    (b'{"resourceType": "Patient", "id": ', "malformed_json"), (b"\xff\xfe{", "malformed_json"),
    (b"<Patient/>", "malformed_json"), (b"[1]", "not_a_resource"), (b'"Patient"', "not_a_resource"),
    (b"{}", "no_resource_type"),
    (b'{"resourceType": null}', "no_resource_type"), (b'{"resourceType": "Patent"}', "unknown_resource_type"),
    (b'{"resourceType": ["Patient"]}', "unknown_resource_type"),
    (b'{"resourceType": "Bundle", "entry": {"resource": {}}}', "bad_structure"),
    (b'{"resourceType": "Observation", "id": "s", "subject": "Patient/1"}', "bad_structure"),
]  # fmt: skip
