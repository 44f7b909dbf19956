"""A disk under a process that fails when told to, and that can lose power: fault_shim.c in LD_PRELOAD."""

import errno
import hashlib
import mmap
import os
import shutil
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("fault_shim.c")
_CONTROL = struct.Struct("6q")
_RECORD = struct.Struct("4q")
_WRITE, _TRUNCATE, _SYNCED, _SYNC_FAILED, _REMOVED = 1, 2, 3, 4, 5
WRITES, SYNCS = 1, 2


def missing() -> str:
    """Why no disk can be made to fail here; '' when one can."""
    return "" if shutil.which("gcc") else "gcc is not installed"


def build_shim() -> Path:
    """The library, compiled once for each version of its source. Errors: ``RuntimeError`` with the compiler's words."""
    version = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cuff"
    library = cache / f"fault-shim-{version}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        fresh = library.with_suffix(f".{os.getpid()}")
        done = subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(fresh), str(_SOURCE), "-ldl", "-lpthread"],
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"the fault shim does not compile: {done.stderr[-500:]}")
        fresh.rename(library)
    return library


@dataclass
class FaultyDisk:
    """``folder``: whose files may fail. ``notes``: a folder for control file and log. `close` it at the end."""

    folder: Path
    notes: Path

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.notes.mkdir(parents=True, exist_ok=True)
        self._log = self.notes / "writes.log"
        self._log.unlink(missing_ok=True)
        control = self.notes / "control"
        control.write_bytes(bytes(_CONTROL.size))
        with open(control, "r+b") as file:
            self._control = mmap.mmap(file.fileno(), _CONTROL.size)
        self._before = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    @property
    def environment(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(build_shim()), "CUFF_FAULT_FOLDER": str(self.folder),
                "CUFF_FAULT_CONTROL": str(self.notes / "control"), "CUFF_FAULT_LOG": str(self._log)}  # fmt: skip

    def fail(self, nth: int, kinds: int = WRITES | SYNCS, *, again: bool, error: int = errno.EIO) -> None:
        """From now on the nth operation fails; with ``again`` every nth."""
        self._control[:] = _CONTROL.pack(0, nth, kinds, error, 0, 0)
        self._control[:8] = struct.pack("q", 2 if again else 1)

    def count(self) -> None:
        """From now on count operations and let none fail."""
        self.fail(1 << 60, again=False)

    def mend(self) -> None:
        """No more faults."""
        self._control[:8] = bytes(8)

    @property
    def counted(self) -> int:
        return int(_CONTROL.unpack(self._control[:])[4])

    @property
    def failed(self) -> int:
        return int(_CONTROL.unpack(self._control[:])[5])

    def cut_power(self, into: Path) -> None:
        """Write the folder as a disk would hold it, had power gone at this moment (every process is dead by now). SQLite's
        shared memory is no file of the disk's."""
        held: dict[Path, bytearray] = {path: bytearray(content) for path, content in self._before.items()}
        pending: dict[Path, list[tuple[int, int, bytes]]] = defaultdict(list)
        for kind, path, offset, content in self._records():
            if kind in (_WRITE, _TRUNCATE):
                pending[path].append((kind, offset, content))
                continue
            changes = pending.pop(path, [])
            if kind == _REMOVED:
                held.pop(path, None)
            if kind == _SYNCED:
                _apply(held.setdefault(path, bytearray()), changes)
        for path, content in held.items():
            if not path.name.endswith("-shm"):
                target = into / path.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def _records(self) -> Iterator[tuple[int, Path, int, bytes]]:
        if not self._log.exists():
            return
        with open(self._log, "rb") as log:
            while len(head := log.read(_RECORD.size)) == _RECORD.size:
                kind, offset, size, path_size = _RECORD.unpack(head)
                path = Path(os.fsdecode(log.read(path_size)))
                yield kind, path, offset, log.read(size) if kind == _WRITE else b""

    def close(self) -> None:
        self._control.close()


def _apply(held: bytearray, changes: list[tuple[int, int, bytes]]) -> None:
    for kind, offset, content in changes:
        if kind == _TRUNCATE:
            del held[offset:]
            held.extend(bytes(offset - len(held)))
        else:
            held.extend(bytes(max(0, offset - len(held))))
            held[offset:offset + len(content)] = content
