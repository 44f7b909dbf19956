"""The payload archive: what a hospital sent, byte for byte, compressed, encrypted, immutable, found by its digest.

A file is a random mark and a sequence of frames: 4 bytes length (big-endian), then a sealed zstd block. Mark and number
of the frame are authenticated with it, so that blocks can be neither moved nor mixed; the digest of the whole, which is
the payload's name, guards the end.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard
from cryptography.exceptions import InvalidTag

from core.errors import ArchiveError
from core.keys import key_bytes, seal, unseal
from core.settings import Settings

_BLOCK_BYTES = 1 << 20  # larger ones fall out of the processor's cache, and cost more than they spare
_MARK_BYTES = 16
_ZSTD_LEVEL = 1


@dataclass(frozen=True)
class Archived:
    """A payload in the archive. ``modified_ns`` is the file's as it was read: another one now means other bytes."""

    payload_id: str
    name: str
    size_bytes: int
    modified_ns: int


def archive_file(settings: Settings, path: Path) -> Archived:
    """Digest, compress and seal in one pass over the file. What is in the archive already is left as it is.

    Durable on return (fsync of file and folder).
    """
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    settings.archive_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = os.urandom(_MARK_BYTES)
    partial = settings.archive_dir / f"{mark.hex()}.partial"
    digest, packer, size = hashlib.sha256(), zstandard.ZstdCompressor(level=_ZSTD_LEVEL), 0
    room = memoryview(bytearray(_BLOCK_BYTES))
    with open(path, "rb", buffering=0) as source, open(partial, "xb") as out:
        modified_ns = os.fstat(source.fileno()).st_mtime_ns
        out.write(mark)
        for number, length in enumerate(iter(lambda: source.readinto(room), 0)):
            block = room[:length]
            digest.update(block)
            size += length
            sealed = seal(key, packer.compress(block), f"{mark.hex()}:{number}")
            out.write(len(sealed).to_bytes(4, "big") + sealed)
        out.flush()
        os.fsync(out.fileno())
    payload_id = digest.hexdigest()
    name = f"{payload_id[:2]}/{payload_id}.zst.aes"
    target = settings.archive_dir / name
    if target.exists():
        partial.unlink()
    else:
        target.parent.mkdir(exist_ok=True)
        partial.chmod(0o400)
        partial.rename(target)
        _sync_folder(target.parent)
    return Archived(payload_id, name, size, modified_ns)


def sweep_partials(settings: Settings) -> None:
    """Remove what a killed run was still writing. Only while no other run archives."""
    for partial in settings.archive_dir.glob("*.partial"):
        partial.unlink(missing_ok=True)


def read_archived(settings: Settings, name: str, payload_id: str) -> Iterator[bytes]:
    """The stored bytes, block by block. Errors: `ArchiveError` when they are missing or not what was stored."""
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    digest, unpacker = hashlib.sha256(), zstandard.ZstdDecompressor()
    try:
        with open(settings.archive_dir / name, "rb") as stored:
            mark = stored.read(_MARK_BYTES).hex()
            for number, sealed in enumerate(_frames(stored)):
                block = unpacker.decompress(unseal(key, sealed, f"{mark}:{number}"))
                digest.update(block)
                yield block
    except (OSError, InvalidTag, zstandard.ZstdError) as error:
        raise ArchiveError(
            f"archived payload {payload_id[:12]} cannot be read ({type(error).__name__}); restore it from backup"
        ) from None
    if digest.hexdigest() != payload_id:
        raise ArchiveError(f"archived payload {payload_id[:12]} does not match its digest; restore it from backup")


def open_archived(settings: Settings, name: str, payload_id: str) -> BinaryIO:
    """The stored bytes as a stream; nothing of them touches the disk. Errors: as `read_archived`, while reading."""
    return io.BufferedReader(_BlockStream(read_archived(settings, name, payload_id)), _BLOCK_BYTES)


class _BlockStream(io.RawIOBase):
    """Blocks as a readable stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def _frames(stored: BinaryIO) -> Iterator[bytes]:
    while head := stored.read(4):
        yield stored.read(int.from_bytes(head, "big"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
