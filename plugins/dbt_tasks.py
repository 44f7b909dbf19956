"""dbt as Airflow shows it: one task runs dbt, and every seed and model is a task of its own that follows it.

Cosmos draws the graph from dbt's manifest. The node tasks cost no process: they start and end in the triggerer
(`NodeFinished`), which reads the states that `run_dbt_build` keeps in one XCom while dbt works. So there is one writer,
the same `core.dbt.run_dbt` that the command line calls, and a retry simply runs dbt again.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, task
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from core.dbt import DBT_PROJECT_DIR, airflow_manifest, run_dbt
from core.errors import ConfigurationError
from core.publication import get_build
from core.settings import Settings, load_settings
from pipeline_defaults import LAKE_WRITER_POOL, LONG_TASK_LIMIT

NODE_STATES = "node_states"  # XCom key: dbt's unique_id -> its state
_DONE_WELL = frozenset({"success", "pass", "warn", "no-op", "partial success"})
_ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


@task(task_id="run_dbt", pool=LAKE_WRITER_POOL, execution_timeout=LONG_TASK_LIMIT)
def run_dbt_build(build_id: int, ti: Any = None) -> int:
    """`dbt build` in this process: seeds, models and their tests. Returns the build's number."""
    settings, states, pushing = load_settings(), {}, threading.Lock()

    def keep(unique_id: str, state: str) -> None:
        with pushing:  # dbt calls back from its own threads
            states[unique_id] = state
            ti.xcom_push(key=NODE_STATES, value=states)

    run_dbt(settings, "build", get_build(settings, build_id), on_node=keep)
    return build_id


class NodeFinished(BaseTrigger):
    """Waits for one dbt node. A state that is not good counts only once the dbt task has ended: it may be retried."""

    def __init__(self, unique_id: str, build_task_id: str, poll_seconds: float = 1.5) -> None:
        super().__init__()
        self.unique_id, self.build_task_id, self.poll_seconds = unique_id, build_task_id, poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "dbt_tasks.NodeFinished", {
            "unique_id": self.unique_id, "build_task_id": self.build_task_id, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        while True:
            # The end is asked for first: the last states are pushed before it.
            ended = await asyncio.to_thread(self._build_state) in _ENDED
            state = await asyncio.to_thread(self._node_state)
            if state in _DONE_WELL:
                yield TaskSuccessEvent()
                return
            if ended:
                self.log.error("dbt node %s: %s; the log of %s says why", self.unique_id, state, self.build_task_id)
                yield TaskFailedEvent()
                return
            await asyncio.sleep(self.poll_seconds)

    def _node_state(self) -> str | None:
        from airflow.sdk.execution_time.xcom import XCom

        ti = self.task_instance
        states = XCom.get_one(key=NODE_STATES, dag_id=ti.dag_id, task_id=self.build_task_id, run_id=ti.run_id)
        return (states or {}).get(self.unique_id)

    def _build_state(self) -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        ti = self.task_instance
        states = RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[self.build_task_id], run_ids=[ti.run_id])
        state = states.get(ti.run_id, {}).get(self.build_task_id)
        return str(state) if state is not None else None


class DbtNodeOperator(BaseOperator):
    """One seed or model of dbt, followed from the triggerer; never runs in a worker."""

    ui_color = "#ff694a"
    start_from_trigger = True

    def __init__(self, *, unique_id: str, build_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.unique_id, self.build_task_id = unique_id, build_task_id
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls="dbt_tasks.NodeFinished",
            trigger_kwargs={"unique_id": unique_id, "build_task_id": build_task_id},
            next_method="execute_complete",
            timeout=LONG_TASK_LIMIT + timedelta(minutes=10),
        )

    def execute(self, context: Any) -> None:
        """Only where a DAG runs without a scheduler (``dag.test()``)."""
        self.defer(trigger=NodeFinished(self.unique_id, self.build_task_id), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> None:
        """The trigger ends the task itself, so nothing is left to do."""


def dbt_nodes(settings: Settings, build_task_id: str) -> Any:
    """The task group ``warehouse``: every seed and model of the manifest, in dbt's order.

    Errors: `ConfigurationError` when the manifest has not been written.
    """
    from cosmos import DbtTaskGroup, ExecutionConfig, LoadMode, ProfileConfig, ProjectConfig, RenderConfig
    from cosmos.constants import DbtResourceType, SourceRenderingBehavior, TestBehavior

    manifest = airflow_manifest(settings)
    if not manifest.exists():
        raise ConfigurationError(f"{manifest} is missing; `cuff up` and `cuff demo` write it")

    def node_task(*, dag: Any, task_group: Any, node: Any, task_id: str, **_: Any) -> DbtNodeOperator:
        return DbtNodeOperator(
            dag=dag, task_group=task_group, task_id=task_id, unique_id=node.unique_id, build_task_id=build_task_id,
            # The dbt task retries and alerts; its nodes only show how far it came.
            retries=0, on_failure_callback=None, execution_timeout=None,
        )

    return DbtTaskGroup(
        group_id="warehouse",
        project_config=ProjectConfig(manifest_path=manifest, project_name="cuff"),
        profile_config=ProfileConfig(
            profile_name="cuff", target_name="lake", profiles_yml_filepath=DBT_PROJECT_DIR / "profiles.yml"),
        execution_config=ExecutionConfig(dbt_project_path=DBT_PROJECT_DIR),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            test_behavior=TestBehavior.NONE,
            source_rendering_behavior=SourceRenderingBehavior.NONE,
            node_converters=dict.fromkeys((DbtResourceType.MODEL, DbtResourceType.SEED), node_task),
        ),
    )
