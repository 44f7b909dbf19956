"""Why a FHIR resource is quarantined, in words for whoever mends it."""

_DETAILS = {
    "no_resource_type": "the resource does not say what it is",
    "unknown_resource_type": "not a resource type of FHIR R4",
    "no_subject": "the resource does not say whose it is",
    "unresolvable_reference": "the reference leads to nothing that a key can be made of",
    "no_id": "neither an id nor a record number nor a place in a bundle to know it by",
    "no_time": "neither effective[x] nor issued",
    "bad_date": "not a FHIR date or time",
    "unknown_record": "a record is deleted that was never received",
    "no_code": "no coding in the shape of a code; text alone is not read",
}


def detail_of(reason_code: str) -> str:
    return _DETAILS[reason_code]
