"""The demo: a simulated hospital and two nights of real Airflow, driven over its REST API like a person would.

Night 1 lands a history, builds, trains the first champion, scores and finds the world unchanged. Before night 2 the
hospital's new cuffs read high; the monitor must notice, alert and have a challenger trained. What night 2 brings as HL7 v2
comes live over MLLP, the rest in files. Then the inference API is asked about three patients. Everything lives in
``var/demo``, which a new demo wipes.
"""

import json
import shutil
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from core.airflow_client import DagRun
from core.airflow_environment import base_url, log_folder
from core.champion import champion_version
from core.errors import ConfigurationError, CuffError
from core.settings import Settings
from core.stack import Stack, StackError
from cuff_demo_ask import ask_three, require_port
from cuff_demo_live import Delivery, live_lines, send_live
from cuff_demo_summary import print_summary, summarise, was_retraining_asked_for

HISTORY_ENDS, NIGHT_2_ENDS = date(2026, 1, 1), date(2026, 1, 31)
YEARS = 5
SEARCH_SECONDS, BOOTSTRAP_SAMPLES = 15, 200
_QUIET_SECONDS = 5  # an asset starts its DAG within two
_NIGHT_SECONDS = 1800
_MEMORY_SECONDS = 4
_MARK = ".cuff-demo"
_COLORS = {"success": "green", "failed": "red", "running": "cyan", "queued": "dim"}


class DemoError(CuffError):
    """A task failed, or a DAG that belongs to the night did not run."""


@dataclass
class Timing:
    """How long one DAG run took, and what it came to."""

    night: int
    dag_id: str
    state: str
    seconds: float
    tasks: int


@dataclass
class Watch:
    """Follows the DAG runs of one stack until nothing moves any more."""

    stack: Stack
    console: Console
    night: int = 1
    timings: list[Timing] = field(default_factory=list)
    peak_memory_mb: float = 0
    _told: set[str] = field(default_factory=set)
    _sample_after: float = 0

    def until_quiet(self, *expected: str) -> None:
        """Wait for the chain to end. Errors: `DemoError` for a failed run, or an ``expected`` DAG that did not run."""
        since, quiet_since = time.monotonic(), time.monotonic()
        with Live(console=self.console, refresh_per_second=4, transient=True) as live:
            while time.monotonic() - quiet_since < _QUIET_SECONDS:
                self.stack.require_alive()
                self._sample_memory()
                runs = self.stack.client.dag_runs()
                moving = [run for run in runs if not run.is_over]
                live.update(self._moving_table(moving))
                for run in runs:
                    if run.is_over and run.run_id + run.dag_id not in self._told:
                        self._tell(run)
                if moving:
                    quiet_since = time.monotonic()
                if time.monotonic() - since > _NIGHT_SECONDS:
                    raise DemoError(f"night {self.night} did not end within {_NIGHT_SECONDS / 60:.0f} minutes; "
                                    f"see {log_folder(self.stack.settings)}")
                time.sleep(1)
        self.require_ran(*expected)

    def _sample_memory(self) -> None:
        if time.monotonic() >= self._sample_after:  # adding up the pages of twenty processes is not free
            self.peak_memory_mb = max(self.peak_memory_mb, self.stack.memory_mb())
            self._sample_after = time.monotonic() + _MEMORY_SECONDS

    def require_ran(self, *expected: str) -> None:
        """Errors: `DemoError` naming the DAGs that did not run since the night began."""
        missing = set(expected) - {timing.dag_id for timing in self.timings if timing.night == self.night}
        if missing:
            raise DemoError(f"night {self.night}: {', '.join(sorted(missing))} did not run; "
                            f"see {log_folder(self.stack.settings)}")

    def _moving_table(self, moving: list[DagRun]) -> Table:
        table = Table.grid(padding=(0, 2))
        for run in moving:
            tasks = self.stack.client.task_runs(run)
            active = [task.task_id for task in tasks if task.state in ("running", "queued", "deferred")]
            done = sum(task.state in ("success", "skipped") for task in tasks)
            shown = ", ".join(name.removeprefix("warehouse.") for name in active[:3])
            table.add_row(f"[cyan]{run.dag_id}[/]", f"{done}/{len(tasks)}", shown + (" …" if len(active) > 3 else ""),
                          f"{_seconds(run):.0f} s")
        return table

    def _tell(self, run: DagRun) -> None:
        self._told.add(run.run_id + run.dag_id)
        tasks = self.stack.client.task_runs(run)
        timing = Timing(self.night, run.dag_id, run.state, round(_seconds(run), 1), len(tasks))
        self.timings.append(timing)
        skipped = sum(task.state == "skipped" for task in tasks)
        note = f", {skipped} skipped" if skipped else ""
        self.console.print(f"  [{_COLORS[run.state]}]{run.state:8}[/] {run.dag_id:22} {timing.seconds:6.1f} s  "
                           f"{len(tasks)} tasks{note}")
        # dbt's node tasks and the one that closes a failed build only follow the task that really failed.
        failed = sorted((task for task in tasks if task.state == "failed"),
                        key=lambda task: task.task_id == "fail_build" or task.task_id.startswith("warehouse."))
        for task in failed:
            folder = f"dag_id={task.dag_id}/run_id={task.run_id}/task_id={task.task_id}"
            log = log_folder(self.stack.settings) / "tasks" / folder / f"attempt={task.try_number}.log"
            raise DemoError(f"{task.dag_id}: task {task.task_id} failed; see {log}")
        if run.state == "failed":
            raise DemoError(f"{run.dag_id} failed; see {log_folder(self.stack.settings)}")


