"""`cuff serve`: as many workers as are set, each in a process of its own; one that dies is replaced at once.

The supervisor holds the listening sockets, one a worker: the kernel shares new connections out among them, and those that
wait for a dead worker are answered by the one that takes its place.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from core.store import open_store
from ml.serving.security.startup import refuse_defaults

_WORKER = "from ml.serving.worker import main; main()"
_COUNTS = "PROMETHEUS_MULTIPROC_DIR"  # the workers add up their counts there
_BACKLOG = 2048
_STARTING_SECONDS, _ENDING_SECONDS = 60.0, 30.0
_SHORT_LIFE_SECONDS, _SHORT_LIVES = 5.0, 5  # so many that died young in a row: it is no accident
Say = Callable[[str], None]


class _Worker:
    def __init__(self, number: int, listening: socket.socket, environment: dict[str, str]) -> None:
        self.started_at = time.monotonic()
        self._ready, saying = os.pipe()
        os.set_blocking(self._ready, False)
        command = [sys.executable, "-c", _WORKER, str(listening.fileno()), str(number), str(saying), str(os.getpid())]
        self.process = subprocess.Popen(command, env=environment, pass_fds=(listening.fileno(), saying), cwd=PROJECT_ROOT)
        os.close(saying)

    def is_ready(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            return os.read(self._ready, 1) == b"."
        return False

    def forget(self) -> None:
        os.close(self._ready)


def run_server(settings: Settings, say: Say) -> int:
    """Answer until SIGTERM or SIGINT; what is being answered then is answered first. Returns the exit code.

    Errors: `ConfigurationError` for a taken port, TLS files that cannot be used, and defaults outside development.
    """
    refuse_defaults(settings)
    for file, name in ((settings.serve_tls_certificate, "CUFF_SERVE_TLS_CERTIFICATE"),
                       (settings.serve_tls_key, "CUFF_SERVE_TLS_KEY")):  # fmt: skip
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigurationError(f"{name} names a file that cannot be read; give the path of a PEM file")
    open_store(settings)  # migrated before the workers ask for it
    listening = _bind(settings)
    environment = os.environ | {_COUNTS: str(_empty_folder(settings.var / "serving" / "counts"))}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT_ROOT), os.environ.get("PYTHONPATH"))))
    told_to_end: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: told_to_end.append(number))
              for number in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
    workers = [_Worker(number, one, environment) for number, one in enumerate(listening)]
    try:
        return _supervise(settings, say, workers, listening, environment, told_to_end)
    finally:
        _end(workers)
        for one in listening:
            one.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _supervise(settings: Settings, say: Say, workers: list[_Worker], listening: list[socket.socket],
               environment: dict[str, str], told_to_end: list[int]) -> int:  # fmt: skip
    deadline = time.monotonic() + _STARTING_SECONDS
    waiting, short_lives = set(range(len(workers))), 0
    has_said = False
    while not told_to_end:
        waiting -= {number for number in waiting if workers[number].is_ready()}
        if not waiting and not has_said:
            scheme = "https" if settings.serve_tls_certificate else "http"
            say(f"answering on {scheme}://{settings.serve_host}:{settings.serve_port} with {len(workers)} workers")
            has_said = True
        for number, worker in enumerate(workers):
            if (code := worker.process.poll()) is None:
                continue
            if not has_said:
                return code or 1  # it has said why
            short_lives = short_lives + 1 if time.monotonic() - worker.started_at < _SHORT_LIFE_SECONDS else 0
            if short_lives >= _SHORT_LIVES:
                say(f"workers end as soon as they start ({code}); see the lines above")
                return 1
            say(f"worker {number} ended ({code}) and is replaced")
            worker.forget()
            workers[number] = _Worker(number, listening[number], environment)
        if waiting and not has_said and time.monotonic() > deadline:
            say(f"the workers did not answer within {_STARTING_SECONDS:.0f} s")
            return 1
        time.sleep(0.05)
    return 0


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.terminate()
    deadline = time.monotonic() + _ENDING_SECONDS
    for worker in workers:
        try:
            worker.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


def _bind(settings: Settings) -> list[socket.socket]:
    """A listening socket for each worker. Errors: `ConfigurationError` where the port is taken, by whomever."""
    where = (settings.serve_host, settings.serve_port)
    family = socket.AF_INET6 if ":" in settings.serve_host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as alone:  # another that shares the port would be let in otherwise
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(where)
        sockets = []
        for _ in range(settings.serve_workers):
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(where)
            one.listen(_BACKLOG)
            sockets.append(one)
    except OSError as error:
        raise ConfigurationError(f"port {settings.serve_port} of {settings.serve_host} cannot be listened on "
                                 f"({error.strerror}); stop what listens there or set CUFF_SERVE_PORT") from None  # fmt: skip
    return sockets


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder
