"""What every DAG must have, asked of the DAGs as Airflow loads them."""

import re
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

from core.settings import PROJECT_ROOT

DAG_IDS = {
    "ingest_ehr_extracts", "build_warehouse", "materialize_features", "score_patients", "monitor_drift",
    "retrain_model", "maintain_lake", "watch_feeds",
}


@pytest.fixture(scope="session")
def dag_bag(airflow_home):
    import cosmos.airflow.task_group
    import cosmos.converter  # noqa: F401 -- a DAG processor pays for it once, not with each parse
    from airflow.dag_processing.dagbag import DagBag

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bag = DagBag(PROJECT_ROOT / "dags")
    bag.caught = [str(each.message) for each in caught if str(PROJECT_ROOT / "dags") in each.filename
                  or str(PROJECT_ROOT / "plugins") in each.filename]
    return bag


def test_exactly_the_expected_dags_load_without_errors_or_warnings(dag_bag):
    assert dag_bag.import_errors == {}
    assert set(dag_bag.dags) == DAG_IDS
    assert dag_bag.caught == []


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_dag_says_what_it_is_for_and_is_named_after_its_file(dag_bag, dag_id):
    dag = dag_bag.dags[dag_id]
    assert Path(dag.fileloc).stem == dag_id
    for heading in ("Purpose", "Inputs", "Outputs", "When it fails"):
        assert f"**{heading}**" in dag.doc_md
    assert "cuff" in dag.tags
    assert len(dag.tags) > 1
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert timedelta() < dag.dagrun_timeout <= timedelta(hours=8)


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_every_task_has_owner_retries_time_limit_and_tells_of_its_failure(dag_bag, dag_id):
    for task in dag_bag.dags[dag_id].tasks:
        assert task.owner == "data-engineering", task.task_id
        if task.task_type == "DbtNodeOperator":
            assert task.start_trigger_args.timeout is not None
            continue  # the dbt task that it follows retries and alerts
        if task.task_id == "fail_build":
            continue  # it only closes the build whose failing task has alerted
        assert task.execution_timeout is not None, task.task_id
        assert [each.__qualname__ for each in task.on_failure_callback] == ["alert_on_failure"], task.task_id
        assert task.retries >= 1, task.task_id
        assert task.doc or task.doc_md or task.python_callable.__doc__, task.task_id


def names_in(condition):
    return {condition.name} if hasattr(condition, "name") else set().union(*map(names_in, condition.objects))


def test_dags_chain_by_assets_in_the_order_of_the_map(dag_bag):
    emitted = {dag_id: {outlet.name for task in dag.tasks for outlet in task.outlets}
               for dag_id, dag in dag_bag.dags.items()}
    awaited = {dag_id: names_in(dag.timetable.asset_condition)
               for dag_id, dag in dag_bag.dags.items() if getattr(dag.timetable, "asset_condition", None)}
    assert emitted == {
        "ingest_ehr_extracts": {"raw_landed"}, "build_warehouse": {"marts_published"},
        "materialize_features": {"features_materialized"}, "score_patients": {"patients_scored"},
        "monitor_drift": {"drift_detected"}, "retrain_model": {"champion_changed"}, "maintain_lake": set(),
        "watch_feeds": set(),
    }
    assert awaited == {
        "build_warehouse": {"raw_landed"}, "materialize_features": {"marts_published"},
        "score_patients": {"features_materialized", "champion_changed"}, "monitor_drift": {"patients_scored"},
        "retrain_model": {"drift_detected"},
    }


def test_nothing_carries_the_drift_or_champion_asset_without_a_short_circuit_before_it(dag_bag):
    for dag_id, task_id in (("monitor_drift", "announce_drift"), ("retrain_model", "announce_champion")):
        task = dag_bag.dags[dag_id].get_task(task_id)
        assert [each.task_type for each in task.upstream_list] == ["_ShortCircuitDecoratedOperator"]


def test_publishing_stands_behind_both_gates_and_every_dbt_model(dag_bag):
    dag = dag_bag.dags["build_warehouse"]
    before = dag.get_task("publish").get_flat_relative_ids(upstream=True)
    models = {task.task_id for task in dag.tasks if task.task_type == "DbtNodeOperator"}
    assert len(models) == 2
    assert {"gate_landed", "gate_marts", "finish_build", "run_dbt"} | models <= before
    dim = next(task for task in dag.tasks if "dim_patients" in task.task_id)
    assert any("stg_fhir__patients" in each for each in dim.upstream_task_ids)


def test_every_task_that_writes_the_lake_waits_for_the_one_slot(dag_bag):
    from pipeline_defaults import LAKE_WRITER_POOL

    pooled = {f"{dag_id}.{task.task_id}" for dag_id, dag in dag_bag.dags.items() for task in dag.tasks
              if task.pool == LAKE_WRITER_POOL}
    assert pooled == {
        "ingest_ehr_extracts.ingest_files", "build_warehouse.run_dbt", "build_warehouse.finish_build",
        "score_patients.score", "monitor_drift.check_drift", "monitor_drift.check_skew", "maintain_lake.expire_and_compact",
    }


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_dag_parses_in_under_a_second(dag_bag, dag_id):
    from airflow.dag_processing.dagbag import DagBag

    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy with other things
        started = time.perf_counter()
        DagBag(PROJECT_ROOT / "dags" / f"{dag_id}.py")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1


def test_heavy_libraries_stay_inside_the_tasks():
    heavy = re.compile(r"^(import|from) (catboost|evidently|feast|great_expectations|mlflow|pandas|ml|ehr|dbt)\b", re.M)
    for folder in ("dags", "plugins"):
        for path in (PROJECT_ROOT / folder).glob("*.py"):
            assert not heavy.search(path.read_text()), path.name
