"""dbt killed in the middle of its work: the task is tried again, and readers never notice."""

import time
from datetime import date

import psutil
import pytest

from core.publication import published
from core.stack import Stack
from ehr.simulate import SimulationOptions, simulate_hospital
from tests.airflow.conftest import PATIENTS

pytestmark = [pytest.mark.slow, pytest.mark.airflow]
_WAIT_SECONDS = 900


def wait_for(what, condition, stack):
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        stack.require_alive()
        if found := condition():
            return found
        time.sleep(0.5)
    pytest.fail(f"{what} did not happen within {_WAIT_SECONDS} s")


def newest_run(stack, dag_id):
    return [run for run in stack.client.dag_runs() if run.dag_id == dag_id][-1]


def dbt_task(stack):
    tasks = stack.client.task_runs(newest_run(stack, "build_warehouse"))
    return next((task for task in tasks if task.task_id == "run_dbt"), None)


def lake_writer(stack):
    """The process that holds the writer's lock: dbt, while its task runs."""
    lock = str(stack.settings.lake_dir / "writer.lock")
    for component in stack.components:
        for process in psutil.Process(component.process.pid).children(recursive=True):
            try:
                if lock in {each.path for each in process.open_files()}:
                    return process
            except psutil.Error:
                continue  # it ended meanwhile
    return None


def test_a_killed_build_is_tried_again_and_readers_keep_the_old_one_meanwhile(demo):
    house, before = demo.house, published(demo.house)
    extract = house.extracts_dir / "simulated" / "night-3"
    simulate_hospital(extract, SimulationOptions(
        patients=PATIENTS, end=date(2026, 1, 1), since=date(2026, 1, 31), until=date(2026, 2, 3),
        truth_path=house.var / "truth-night-3.parquet"))
    with Stack(house) as stack:
        builds = len([run for run in stack.client.dag_runs() if run.dag_id == "build_warehouse"])
        stack.client.trigger("ingest_ehr_extracts", {"paths": [str(extract)], "as_of": "2026-02-03"})
        wait_for("the build", lambda: len([run for run in stack.client.dag_runs()
                                           if run.dag_id == "build_warehouse"]) > builds, stack)
        wait_for("dbt", lambda: (task := dbt_task(stack)) is not None and task.state == "running", stack)
        victim = wait_for("dbt's lock", lambda: lake_writer(stack), stack)
        time.sleep(5)  # into its work
        victim.kill()
        assert published(house) == before
        run = wait_for("the end of the build", lambda: (run := newest_run(stack, "build_warehouse")).is_over and run, stack)
        assert run.state == "success"
        assert dbt_task(stack).try_number == 2
    after = published(house)
    assert after.build_id == before.build_id + 1
    assert after.as_of == date(2026, 2, 3)
