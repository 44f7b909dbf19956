"""Start, watch and stop the processes that Cuff runs on one machine: Airflow's four, the live door's, the inference API,
the MLflow server.

Every process is the head of a session of its own, so that stopping takes its whole family; nothing outlives the stack.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType

import psutil
from rich.console import Console

from core.airflow_client import AirflowClient
from core.airflow_environment import (
    USERNAME,
    airflow_environment,
    airflow_home,
    base_url,
    log_folder,
    password_file,
)
from core.dbt import write_manifest
from core.errors import ConfigurationError, CuffError
from core.lake import install_extensions
from core.live_doors import api_door, api_shown, doors_shown, is_open, live_doors
from core.settings import PROJECT_ROOT, Settings
from core.store import open_store

LAKE_WRITER_POOL = ("lake_writer", 1, "Tasks that write the lake: an embedded lake takes one writer at a time")
_STOP_SECONDS = 12
Say = Callable[[str], None]


class StackError(CuffError):
    """A component did not start, or died."""

    exit_code = 10


@dataclass
class Component:
    """One running process and where it writes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Stack:
    """``with Stack(settings) as stack:`` has a healthy Airflow inside, and nothing left of it afterwards.

    ``with_live``: listener and consumer too, and the relay where messages travel by Kafka; what arrives belongs to the
    business day ``listen_as_of``, by default the day of its arrival. ``with_api``: the inference API too; until there is a
    champion it says that it is not ready.
    """

    def __init__(self, settings: Settings, *, with_mlflow: bool = False, with_live: bool = False, with_api: bool = False,
                 listen_as_of: date | None = None, start_seconds: float = 240, say: Say = lambda _: None) -> None:
        self.settings = settings
        self.components: list[Component] = []
        self._with_mlflow, self._start_seconds, self._say = with_mlflow, start_seconds, say
        self._doors = live_doors(settings, listen_as_of) if with_live else []
        if with_api:
            self._doors.append(api_door(settings))
        self._environment: dict[str, str] = {}
        self.client = AirflowClient(settings)

    def __enter__(self) -> "Stack":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until it is healthy.

        Errors: `ConfigurationError` for a taken port, before anything starts; `StackError` naming the component and its
        log; `BuildError` when dbt cannot parse its project.
        """
        require_free_port(self.settings.airflow_port, "CUFF_AIRFLOW_PORT", "Airflow")
        if self._with_mlflow:
            require_free_port(self.settings.mlflow_port, "CUFF_MLFLOW_PORT", "MLflow")
        for door in self._doors:
            for port, setting in door.ports:
                require_free_port(port, setting, door.what, door.host)
        for folder in (airflow_home(self.settings), log_folder(self.settings), self.settings.extracts_dir,
                       self.settings.reports_dir, self.settings.var / "mlflow"):
            folder.mkdir(parents=True, exist_ok=True)
        self._environment = airflow_environment(self.settings)
        install_extensions()
        open_store(self.settings)
        self._say("dbt: reading the project")
        write_manifest(self.settings)
        self._say("Airflow: preparing its database")
        self._run_once("migrate", "-m", "airflow", "db", "migrate")
        for name, arguments in _airflow_commands():
            self._spawn(name, "-m", "airflow", *arguments)
        if self._with_mlflow:
            self._spawn("mlflow", "-m", "mlflow", "server", *_mlflow_arguments(self.settings))
        for door in self._doors:
            self._spawn(door.name, "-c", "import cuff; cuff.main()", *door.command)
        self._wait_until_healthy()
        self.client.keep_pool(*LAKE_WRITER_POOL)

    def require_alive(self) -> None:
        """Errors: `StackError` naming the component that died and its log."""
        for component in self.components:
            if component.process.poll() is not None:
                code = component.process.returncode
                raise StackError(f"{component.name} ended with code {code}; see {component.log}")

    def memory_mb(self) -> float:
        """Memory of all processes and their children, shared pages counted once (PSS), in MB."""
        total = 0
        for component in self.components:
            for process in _family(component.process.pid):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue  # it ended between being listed and being asked
        return total / 1e6

    def stop(self) -> None:
        """Stop every process and its children: politely first, then for good."""
        self.client.close()
        families = {process.pid: process for component in self.components for process in _family(component.process.pid)}
        for component in self.components:
            if component.process.poll() is None:
                os.killpg(component.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for component in self.components:
            try:
                component.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(component.process.pid, signal.SIGKILL)
                component.process.wait()
        for process in families.values():
            try:
                process.kill()  # psutil compares start times, so a reused number is never hit
            except psutil.Error:
                continue  # gone already
        self.components.clear()

    def _run_once(self, name: str, *arguments: str) -> None:
        log = log_folder(self.settings) / f"{name}.log"
        with log.open("ab") as out:
            code = subprocess.call([sys.executable, *arguments], env=self._environment, cwd=PROJECT_ROOT, stdout=out,
                                   stderr=subprocess.STDOUT)
        if code != 0:
            raise StackError(f"airflow {name} ended with code {code}; see {log}")

    def _spawn(self, name: str, *arguments: str) -> None:
        log = log_folder(self.settings) / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen([sys.executable, *arguments], env=self._environment, cwd=PROJECT_ROOT,
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                       start_new_session=True)
        self.components.append(Component(name, process, log))

    def _wait_until_healthy(self) -> None:
        expected = {path.stem for path in (PROJECT_ROOT / "dags").glob("*.py")}
        deadline, missing = time.monotonic() + self._start_seconds, ["api-server"]
        while time.monotonic() < deadline:
            self.require_alive()
            missing = self.client.unhealthy_components()
            if not missing:
                if errors := self.client.import_errors():
                    raise StackError(f"a DAG cannot be loaded: {errors[0]}")
                missing = sorted(expected - self.client.dag_ids())
                missing += [door.name for door in self._doors if not all(is_open(door.host, port) for port, _ in door.ports)]
                if not missing:
                    return
            self._say(f"Airflow: waiting for {', '.join(missing)}")
            time.sleep(1)
        raise StackError(f"{', '.join(missing)} not ready after {self._start_seconds:.0f} s; "
                         f"see {log_folder(self.settings)}")


def require_free_port(port: int, setting: str, what: str, host: str = "127.0.0.1") -> None:
    """Errors: `ConfigurationError` when something listens on the port already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise ConfigurationError(
                f"port {port} for {what} is taken; stop what listens there or set {setting} in .env") from None


