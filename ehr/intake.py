"""Payloads in: found, told apart by their bytes, archived and written down before anything else happens to them."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.errors import InputError
from core.feed_tables import InboxEntry
from core.keys import key_bytes, seal
from core.settings import Settings
from core.store import Payload, store_session
from ehr.archive import Archived, archive_file, open_archived
from ehr.feed_hours import count_files
from ehr.sources import DEFAULT_SOURCE, Source

_PEEK_BYTES = 4096
_HL7_HEADS = (b"MSH", b"FHS", b"BHS", b"\x0bMSH")
_GROUP_BYTES = 512 << 20
_FILES_IN_A_GROUP = 5000
_IDS_AT_A_TIME = 500  # SQLite takes 999 parameters where it is old
LIVE = "inbox"  # `Payload.archive_name` of what arrived live


@dataclass(frozen=True)
class Delivered:
    """A file that has reached the archive, before it is known whether it was there already."""

    path: Path
    archived: Archived
    format: str


@dataclass(frozen=True)
class Arrival:
    """A payload that waits to be landed. ``delivered`` is None where only the archive has its bytes."""

    settings: Settings
    payload: Payload
    delivered: Delivered | None = None

    @property
    def path(self) -> Path | None:
        """Where the plain bytes lie, as long as the file is the one that was archived."""
        return self.delivered.path if self.delivered is not None and not self.has_changed() else None

    def has_changed(self) -> bool:
        """Whether the delivered file is no longer what was archived."""
        if self.delivered is None:
            return False
        try:
            found = self.delivered.path.stat()
        except OSError:
            return True
        archived = self.delivered.archived
        return (found.st_size, found.st_mtime_ns) != (archived.size_bytes, archived.modified_ns)

    def open(self) -> BinaryIO:
        """The bytes as a stream out of the archive, or out of the inbox."""
        if is_live(self.payload):
            from ehr.live.inbox import read_content  # the inbox builds on this module

            return BytesIO(read_content(self.settings, self.payload.payload_id))
        return open_archived(self.settings, self.payload.archive_name, self.payload.payload_id)

    def read_bytes(self) -> bytes:
        """All bytes at once, for formats whose files are small."""
        if self.path is not None:
            data = self.path.read_bytes()
            if hashlib.sha256(data).hexdigest() == self.payload.payload_id:
                return data
        with self.open() as stream:
            return stream.read()


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Every file under ``paths``, sorted, each once. Errors: `InputError` for a path that is absent or holds no file."""
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"'{path}' does not exist; give a file or a folder that does")
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        found += [file for file in files if not file.name.startswith(".")]
    if not found:
        raise InputError("no file was found under the given paths; give a folder with FHIR or HL7 v2 files")
    return list({file.absolute(): file for file in found}.values())


def in_groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files in groups to be read together: large ones, since each costs a round of planning."""
    group: list[Path] = []
    held = 0
    for file in files:
        group.append(file)
        held += file.stat().st_size
        if held >= _GROUP_BYTES or len(group) >= _FILES_IN_A_GROUP:
            yield group
            group, held = [], 0
    if group:
        yield group


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
        except (OSError, EOFError, zlib.error):
            return b""
    return head


def deliver(settings: Settings, path: Path) -> Delivered:
    """Archive one file. Errors: ``OSError`` when it cannot be read."""
    return Delivered(path, archive_file(settings, path), sniff_format(path))


def source_of(path: Path, sources: dict[str, Source]) -> Source:
    """The first source whose globs match the path, else ``default``."""
    for source in sources.values():
        if any(fnmatch(str(path.absolute()), pattern) for pattern in source.path_globs):
            return source
    return sources[DEFAULT_SOURCE]


def register(
    settings: Settings, delivered: Sequence[Delivered], sources: dict[str, Source], source_id: str | None, as_of: date
) -> tuple[list[Arrival], list[Payload]]:
    """Write a group of deliveries down in one transaction: (what waits to be landed, what was received before).

    Each new payload is entered in the inbox, in the order of ``delivered``. What arrived live stays the consumer's.
    """
    try:
        return _register(settings, delivered, sources, source_id, as_of)
    except IntegrityError:  # the same bytes came in over the wire at this very moment; now they are known
        return _register(settings, delivered, sources, source_id, as_of)


def _register(
    settings: Settings, delivered: Sequence[Delivered], sources: dict[str, Source], source_id: str | None, as_of: date
) -> tuple[list[Arrival], list[Payload]]:
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    waiting: dict[str, Arrival] = {}
    again: list[Payload] = []
    new: list[str] = []
    with store_session(settings) as session:
        written = payloads_by_id(session, [item.archived.payload_id for item in delivered])
        for item in delivered:
            payload_id = item.archived.payload_id
            known = written.get(payload_id)
            if known is not None and (known.state != "received" or payload_id in waiting or is_live(known)):
                again.append(known)
                continue
            if known is None:
                source = sources[source_id] if source_id else source_of(item.path, sources)
                known = Payload(
                    payload_id=payload_id, source_id=source.source_id, format=item.format, as_of=as_of,
                    name_sealed=seal(key, item.path.name.encode("utf-8", "surrogateescape"), payload_id),
                    size_bytes=item.archived.size_bytes, archive_name=item.archived.name,
                )  # fmt: skip
                session.add(known)
                new.append(payload_id)
                written[payload_id] = known
            waiting[payload_id] = Arrival(settings, known, item)
        session.flush()
        if new:
            session.execute(insert(InboxEntry), [{"payload_id": payload_id, "feed": "file"} for payload_id in new])
        count_files(session, (written[payload_id] for payload_id in new), again)
    return list(waiting.values()), again


def is_live(payload: Payload) -> bool:
    """Whether the payload's bytes are in the inbox, not in the archive folder: it arrived over the wire."""
    return payload.archive_name == LIVE


def inbox_sequences(settings: Settings, payload_ids: Sequence[str]) -> dict[str, int]:
    """The place of each payload in the order of arrival."""
    found: dict[str, int] = {}
    with store_session(settings) as session:
        for start in range(0, len(payload_ids), _IDS_AT_A_TIME):
            some = payload_ids[start:start + _IDS_AT_A_TIME]
            rows = session.execute(
                select(InboxEntry.payload_id, InboxEntry.inbox_sequence).where(InboxEntry.payload_id.in_(some)))
            found |= {row[0]: row[1] for row in rows}
    return found


def payloads_by_id(session: Session, payload_ids: Sequence[str]) -> dict[str, Payload]:
    """The payloads that were written down, of those asked for."""
    found: dict[str, Payload] = {}
    for start in range(0, len(payload_ids), _IDS_AT_A_TIME):
        some = payload_ids[start:start + _IDS_AT_A_TIME]
        rows = session.scalars(select(Payload).where(Payload.payload_id.in_(some)))
        found |= {payload.payload_id: payload for payload in rows}
    return found


def left_over(settings: Settings, known: set[str]) -> list[Arrival]:
    """Files that an earlier run received and did not land, other than ``known``, in the order of their arrival. What
    arrived live is the consumer's: there may be any number of it."""
    with store_session(settings) as session:
        waiting = session.scalars(
            select(Payload)
            .outerjoin(InboxEntry, InboxEntry.payload_id == Payload.payload_id)
            .where(Payload.state == "received", Payload.archive_name != LIVE)
            .order_by(InboxEntry.inbox_sequence, Payload.received_at, Payload.payload_id)
        )
        return [Arrival(settings, payload) for payload in waiting if payload.payload_id not in known]
