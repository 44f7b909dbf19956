"""Processes that a bench starts, watches and stops: servers that say a line when they are ready, in a house of their own."""

import base64
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from core.settings import PROJECT_ROOT, Settings, load_settings

CUFF = (sys.executable, "-c", "import cuff; cuff.main()")
_LAST_LINES = 40
# Where nothing compiled may be written beside the sources, each start would compile all of them again.
_COMPILED = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cuff" / "compiled")}
_ENVIRONMENT = {"PYTHONPATH": str(PROJECT_ROOT), "PYTHONUNBUFFERED": "1", **_COMPILED}
_SECRETS = ("PSEUDONYM_SECRET", "VAULT_KEY", "ARCHIVE_KEY")


def free_port() -> int:
    """A port nobody listens on, below the range that the system gives to outgoing connections: it stays free."""
    while True:
        port = random.SystemRandom().randint(15_000, 31_000)
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """A process that prints a line when it serves; its last words are kept. Stopped when the block ends."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str] | None = None,
                 ready_seconds: float = 60, ready: str = "") -> None:
        self.name, self.said = name, []  # type: tuple[str, list[str]]
        self._ready, self._is_ready = ready, threading.Event()
        self.process = subprocess.Popen(
            command, env=os.environ | _ENVIRONMENT | (environment or {}),
            text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=PROJECT_ROOT)  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._ready_seconds = ready_seconds

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said = [*self.said[1 - _LAST_LINES:], line.rstrip()]
            if self._ready in line:
                self._is_ready.set()
        self._is_ready.set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self) -> "Server":
        """Errors: ``RuntimeError`` with its last lines when it ended instead, or says nothing in time."""
        self._is_ready.wait(self._ready_seconds)
        if not self.is_running or not self._is_ready.is_set():
            last = "\n".join(self.said[-15:])
            self.kill()
            raise RuntimeError(f"{self.name} did not start ({self.process.returncode}):\n{last}")
        return self

    def kill(self) -> int:
        """SIGKILL; returns the exit code once it is gone."""
        self.process.kill()
        code = self.process.wait(30)
        self._reader.join(5)
        return code

    def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and what it says to that: its exit code. Errors: ``subprocess.TimeoutExpired`` (it is killed then)."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._reader.join(5)
        return code

    def memory_kib(self, field: str = "VmRSS") -> int:
        """Resident memory now (``VmRSS``) or at its highest (``VmHWM``)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        return 0

    def __enter__(self) -> "Server":
        return self.wait_ready()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.is_running:
            self.kill()


@dataclass
class House:
    """A ``var`` folder with secrets and ports of its own, and the environment in which its commands run."""

    var: Path
    options: dict[str, object] = field(default_factory=dict)  # settings by field name
    keys: dict[str, str] = field(default_factory=lambda: {
        name: base64.b64encode(secrets.token_bytes(32)).decode() for name in _SECRETS})

    def __post_init__(self) -> None:
        self.var.mkdir(parents=True, exist_ok=True)
        for name in ("mllp_port", "fhir_port", "consumer_port", "relay_port"):
            self.options.setdefault(name, free_port())

    @property
    def mllp_port(self) -> int:
        return int(str(self.options["mllp_port"]))

    @property
    def fhir_port(self) -> int:
        return int(str(self.options["fhir_port"]))

    @property
    def settings(self) -> Settings:
        return load_settings(var=self.var, **{name.lower(): key for name, key in self.keys.items()}, **self.options)

    @property
    def environment(self) -> dict[str, str]:
        told = {"VAR": self.var, **self.keys, **{name.upper(): value for name, value in self.options.items()}}
        return {f"CUFF_{name}": str(value) for name, value in told.items()}

    def start(self, *command: str, more: dict[str, str] | None = None, ready_seconds: float = 120) -> Server:
        """``cuff COMMAND`` in this house; call ``wait_ready`` or use it as a block."""
        return Server(" ".join(("cuff", *command)), (*CUFF, *command), self.environment | (more or {}), ready_seconds)

    def run(self, *command: str, seconds: float = 600) -> str:
        """``cuff COMMAND`` to its end; what it printed. Errors: ``RuntimeError`` with its last words when it failed."""
        done = subprocess.run((*CUFF, *command), env=os.environ | _ENVIRONMENT | self.environment,
                              capture_output=True, text=True, timeout=seconds, cwd=PROJECT_ROOT)  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"cuff {' '.join(command)} failed ({done.returncode}): {done.stderr[-800:]}")
        return done.stdout


def wait_until(is_true: Callable[[], bool], seconds: float, every: float = 0.05) -> bool:
    """Ask until it is true, or the time is over; whether it was."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(every)
    return is_true()


def stop_all(servers: Iterable[Server]) -> None:
    for server in servers:
        if server.is_running:
            server.kill()
