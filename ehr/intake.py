"""Payloads in: found, told apart by their bytes, archived and written down before anything else happens to them."""

import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from core.errors import InputError
from core.keys import key_bytes, seal
from core.settings import Settings
from core.store import LedgerEntry, Payload, store_session
from ehr.archive import archive_file, digest_file
from ehr.sources import DEFAULT_SOURCE, Source

_PEEK_BYTES = 4096
_HL7_HEADS = (b"MSH", b"FHS", b"BHS", b"\x0bMSH")


@dataclass(frozen=True)
class Arrival:
    """A payload that waits to be landed, and where its plain bytes lie (None: only in the archive)."""

    payload: Payload
    path: Path | None


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Every file under ``paths``, sorted. Errors: `InputError` for a path that is absent or holds no file."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"'{path}' does not exist; give a file or a folder that does")
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        found += [file for file in files if not file.name.startswith(".")]
    if not found:
        raise InputError("no file was found under the given paths; give a folder with FHIR or HL7 v2 files")
    return found


def sniff_format(path: Path) -> str:
    """``fhir``, ``hl7v2`` or ``unknown``, by the first bytes; the name is never asked."""
    head = _peek(path).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"{", b"[")):
        return "fhir"
    if head.startswith(_HL7_HEADS):
        return "hl7v2"
    return "unknown"


def _peek(path: Path) -> bytes:
    with open(path, "rb") as file:
        head = file.read(_PEEK_BYTES)
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path, "rb") as packed:
                return packed.read(_PEEK_BYTES)
        except (OSError, EOFError):
            return b""
    return head


def source_of(path: Path, sources: dict[str, Source]) -> Source:
    """The first source whose globs match the path, else ``default``."""
    for source in sources.values():
        if any(path.absolute().match(pattern) or _contains(path, pattern) for pattern in source.path_globs):
            return source
    return sources[DEFAULT_SOURCE]


def _contains(path: Path, pattern: str) -> bool:
    """``**/name/**`` in the sense of a folder called ``name`` anywhere above the file."""
    return pattern.startswith("**/") and pattern.endswith("/**") and pattern[3:-3] in path.absolute().parts


def receive(
    settings: Settings, files: Sequence[Path], sources: dict[str, Source], source_id: str | None, as_of: date
) -> Iterator[Arrival | None]:
    """Archive and register each file; None for one that was received before (its ledger entry is written)."""
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    for file in files:
        payload_id = digest_file(file)
        source = sources[source_id] if source_id else source_of(file, sources)
        with store_session(settings) as session:
            known = session.get(Payload, payload_id)
            if known is not None and known.state != "received":
                session.add(
                    LedgerEntry(payload_id=payload_id, source_id=known.source_id, unit="file", type=known.format,
                                received=1, duplicate=1)
                )
                yield None
                continue
        if known is not None:
            yield Arrival(known, file)
            continue
        archive_name = archive_file(settings, file, payload_id)
        payload = Payload(
            payload_id=payload_id, source_id=source.source_id, format=sniff_format(file), as_of=as_of,
            name_sealed=seal(key, file.name.encode(), payload_id), size_bytes=file.stat().st_size,
            archive_name=archive_name,
        )
        with store_session(settings) as session:
            session.add(payload)
        yield Arrival(payload, file)


def left_over(settings: Settings, known: set[str]) -> list[Arrival]:
    """Payloads that an earlier run received and did not land, other than ``known``."""
    from sqlalchemy import select

    with store_session(settings) as session:
        waiting = session.scalars(select(Payload).where(Payload.state == "received").order_by(Payload.received_at))
        return [Arrival(payload, None) for payload in waiting if payload.payload_id not in known]
