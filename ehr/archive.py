"""The payload archive: what a hospital sent, byte for byte, compressed, encrypted, immutable, found by its digest.

A file is a sequence of frames: 4 bytes length (big-endian), then a sealed zstd block. The frame's number is
authenticated with it, so that blocks can be neither moved nor dropped from the middle; the digest guards the end.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard
from cryptography.exceptions import InvalidTag

from core.errors import ArchiveError
from core.keys import key_bytes, seal, unseal
from core.settings import Settings

_BLOCK_BYTES = 4 << 20


def digest_file(path: Path) -> str:
    """SHA-256 of a file, hex: the payload's id."""
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def archive_file(settings: Settings, path: Path, payload_id: str) -> str:
    """Store the file and return its name in the archive. What is there already is left as it is.

    Durable on return (fsync of file and folder). Errors: `ArchiveError` when the file changed since it was digested.
    """
    name = f"{payload_id[:2]}/{payload_id}.zst.aes"
    target = settings.archive_dir / name
    if target.exists():
        return name
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}.partial")
    digest, packer = hashlib.sha256(), zstandard.ZstdCompressor(level=1)
    with open(path, "rb") as source, open(partial, "wb") as out:
        for number, block in enumerate(iter(lambda: source.read(_BLOCK_BYTES), b"")):
            digest.update(block)
            sealed = seal(key, packer.compress(block), f"{payload_id}:{number}")
            out.write(len(sealed).to_bytes(4, "big") + sealed)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != payload_id:
        partial.unlink()
        raise ArchiveError(f"payload {payload_id[:12]} changed while it was read; deliver it again when it is complete")
    partial.chmod(0o400)
    partial.rename(target)
    _sync_folder(target.parent)
    return name


def read_archived(settings: Settings, name: str, payload_id: str) -> Iterator[bytes]:
    """The stored bytes, block by block. Errors: `ArchiveError` when they are missing or not what was stored."""
    key = key_bytes(settings.archive_key, "CUFF_ARCHIVE_KEY")
    digest, unpacker = hashlib.sha256(), zstandard.ZstdDecompressor()
    try:
        with open(settings.archive_dir / name, "rb") as stored:
            for number, sealed in enumerate(_frames(stored)):
                block = unpacker.decompress(unseal(key, sealed, f"{payload_id}:{number}"))
                digest.update(block)
                yield block
    except (OSError, InvalidTag, zstandard.ZstdError) as error:
        raise ArchiveError(
            f"archived payload {payload_id[:12]} cannot be read ({type(error).__name__}); restore it from backup"
        ) from None
    if digest.hexdigest() != payload_id:
        raise ArchiveError(f"archived payload {payload_id[:12]} does not match its digest; restore it from backup")


def restore_file(settings: Settings, name: str, payload_id: str, target: Path) -> Path:
    """Write an archived payload to ``target``, readable by its owner alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        for block in read_archived(settings, name, payload_id):
            out.write(block)
    return target


def _frames(stored: BinaryIO) -> Iterator[bytes]:
    while head := stored.read(4):
        yield stored.read(int.from_bytes(head, "big"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
