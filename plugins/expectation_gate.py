"""A gate as a task: what must hold at a boundary, or the DAG stops there."""

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException


@task
def expectation_gate(suite: str, build_id: int | None) -> int:
    """Run one suite of `expectations` and return how many expectations it evaluated.

    A gate that does not hold fails at once, without retries: the same data would fail again.
    """
    from core.errors import GateError
    from core.settings import load_settings
    from expectations.gates import require, run_gate

    try:
        outcome = require(run_gate(load_settings(), suite, build_id))
    except GateError as error:
        raise AirflowFailException(str(error)) from None
    return outcome.evaluated
