"""How fast extracts come in, against a bare ``orjson.loads`` loop over the same files, in the same run.

`ingest` digests, compresses, encrypts, parses, cuts down and lands; the loop only parses, in one thread. Three kinds of
input: bundles of strangers (``../shared/data/fhir_bundles``, copied under new ids until there are enough), where most
resources are of types that Cuff ignores; the same resources as a Bulk Data export, a file of NDJSON for each type; and
NDJSON of blood pressures alone, where every line becomes a row.

    python -m bench ingest                  # or: python -m bench.ingest BUNDLES_MB LINES_MB EXPORT_MB
"""

import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from bench.result import Ratio
from core.errors import BuildError
from core.settings import PROJECT_ROOT, Settings
from ehr.ingest import ingest

BUNDLES = PROJECT_ROOT.parent / "shared" / "data" / "fhir_bundles"
GOAL = ">= 1.0"
_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOCAL = re.compile(rb"urn:uuid:([0-9a-f-]{36})")
_SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def write_bundles(folder: Path, megabytes: float) -> None:
    """Copies of the bundles with ids of their own."""
    folder.mkdir()
    sources = [path.read_bytes() for path in sorted(BUNDLES.glob("*.json"))]
    written, copy = 0, 0
    while written < megabytes * 1e6:
        for number, data in enumerate(sources):
            renamed = _renamed(data, copy)
            (folder / f"{copy:03}-{number:02}.json").write_bytes(renamed)
            written += len(renamed)
        copy += 1


def _renamed(data: bytes, copy: int) -> bytes:
    shift = copy * 0x01010101
    return _UUID.sub(lambda m: b"%08x" % (int(m[0][:8], 16) ^ shift) + m[0][8:], data)


def write_export(folder: Path, megabytes: float) -> None:
    """The bundles' resources as servers export them: a file for each type, a resource a line, references by type and id."""
    folder.mkdir()
    lines: dict[str, list[bytes]] = {}
    for path in sorted(BUNDLES.glob("*.json")):
        resources = [entry["resource"] for entry in orjson.loads(path.read_bytes())["entry"]]
        types = {found["id"].encode(): found["resourceType"].encode() for found in resources}
        for found in resources:
            line = _LOCAL.sub(lambda m, t=types: t.get(m[1], b"Resource") + b"/" + m[1], orjson.dumps(found))
            lines.setdefault(found["resourceType"], []).append(line + b"\n")
    blocks = {kind: b"".join(each) for kind, each in lines.items()}
    copies = round(megabytes * 1e6 / sum(map(len, blocks.values()))) or 1
    for kind, block in blocks.items():
        with open(folder / f"{kind}.ndjson", "wb") as out:
            out.writelines(_renamed(block, copy) for copy in range(copies))


def write_lines(folder: Path, megabytes: float) -> None:
    """Bulk Data style observations, one panel a line."""
    folder.mkdir()
    written, number = 0, 0
    with open(folder / "Observation.ndjson", "wb") as out:
        while written < megabytes * 1e6:
            line = orjson.dumps(_panel(number)) + b"\n"
            out.write(line)
            written, number = written + len(line), number + 1


def _panel(number: int) -> dict[str, object]:
    def part(code: str, value: float) -> dict[str, object]:
        return {"code": {"coding": [{"system": "http://loinc.org", "code": code, "display": "Blood pressure"}]},
                "valueQuantity": {"value": value, "unit": "mmHg", "system": "http://unitsofmeasure.org",
                                  "code": "mm[Hg]"}}  # fmt: skip

    return {
        "resourceType": "Observation", "id": f"o-{number}", "meta": {"lastUpdated": "2024-03-05T10:05:00+01:00"},
        "status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                                  "code": "vital-signs", "display": "Vital signs"}]}],
        "subject": {"reference": f"Patient/p-{number % 20000}"},
        "encounter": {"reference": f"Encounter/e-{number // 4}"},
        "effectiveDateTime": f"20{number % 20 + 10}-03-{number % 28 + 1:02}T10:00:00+01:00",
        "component": [part("8480-6", 110 + number % 70), part("8462-4", 60 + number % 40)],
    }  # fmt: skip


def parse_only(files: list[Path]) -> float:
    """Seconds of a bare loop, one thread."""
    started = time.perf_counter()
    for document in _documents(files):
        orjson.loads(document)
    return time.perf_counter() - started


def _documents(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        if file.suffix == ".ndjson":
            with open(file, "rb") as lines:
                yield from lines
        else:
            yield file.read_bytes()


def measure(name: str, folder: Path, var: Path) -> Ratio:
    """Loop and `ingest` over the same files; their MB/s, with the peak memory of the process so far."""
    files = sorted(folder.iterdir())
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    loop_seconds = parse_only(files)
    settings = Settings(_env_file=None, var=var, pseudonym_secret=_SECRET, vault_key=_SECRET,  # type: ignore[call-arg]
                        archive_key=_SECRET)  # type: ignore[arg-type]  # fmt: skip
    summary = ingest(settings, [folder])
    if not summary.balanced:
        raise BuildError(f"the ledger of '{name}' does not balance; its speed means nothing")
    rows = sum(line.accepted for line in summary.ledger if line.unit == "resource")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = f"{megabytes:.0f} MB, {rows} rows landed, peak memory {peak_mb:.0f} MB"
    return Ratio(name, megabytes / summary.seconds, megabytes / loop_seconds, "MB/s", "orjson.loads loop", GOAL, note)


def run(bundles_mb: float = 300, lines_mb: float = 300, export_mb: float = 300) -> list[Ratio]:
    """Each input once, after a small one that loads the libraries. Lines first, so that their peak is their own."""
    ratios = []
    with tempfile.TemporaryDirectory(prefix="cuff-bench-") as folder:
        room = Path(folder)
        write_lines(room / "warm", 0.1)
        measure("warm", room / "warm", room / "var-warm")
        if lines_mb:
            write_lines(room / "lines", lines_mb)
            ratios.append(measure("ingest NDJSON, every line a row", room / "lines", room / "var-lines"))
        if bundles_mb and BUNDLES.exists():
            write_bundles(room / "bundles", bundles_mb)
            ratios.append(measure("ingest bundles of strangers", room / "bundles", room / "var-bundles"))
        if export_mb and BUNDLES.exists():
            write_export(room / "export", export_mb)
            ratios.append(measure("ingest Bulk Data of all types", room / "export", room / "var-export"))
    return ratios


if __name__ == "__main__":
    for each in run(*map(float, sys.argv[1:])):
        print(f"{each.name}: {each.ours:.1f} MB/s, {each.peer_name} {each.peer:.1f} MB/s, ratio {each.ratio:.2f} "
              f"(goal {each.goal}); {each.note}")  # fmt: skip