def run_demo(settings: Settings, patients: int = 4000, console: Console | None = None) -> int:
    """Run the demo and print what came of it; returns the exit code, 0 only when every task succeeded.

    The results stay under ``settings.var / 'demo'``, ``summary.json`` among them. Nothing keeps running.
    """
    console = console or Console()
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        house = demo_house(settings)
        require_port(house)
        summary = _two_nights(house, patients, console)
    except CuffError as error:
        console.print(f"[bold red]demo failed:[/] {error}", highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    path = house.var / "summary.json"
    path.write_text(json.dumps(summary, indent=2, default=str))
    print_summary(console, summary)
    console.print(f"\nwritten to {path}\nlook around: [bold]CUFF_VAR={house.var} make up[/], then {base_url(house)} "
                  f"(Cuff page: {base_url(house)}/plugin/cuff, MLflow: http://127.0.0.1:{house.mlflow_port})",
                  soft_wrap=True)
    return 0


def demo_house(settings: Settings) -> Settings:
    """Settings of an empty house under ``var/demo``, on embedded defaults whatever ``.env`` says.

    Errors: `ConfigurationError` when something that no demo made lies there.
    """
    var = settings.var / "demo"
    if var.exists() and any(var.iterdir()) and not (var / _MARK).exists():
        raise ConfigurationError(f"{var} was not made by a demo; move it away first")
    shutil.rmtree(var, ignore_errors=True)
    var.mkdir(parents=True)
    (var / _MARK).touch()
    return settings.model_copy(update={
        "var": var, "ops_url": "", "vault_url": "", "mlflow_url": "", "mlflow_artifacts": "", "lake_catalog": "",
        "lake_data": "", "landing_dir": None, "transport": "inbox", "kafka_bootstrap": "", "listen_host": "127.0.0.1",
        "listen_tls_certificate": None, "listen_tls_key": None, "listen_tls_client_ca": None,
        "smtp_url": "", "webhook_url": "", "nightly_cron": "", "watch_cron": "",
        "environment": "development", "online_store": "", "serve_host": "127.0.0.1", "serve_workers": 1,
        "serve_trusted_hosts": "127.0.0.1,localhost", "serve_tls_certificate": None, "serve_tls_key": None, "token_jwks": "",
        "token_issuer": "cuff-development", "token_algorithm": "ES256",
        "wake_seconds": 86_400,  # the files behind the live part start the build, and the night is built in one go
        "training_search_seconds": min(settings.training_search_seconds, SEARCH_SECONDS),
        "bootstrap_samples": min(settings.bootstrap_samples, BOOTSTRAP_SAMPLES),
    })


def _two_nights(house: Settings, patients: int, console: Console) -> dict[str, Any]:
    started, began_at = time.monotonic(), datetime.now(UTC)
    with ThreadPoolExecutor(1) as pool:
        # The hospital writes while Airflow starts, and its second extract while the first is worked on.
        first = pool.submit(_simulate, house, 1, patients)
        second = pool.submit(_simulate, house, 2, patients)
        with console.status("starting Airflow") as status, \
                Stack(house, with_live=True, listen_as_of=NIGHT_2_ENDS, say=lambda text: status.update(text)) as stack:
            console.print(f"Airflow, listener and consumer are up after {time.monotonic() - started:.0f} s")
            status.stop()
            watch = Watch(stack, console)
            _deliver(watch, 1, first, HISTORY_ENDS)
            watch.until_quiet("ingest_ehr_extracts", "build_warehouse", "materialize_features", "score_patients")
            console.print("[bold]night 1[/]: the nightly training")
            stack.client.trigger("retrain_model")
            watch.until_quiet("retrain_model")
            # A hospital too small to learn from has its challenger held; then nobody is scored and nothing watched.
            watched = ("score_patients", "monitor_drift") if champion_version(house) else ()
            watch.require_ran(*watched)
            watch.night = 2
            live = _deliver(watch, 2, second, NIGHT_2_ENDS)
            watch.until_quiet("ingest_ehr_extracts", "build_warehouse", "materialize_features", *watched)
            if was_retraining_asked_for(house):
                watch.require_ran("retrain_model")
    return summarise(house, watch.timings) | {
        "served": ask_three(house, console), "live": live, "patients": patients, "began_at": began_at.isoformat(),
        "seconds": round(time.monotonic() - started, 1), "peak_memory_mb": round(watch.peak_memory_mb),
        "urls": {"airflow": base_url(house), "cuff": f"{base_url(house)}/plugin/cuff",
                 "mlflow": f"http://127.0.0.1:{house.mlflow_port}"},
    }


def _deliver(watch: Watch, night: int, extract: Future[Delivery], as_of: date) -> dict[str, Any]:
    """Send what goes live, then hand over the files; returns what came of the first."""
    delivery = extract.result()
    size = sum(path.stat().st_size for path in delivery.folder.rglob("*") if path.is_file()) / 1e6
    what = "five years of history" if night == 1 else "a month, its new cuffs 8 mmHg high"
    watch.console.print(f"[bold]night {night}[/]: the hospital delivers {what} ({size:.0f} MB in files"
                        + (f", {len(delivery.messages):,} messages live)" if delivery.messages else ")"))
    live = send_live(watch.stack, watch.console, delivery.messages) if delivery.messages else {}
    for line in live_lines(live) if live else ():
        watch.console.print(f"  {line}", highlight=False)
    watch.stack.client.trigger("ingest_ehr_extracts", {"paths": [str(delivery.folder)], "as_of": as_of.isoformat()})
    return live


def _simulate(house: Settings, night: int, patients: int) -> Delivery:
    """One extract, under a folder whose name tells Cuff the source; the truth lies outside the landing folder. The HL7 v2
    messages of night 2 stay in memory until they are sent."""
    from ehr.simulate import SimulationOptions, simulate_hospital

    folder = house.extracts_dir / "simulated" / f"night-{night}"
    shift: dict[str, Any] = {} if night == 1 else {
        "since": HISTORY_ENDS, "until": NIGHT_2_ENDS, "drift": "cuff_high", "drift_from": HISTORY_ENDS}
    options = SimulationOptions(
        patients=patients, years=YEARS, end=HISTORY_ENDS, truth_path=house.var / f"truth-night-{night}.parquet", **shift)
    messages: list[bytes] = []
    simulate_hospital(folder, options, deliver=None if night == 1 else lambda sent, _total: messages.extend(sent))
    return Delivery(folder, messages)


def _seconds(run: DagRun) -> float:
    if run.started_at is None:
        return 0.0
    return ((run.ended_at or datetime.now(UTC)) - run.started_at).total_seconds()


__all__ = ["StackError", "run_demo"]
