"""What the door makes of a FHIR body before it is stored: its type, its person, and the fault that keeps all of it out.

The faults are the reader's own (`ehr.fhir.exact`). What is inside a bundle is judged on landing, entry by entry.
"""

import logging
from typing import Any

import orjson

from core.keys import pseudonym
from ehr.fhir.allow_list import HANDLED_TYPES, first_misfit, resource_types
from ehr.fhir.reasons import detail_of
from ehr.live.inbox import Received
from ehr.records import Reject
from ehr.sources import Source

logger = logging.getLogger("cuff.live")
_BOM = b"\xef\xbb\xbf"
_MOST_ENTRIES = 50  # of a bundle, looked at for its person


def judge_resource(body: bytes, source: Source, feed: str = "http", pseudonym_key: bytes | None = None) -> Received:
    """A resource, a bundle or a notification. With ``pseudonym_key`` those of one person have one partition."""
    kind, partition_key = "unknown", None
    reject: Reject | None
    try:
        document = orjson.loads(body.removeprefix(_BOM))
        kind = _kind(document)
        reject = _fault(document, kind)
        if pseudonym_key is not None and reject is None and (person := _person(document)):
            partition_key = pseudonym(pseudonym_key, "fhir_partition", source.source_id, person)
    except orjson.JSONDecodeError:
        reject = Reject("resource", kind, "document", "malformed_json", "the document is not JSON")
    except Exception as error:  # a fault of ours: the client would send it again for ever
        logger.error("the check ended with %s on a resource of %d bytes", type(error).__name__, len(body))
        reject = Reject("resource", kind, "document", "reader_failed", f"the check ended with {type(error).__name__}")
    return Received(body, "fhir", source.source_id, feed, "resource", kind, partition_key=partition_key, reject=reject)


def _kind(document: Any) -> str:
    named = document.get("resourceType") if isinstance(document, dict) else None
    return named if isinstance(named, str) and named in resource_types() else "unknown"


def _fault(document: Any, kind: str) -> Reject | None:
    if not isinstance(document, dict):
        return Reject("resource", kind, "document", "not_a_resource", "not a JSON object")
    if kind == "unknown":
        reason = "no_resource_type" if document.get("resourceType") is None else "unknown_resource_type"
        return Reject("resource", kind, "resource", reason, detail_of(reason))
    if kind == "Bundle" and not isinstance(document.get("entry") or [], list):
        return Reject("resource", kind, "entry", "bad_structure", "entry is not a list")
    if kind in HANDLED_TYPES and (misfit := first_misfit(document)):
        detail = "a field has another shape than FHIR R4 gives it"
        return Reject("resource", kind, f"resource: {misfit}", "bad_structure", detail)
    return None


def _person(document: Any, is_entry: bool = False) -> str | None:
    """``Patient/id`` of whom it is about; of a bundle the first that is found."""
    if not isinstance(document, dict):
        return None
    if document.get("resourceType") == "Bundle" and not is_entry:
        entries = (document.get("entry") or [])[:_MOST_ENTRIES]
        inside = (_person(entry.get("resource"), is_entry=True) for entry in entries if isinstance(entry, dict))
        return next((person for person in inside if person), None)
    if document.get("resourceType") == "Patient":
        return f"Patient/{document['id']}" if isinstance(document.get("id"), str) else None
    named = document.get("subject") or document.get("patient")
    reference = named.get("reference") if isinstance(named, dict) else None
    parts = reference.partition("/_history/")[0].split("/") if isinstance(reference, str) else []
    return f"Patient/{parts[-1]}" if parts[-2:-1] == ["Patient"] else None
