"""Files as a hospital lays them down: Bulk Data NDJSON, FHIR bundles, HL7 v2 batches; or the messages as it sends them."""

import gzip
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, cast

import orjson

from ehr.simulate.drift import Drift
from ehr.simulate.facts import Fact
from ehr.simulate.fhir_writer import Resource, broken_resource, drug_of, resource_of
from ehr.simulate.hl7v2_writer import broken_message, message_of
from ehr.simulate.message_spool import MessageSpool
from ehr.simulate.options import SimulationSummary
from ehr.simulate.routes import route_of
from ehr.simulate.world import Person

_ALONE = frozenset({"encounter", "cancel", "discharge", "note", "patient", "broken", "condition"})
_BATCH_HEAD = "FHS|^~\\&|SIMEHR|SIMHOSP\rBHS|^~\\&|SIMEHR|SIMHOSP\r"


class Extract:
    """An open extract: facts go in person by person; when it is closed, files lie under ``out``, and the messages lie
    there too or have gone to ``deliver``. Without ``out`` there are only messages."""

    def __init__(self, out: Path | None, drift: Drift, summary: SimulationSummary,
                 deliver: Callable[[Iterator[bytes], int], None] | None = None) -> None:
        if out is None and deliver is None:
            raise ValueError("an extract goes into a folder, over the wire, or both")
        self._folder, self._drift, self._summary, self._deliver = out, drift, summary, deliver
        self._ndjson: dict[str, BinaryIO] = {}
        self._hl7v2 = MessageSpool()
        self._stack = ExitStack()

    def __enter__(self) -> "Extract":
        for name in ("fhir", "bundles", "hl7v2") if self._folder else ():
            (self._out / name).mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._stack.close()
        if kind is not None:
            return
        if self._deliver is not None:
            self._deliver(self._hl7v2.in_order(), self._summary.messages)
        else:
            self._write_hl7v2()
        for path in sorted(self._out.rglob("*")) if self._folder else ():
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.is_file():
                self._summary.files += 1
                self._summary.size_bytes += path.stat().st_size

    @property
    def _out(self) -> Path:
        assert self._folder is not None, "without a folder nothing is written"
        return self._folder

    def write(self, person: Person, facts: list[Fact], registration: Fact | None) -> None:
        """Write what one person's facts of this window look like on each route.

        A bundle whose references point into it holds the patient, so it repeats the ``registration`` where it must.
        """
        by_route: dict[str, list[Fact]] = defaultdict(list)
        for fact in facts:
            by_route[route_of(person, fact)].append(fact)
        for group in _grouped(by_route["hl7v2"]):
            self._keep_message(person, group)
        if self._folder is None:
            return
        for fact in by_route["ndjson"]:
            self._write_lines(person, fact)
        if by_route["bundle"]:
            points_inside = any(fact.reference == "urn" for fact in by_route["bundle"])
            if registration and points_inside and registration not in by_route["bundle"]:
                by_route["bundle"].insert(0, registration)
            self._write_bundle(person, by_route["bundle"])

    def _resources(self, person: Person, fact: Fact) -> list[Resource]:
        """The resource that tells the fact, after the drug it refers to."""
        if fact.kind == "broken":
            self._count_broken("fhir_resources", fact)
            return [broken_resource(person, self._drift, fact)]
        resources = [resource_of(person, self._drift, fact)]
        if fact.kind == "medication" and fact.form == "referenced":
            resources.insert(0, drug_of(fact))
        for resource in resources:
            self._summary.add("fhir_resources", resource["resourceType"])
            if fact.is_duplicate:
                self._summary.add("duplicates", resource["resourceType"])
        return resources

    def _count_broken(self, kind: str, fact: Fact) -> None:
        self._summary.add(kind, "broken")
        self._summary.add("broken", f"{kind} {fact.form}")

    def _write_lines(self, person: Person, fact: Fact) -> None:
        for resource in self._resources(person, fact):
            line = orjson.dumps(resource)
            if fact.kind == "broken" and fact.form == "cut":
                line = line[:-9]
            self._file(resource["resourceType"]).write(line + b"\n")

    def _write_bundle(self, person: Person, facts: list[Fact]) -> None:
        kind = "transaction" if person.index % 2 else "collection"
        entries = []
        for resource in (each for fact in facts for each in self._resources(person, fact)):
            entry: Resource = {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}
            if kind == "transaction":
                entry["request"] = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
            entries.append(entry)
        path = self._out / "bundles" / f"{person.fhir_id}.json"
        path.write_bytes(orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}))

    def _keep_message(self, person: Person, facts: list[Fact]) -> None:
        if facts[0].kind == "broken":
            self._count_broken("hl7v2_messages", facts[0])
            self._hl7v2.add(facts[0].sent_at, broken_message(person, facts[0]))
            return
        kind, message = message_of(person, self._drift, facts)
        self._summary.add("hl7v2_messages", kind)
        if facts[0].is_duplicate:
            self._summary.add("duplicates", kind)
        if facts[0].kind == "patient" and facts[0].values[0] == "replaced":
            self._summary.add("merges", kind)
        self._hl7v2.add(facts[0].sent_at, message)

    def _write_hl7v2(self, messages_per_file: int = 5000) -> None:
        messages = self._hl7v2.in_order()
        for number in count():
            batch = list(islice(messages, messages_per_file))
            if not batch:
                break
            body = b"".join(batch)
            tail = f"BTS|{len(batch)}\rFTS|1\r".encode()
            (self._out / "hl7v2" / f"batch-{number:04d}.hl7").write_bytes(_BATCH_HEAD.encode() + body + tail)

    def _file(self, resource_type: str) -> BinaryIO:
        if resource_type not in self._ndjson:
            path = self._out / "fhir" / f"{resource_type}.ndjson"
            if resource_type in ("Encounter", "MedicationRequest"):
                raw = self._stack.enter_context(path.with_suffix(".ndjson.gz").open("wb"))
                # No name and no time in the header: the same bytes for the same world.
                packed = gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=3, mtime=0)
                self._ndjson[resource_type] = cast(BinaryIO, self._stack.enter_context(packed))
            else:
                self._ndjson[resource_type] = self._stack.enter_context(path.open("wb"))
        return self._ndjson[resource_type]


def _grouped(facts: list[Fact]) -> Iterator[list[Fact]]:
    """Facts that share a message: one visit's measurements of one group, version and sending."""
    groups: dict[tuple[object, ...], list[Fact]] = defaultdict(list)
    for fact in facts:
        alone = fact.kind in _ALONE
        groups[
            (
                *(fact.visit, fact.group, fact.version, fact.status, fact.sent_at, fact.is_duplicate),
                (fact.id, fact.kind) if alone else "",
            )
        ].append(fact)
    yield from groups.values()