def run_up(settings: Settings, console: Console) -> int:
    """Keep Airflow, the live door, the inference API and MLflow running until Ctrl-C or SIGTERM; returns the exit code.

    Errors: those of `Stack.start`.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with console.status("starting") as status, \
                Stack(settings, with_mlflow=True, with_live=True, with_api=True, say=status.update) as stack:
            status.stop()
            console.print(f"Airflow  {base_url(settings)}  user {USERNAME}, password in {password_file(settings)}\n"
                          f"Cuff     {base_url(settings)}/plugin/cuff\n"
                          f"MLflow   http://127.0.0.1:{settings.mlflow_port}\n{doors_shown(settings)}\n{api_shown(settings)}\n"
                          "Ctrl-C stops everything", soft_wrap=True)
            while True:
                stack.require_alive()
                time.sleep(1)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _family(pid: int) -> list[psutil.Process]:
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.Error:
        return []


def _airflow_commands() -> list[tuple[str, list[str]]]:
    return [
        ("api-server", ["api-server"]),
        ("scheduler", ["scheduler", "--skip-serve-logs"]),
        ("dag-processor", ["dag-processor"]),
        ("triggerer", ["triggerer", "--skip-serve-logs"]),
    ]


def _mlflow_arguments(settings: Settings) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1",
            "--backend-store-uri", settings.mlflow_tracking_uri(),
            "--default-artifact-root", settings.mlflow_artifact_root()]
