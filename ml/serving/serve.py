"""`cuff serve`: as many workers as are set, each in a process of its own; one that dies is replaced at once.

The supervisor holds the listening sockets, one a worker: the kernel shares new connections out among them, and those that
wait for a dead worker are answered by the one that takes its place. It is forked from the supervisor, which has loaded
everything and opened nothing, so that this takes tenths of a second.
"""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import Settings
from core.store import open_store
from ml.serving.security.startup import refuse_defaults

_COUNTS = "PROMETHEUS_MULTIPROC_DIR"  # the workers add up their counts there
_BACKLOG = 2048
_LOOK_SECONDS = 0.02
_STARTING_SECONDS, _ENDING_SECONDS = 60.0, 30.0
_SHORT_LIFE_SECONDS, _SHORT_LIVES = 5.0, 5  # so many that died young in a row: it is no accident
_ENDING = (signal.SIGTERM, signal.SIGINT)
Say = Callable[[str], None]


class _Worker:
    """A forked process. ``listening``: all sockets, of which it keeps its own."""

    def __init__(self, settings: Settings, listening: list[socket.socket], number: int) -> None:
        from ml.serving.worker import work

        self.started_at = time.monotonic()
        self._ready, saying = os.pipe()
        os.set_blocking(self._ready, False)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # told to end before it can hear: it would never know
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                for each in _ENDING:
                    signal.signal(each, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
                for other in {*range(len(listening))} - {number}:
                    listening[other].close()
                code = work(settings, listening[number], number, saying)
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
        os.close(saying)
        self._code: int | None = None

    def is_ready(self) -> bool:
        with suppress(BlockingIOError):
            return os.read(self._ready, 1) == b"."
        return False

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                os.close(self._ready)
        return self._code


def run_server(settings: Settings, say: Say) -> int:
    """Answer until SIGTERM or SIGINT; what is being answered then is answered first. Returns the exit code.

    Errors: `ConfigurationError` for a taken port, TLS files that cannot be used, and defaults outside development.
    """
    refuse_defaults(settings)
    for file, name in ((settings.serve_tls_certificate, "CUFF_SERVE_TLS_CERTIFICATE"),
                       (settings.serve_tls_key, "CUFF_SERVE_TLS_KEY")):  # fmt: skip
        if file is not None and not os.access(file, os.R_OK):
            raise ConfigurationError(f"{name} names a file that cannot be read; give the path of a PEM file")
    listening = _listen(settings)
    try:
        open_store(settings).dispose()  # migrated before the workers ask for it; no connection goes through a fork
        os.environ[_COUNTS] = str(_empty_folder(settings.var / "serving" / "counts"))
        from ml.serving.worker import warm_up

        warm_up()
        return _run(settings, say, listening)
    finally:
        for each in listening:
            each.close()


def _run(settings: Settings, say: Say, listening: list[socket.socket]) -> int:
    told_to_end: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: told_to_end.append(number)) for number in _ENDING}
    workers: list[_Worker] = []
    try:
        workers += [_Worker(settings, listening, number) for number in range(len(listening))]
        return _supervise(settings, say, workers, listening, told_to_end)
    finally:
        _end(workers)
        for number, handler in before.items():
            signal.signal(number, handler)


def _supervise(settings: Settings, say: Say, workers: list[_Worker], listening: list[socket.socket],
               told_to_end: list[int]) -> int:  # fmt: skip
    deadline = time.monotonic() + _STARTING_SECONDS
    waiting, short_lives, has_said = set(range(len(workers))), 0, False
    while not told_to_end:
        waiting -= {number for number in waiting if workers[number].is_ready()}
        if not waiting and not has_said:
            scheme = "https" if settings.serve_tls_certificate else "http"
            say(f"answering on {scheme}://{settings.serve_host}:{settings.serve_port} with {len(workers)} workers")
            has_said = True
        for number, worker in enumerate(workers):
            if (code := worker.ended()) is None:
                continue
            if not has_said and code >= 0:
                return code or 1  # it has said why
            short_lives = short_lives + 1 if time.monotonic() - worker.started_at < _SHORT_LIFE_SECONDS else 0
            if short_lives >= _SHORT_LIVES:
                say(f"workers end as soon as they start ({code}); see the lines above")
                return 1
            say(f"worker {number} ended ({code}) and is replaced")
            workers[number] = _Worker(settings, listening, number)
        if waiting and not has_said and time.monotonic() > deadline:
            say(f"the workers did not answer within {_STARTING_SECONDS:.0f} s")
            return 1
        time.sleep(_LOOK_SECONDS)
    return 0


def _end(workers: list[_Worker]) -> None:
    running = [worker for worker in workers if worker.ended() is None]
    for worker in running:
        os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + _ENDING_SECONDS
    while running := [worker for worker in running if worker.ended() is None]:
        if time.monotonic() > deadline:
            for worker in running:
                os.kill(worker.pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)


def _listen(settings: Settings) -> list[socket.socket]:
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
        raise ConfigurationError(
            f"port {settings.serve_port} of {settings.serve_host} cannot be listened on ({error.strerror}); stop what listens "
            "there or set CUFF_SERVE_PORT in .env") from None
    return sockets


def _empty_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder
